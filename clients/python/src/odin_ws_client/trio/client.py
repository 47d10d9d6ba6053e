"""The client: an async iterator over the messages and events of a subscription."""

from __future__ import annotations

import random
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final

import trio

from odin_ws_client.core.credentials import Credentials, CredentialSource
from odin_ws_client.core.errors import ClientError
from odin_ws_client.core.items import Checkpoint, Ids, Item, Message
from odin_ws_client.core.offset_tracker import GivenPositions, OffsetTracker
from odin_ws_client.core.session import Counts
from odin_ws_client.core.subscription import Subscription
from odin_ws_client.core.url import read_url
from odin_ws_client.trio.connection import Connect, dial
from odin_ws_client.trio.reconnector import Reconnector, Timing

__all__ = ["Client", "open_client"]

# Batches that wait for the consumer, each one read of the socket: 1 MiB of text at the very most.
_WAITING_BATCHES: Final = 16


class Client:
    """Iterate over it for every Item, or over `messages()`; get it from `open_client`.

    The iteration ends where the client will not come back; with a ClientError if that is not as it
    should be. Waiting can be cancelled, nothing is lost by that.
    """

    def __init__(
        self,
        received: trio.MemoryReceiveChannel[Sequence[Item | Checkpoint]],
        offset_tracker: OffsetTracker,
        counts: Counts,
    ) -> None:
        self.error: ClientError | None = None  # why it will not come back
        self._received = received
        self._batch: Iterator[Item | Checkpoint] = iter(())
        self._offset_tracker = offset_tracker
        self._counts = counts

    @property
    def positions(self) -> dict[str, dict[int, int]]:
        """`{topic: {partition: offset}}` of what was taken: to be given to `open_client` later.

        Empty before the first Subscribed.
        """
        return self._offset_tracker.positions()

    @property
    def ids(self) -> dict[str, str]:
        """The ids of the topics of `positions`: to be kept and given with them."""
        return self._offset_tracker.ids()

    @property
    def connections(self) -> int:
        """How many connections there were on which the subscription took effect."""
        return self._counts.connections

    @property
    def duplicates(self) -> int:
        """How many messages came that had come before; they are passed over."""
        return self._counts.duplicates

    @property
    def gaps(self) -> int:
        """How many sequence numbers did not come.

        What is missing may be any message, so the client leaves that connection and resumes.
        """
        return self._counts.gaps

    @property
    def skipped(self) -> int:
        """How many messages the server left out because newer ones took their place."""
        return self._counts.skipped

    @property
    def lost(self) -> int:
        """How many offsets the server could not bring any more: see Resumed."""
        return self._counts.lost

    def __aiter__(self) -> Client:
        return self

    async def __anext__(self) -> Item:
        while True:
            # Where a batch is there, nothing is waited for: a task switch costs more than a parse.
            for item in self._batch:
                self._offset_tracker.follow(item)
                if not isinstance(item, Checkpoint):
                    return item
            try:
                self._batch = iter(await self._received.receive())
            except trio.EndOfChannel:
                if self.error is not None:
                    raise self.error from None
                raise StopAsyncIteration from None

    def messages(self) -> AsyncIterator[Message]:
        """Only the messages. What was lost or skipped is seen in the counts."""
        return _Messages(self)


class _Messages(AsyncIterator[Message]):
    """No generator: one that is left half-way has to be closed, or Python complains."""

    __slots__ = ("_client",)

    def __init__(self, client: Client) -> None:
        self._client = client

    async def __anext__(self) -> Message:
        while True:
            item = await anext(self._client)
            if type(item) is Message:
                return item


def open_client(  # noqa: PLR0913 -- each has its usual value
    url: str,
    subscription: Subscription,
    *,
    token: CredentialSource | None = None,
    positions: GivenPositions | None = None,
    ids: Ids | None = None,
    reconnect: bool = True,
    connect_seconds: float = 10,
    silence_seconds: float = 10,
    backoff_base: float = 0.2,
    backoff_cap: float = 15,
    connect: Connect | None = None,
    tls: ssl.SSLContext | None = None,
    rng: random.Random | None = None,
) -> AbstractAsyncContextManager[Client]:
    """Follow `subscription` at `url` (ws: or wss:) for the length of the block.

    `token`: for a server that asks for one; or an async function that returns one, which is called
    for each attempt to connect, and when the server says that the last one is about to end. Where
    there is none to be had at the moment it raises OSError, or ConnectFailed.
    `positions`: resume from there, as Client.positions were earlier; `ids`: Client.ids of then, so
    that a topic that was deleted and created again is noticed. `reconnect`: come back after
    every end, and every failure to connect, that may pass; else the first one is the last.
    `connect_seconds`: for dialling and handshake together, and as many for a token.
    `silence_seconds`: after so long without a byte the server is asked whether it is there, and
    has as long to answer.
    `backoff_base`, `backoff_cap`: seconds that the wait before the first attempt, and before any,
    is shorter than. `connect`: dials instead of us. Raises InvalidUrl, InvalidCredential.
    """
    address = read_url(url)
    counts = Counts()
    send, received = trio.open_memory_channel[Sequence[Item | Checkpoint]](_WAITING_BATCHES)
    reconnector = Reconnector(
        connect=connect or partial(dial, address, tls),
        address=address,
        tokens=Credentials(token),
        subscription=subscription,
        reconnect=reconnect,
        timing=Timing(connect_seconds, silence_seconds, backoff_base, backoff_cap),
        rng=rng or random.Random(),  # noqa: S311 -- jitter, not a secret
        offset_tracker=OffsetTracker(positions, ids),
        counts=counts,
        channel=send,
    )
    return _following(Client(received, OffsetTracker(positions, ids), counts), reconnector)


@asynccontextmanager
async def _following(client: Client, reconnector: Reconnector) -> AsyncIterator[Client]:
    """Run the pump beside the block.

    The nursery does not see what the block raises, so that comes out as it is and not in a group.
    """
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(_run, client, reconnector)
        try:
            yield client
        finally:
            nursery.cancel_scope.cancel()
            # Only a bug in the pump is raised here; it has cancelled the block, and says why.
            await stack.aclose()


async def _run(client: Client, reconnector: Reconnector) -> None:
    with reconnector.channel:
        try:
            await reconnector.run()
        except ClientError as error:
            client.error = error
