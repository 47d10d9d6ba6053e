"""Runs the client: connects, passes bytes to the core and items to the consumer, reconnects."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import attrs

from odin_ws_client.asyncio.connection import Connect, Connection, open_streams
from odin_ws_client.asyncio.tokens import current_token, fetch_token
from odin_ws_client.core.batch_queue import BatchQueue
from odin_ws_client.core.conversation import Conversation
from odin_ws_client.core.errors import ClientError, ConnectFailed
from odin_ws_client.core.items import Checkpoint, Item
from odin_ws_client.core.reconnector import Departure, Reconnector

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
            await asyncio.sleep(departure.disconnected.retry_in)

    def close(self, error: ClientError | None) -> None:
        """Nothing will come any more; `error`: if that is not as it should be."""
        self.queue.close()
        self.reconnector.requests.close(error)

    async def _connect_once(self) -> Departure:
        """One connection, from the attempt to its end."""
        reconnector, seconds = self.reconnector, self.reconnector.timing.connect
        try:
            token = await current_token(reconnector.credentials, seconds)
            conversation = reconnector.begin(token, _now())
            streams = await open_streams(self.connect, seconds)
        except ConnectFailed as error:
            return reconnector.fail(error)
        async with Connection(streams, conversation) as connection, asyncio.TaskGroup() as group:
            await self._follow(conversation, connection, group)
        return reconnector.leave(conversation, _now())

    async def _follow(
        self, conversation: Conversation, connection: Connection, group: asyncio.TaskGroup
    ) -> None:
        """Until the conversation ends."""

        def send_requests() -> None:
            conversation.send_requests(_now())
            connection.write()

        with self.reconnector.requests.sent_by(send_requests):
            await self._exchange(conversation, connection, group)

    async def _exchange(
        self, conversation: Conversation, connection: Connection, group: asyncio.TaskGroup
    ) -> None:
        items: Sequence[Item | Checkpoint] = ()
        refresh: asyncio.Task[None] | None = None
        while True:
            await connection.flush()
            if items:
                # It waits while the consumer has enough: then nothing is read, and the server
                # notices.
                await self.queue.put(items)
            if conversation.end is not None:
                break
            if conversation.token_refresh_begins():
                refresh = group.create_task(self._refresh_token(conversation, connection))
            items = await connection.receive()
        if refresh is not None:
            refresh.cancel()

    async def _refresh_token(self, conversation: Conversation, connection: Connection) -> None:
        while (pause := conversation.token_pause(_now())) is not None:
            await asyncio.sleep(pause)
            token = await fetch_token(self.reconnector.credentials, self.reconnector.timing.connect)
            if conversation.offer_token(token):
                connection.write()
                return


def _now() -> float:
    return asyncio.get_running_loop().time()
