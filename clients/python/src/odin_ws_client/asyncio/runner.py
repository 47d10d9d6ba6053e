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
            await asyncio.sleep(departure.disconnected.retry_in)

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
        """Run `conversation` over `connection` to its end, with the application's requests."""

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
                # Back-pressure: while the queue is full nothing is read, so the TCP window closes
                # and the server's send queue for this client grows.
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
