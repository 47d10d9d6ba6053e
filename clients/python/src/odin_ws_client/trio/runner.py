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
    """The loop that connects and reconnects, and puts the items of each read into `queue`."""

    connect: Connect
    """Opens the byte stream of a new connection."""
    reconnector: Reconnector
    """Decides whether and when to connect again."""
    queue: BatchQueue
    """The batches of items for the consumer."""

    async def run(self) -> None:
        """Connect and reconnect; return when the client will not reconnect.

        Raises:
            ClientError: if the client will not reconnect because of a failure.
        """
        while True:
            departure = await self._connect_once()
            await self.queue.put((departure.disconnected,))
            if departure.error is not None:
                raise departure.error
            if departure.disconnected.retry_in is None:
                return
            await trio.sleep(departure.disconnected.retry_in)

    def close(self, error: ClientError | None) -> None:
        """Close the queue, and reject the requests without an answer.

        Args:
            error: the failure that ended the client, if any.
        """
        self.queue.close()
        self.reconnector.requests.close(error)

    async def _connect_once(self) -> Departure:
        """Connect, serve the connection to its end, and return its outcome."""
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
        """Run `conversation` over `connection` to its end, with the application's requests."""

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
                # Back-pressure: while the queue is full nothing is read, so the TCP window closes
                # and the server's send queue for this client grows.
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
