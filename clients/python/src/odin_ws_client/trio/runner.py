"""Runs the client: connects, passes bytes to the core and items to the consumer, reconnects."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import trio

from odin_ws_client.core.batch_queue import BatchQueue
from odin_ws_client.core.conversation import Conversation
from odin_ws_client.core.errors import ClientError, ConnectFailed
from odin_ws_client.core.items import Checkpoint, Item
from odin_ws_client.core.reconnector import Departure, Reconnector
from odin_ws_client.trio.connection import Connect, Connection, open_stream
from odin_ws_client.trio.tokens import current_token, fetch_token

__all__ = ["Runner"]


@attrs.define(eq=False)
class Runner:
    """Puts what comes into `queue`, each read of the socket as a batch."""

    connect: Connect
    reconnector: Reconnector
    queue: BatchQueue

    async def run(self) -> None:
        """Until coming back makes no sense. Raises ClientError where that is not as it should."""
        while True:
            departure = await self._connect_once()
            await self.queue.put((departure.disconnected,))
            if departure.error is not None:
                raise departure.error
            if departure.disconnected.retry_in is None:
                return
            await trio.sleep(departure.disconnected.retry_in)

    def close(self, error: ClientError | None) -> None:
        """Nothing will come any more; `error`: if that is not as it should be."""
        self.queue.close()
        self.reconnector.requests.close(error)

    async def _connect_once(self) -> Departure:
        """One connection, from the attempt to its end."""
        reconnector, seconds = self.reconnector, self.reconnector.timing.connect
        try:
            token = await current_token(reconnector.credentials, seconds)
            conversation = reconnector.begin(token, trio.current_time())
            stream = await open_stream(self.connect, seconds)
        except ConnectFailed as error:
            return reconnector.fail(error)
        async with (
            Connection(stream, conversation) as connection,
            trio.open_nursery() as nursery,
        ):
            await self._follow(conversation, connection, nursery)
            nursery.cancel_scope.cancel()
        return reconnector.leave(conversation, trio.current_time())

    async def _follow(
        self, conversation: Conversation, connection: Connection, nursery: trio.Nursery
    ) -> None:
        """Until the conversation ends."""

        def send_requests() -> None:
            conversation.send_requests(trio.current_time())
            connection.wake()

        with self.reconnector.requests.sent_by(send_requests):
            await self._exchange(conversation, connection, nursery)

    async def _exchange(
        self, conversation: Conversation, connection: Connection, nursery: trio.Nursery
    ) -> None:
        items: Sequence[Item | Checkpoint] = ()
        while True:
            await connection.flush()
            if items:
                # It waits while the consumer has enough: then nothing is read, and the server
                # notices.
                await self.queue.put(items)
            if conversation.end is not None:
                return
            if conversation.token_refresh_begins():
                nursery.start_soon(self._refresh_token, conversation, connection)
            items = await connection.receive()

    async def _refresh_token(self, conversation: Conversation, connection: Connection) -> None:
        while (pause := conversation.token_pause(trio.current_time())) is not None:
            await trio.sleep(pause)
            token = await fetch_token(self.reconnector.credentials, self.reconnector.timing.connect)
            if conversation.offer_token(token):
                connection.wake()
                return
