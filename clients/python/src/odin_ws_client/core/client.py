"""The base class of both clients: iteration over items, subscriptions, positions, counters."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Self

from odin_ws_client.core.batch_queue import BatchQueue
from odin_ws_client.core.errors import ClientError
from odin_ws_client.core.items import Checkpoint, Item, Message, Subscribed, Unsubscribed
from odin_ws_client.core.offset_tracker import OffsetTracker
from odin_ws_client.core.reconnector import Reconnector
from odin_ws_client.core.requests import Request, RequestKind
from odin_ws_client.core.subscription import Subscription

__all__ = ["BaseClient"]


class BaseClient:
    """An async iterator over the Items of a connection that reconnects; made by `open_client`.

    `messages()` iterates over the messages only. The iteration ends when the client will not
    reconnect, and raises a ClientError if the cause is a failure. A cancelled wait loses no item.
    """

    def __init__(self, queue: BatchQueue, reconnector: Reconnector) -> None:
        self.error: ClientError | None = None
        """The failure after which the client will not reconnect."""
        self._batch: Iterator[Item | Checkpoint] = iter(())
        self._queue = queue
        # The positions of the items that the consumer has taken; the tracker of the reconnector has
        # the positions of the items received.
        self._offset_tracker: OffsetTracker = reconnector.subscriptions.tracker.copy()
        self._subscriptions = reconnector.subscriptions
        self._requests = reconnector.requests
        self._counts = reconnector.counts

    @property
    def positions(self) -> dict[str, dict[int, int]]:
        """`{topic: {partition: offset}}` of the items taken so far, for a later `open_client`.

        Empty before the first Subscribed.
        """
        return self._offset_tracker.positions()

    @property
    def ids(self) -> dict[str, str]:
        """`{topic: id}` for the topics of `positions`, for the same later `open_client`."""
        return self._offset_tracker.ids()

    def checkpoint(self) -> dict[str, Any]:
        """Return `positions` and `ids` as keyword arguments of `open_client`; JSON can store them.

        The checkpoint covers exactly the items taken so far.
        """
        return {"positions": self.positions, "ids": self.ids}

    @property
    def connections(self) -> int:
        """The number of connections on which a subscription took effect."""
        return self._counts.connections

    @property
    def duplicates(self) -> int:
        """The number of messages that were dropped because the client had received them before."""
        return self._counts.duplicates

    @property
    def gaps(self) -> int:
        """The number of missing sequence numbers.

        A missing message may be of any topic, so the client closes that connection and resumes.
        """
        return self._counts.gaps

    @property
    def skipped(self) -> int:
        """The number of messages that the server replaced by newer messages of the same channel."""
        return self._counts.skipped

    @property
    def lost(self) -> int:
        """The number of offsets that the server could not send any more: see Resumed."""
        return self._counts.lost

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """The current subscriptions, for a later `open_client` together with a checkpoint."""
        return self._subscriptions.subscriptions()

    async def subscribe(  # noqa: PLR0913 -- by name, as in Subscription
        self,
        *channels: str,
        topics: Iterable[str] = (),
        bundles: Iterable[str] = (),
        tokens: Iterable[str] = (),
        delivery: Literal["all", "latest"] | None = None,
        snapshot: bool = False,
        since_ms: int | None = None,
        max_rate: float | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> Subscribed:
        """Subscribe to more names on the live connection; return the server's answer.

        The options are those of Subscription; they replace the options of a name that is subscribed
        already. Without a connection the command waits for the next connection, and a command
        whose connection is lost before the answer is sent again.

        Raises:
            SubscriptionRejected: if the server rejects every name.
            ClientError: if there will be no answer.
        """
        wanted = Subscription(
            channels=channels,
            topics=topics,
            bundles=bundles,
            tokens=tokens,
            delivery=delivery,
            snapshot=snapshot,
            since_ms=since_ms,
            max_rate=max_rate,
            where=where,
        )
        result = await self._carry_out(RequestKind.SUBSCRIBE, wanted)
        assert isinstance(result, Subscribed)
        return result

    async def unsubscribe(
        self,
        *channels: str,
        topics: Iterable[str] = (),
        bundles: Iterable[str] = (),
        tokens: Iterable[str] = (),
    ) -> Unsubscribed:
        """Unsubscribe from names, as given to subscribe; return the server's answer.

        No message of these names is received after the answer; messages received before the answer
        may still be queued.

        Raises:
            SubscriptionRejected: if no name is subscribed.
            ClientError: if there will be no answer.
        """
        ended = Subscription(channels=channels, topics=topics, bundles=bundles, tokens=tokens)
        result = await self._carry_out(RequestKind.UNSUBSCRIBE, ended)
        assert isinstance(result, Unsubscribed)
        return result

    async def _carry_out(
        self, kind: RequestKind, subscription: Subscription
    ) -> Subscribed | Unsubscribed:
        has_result = self._queue.new_event()
        request = Request(kind, subscription, has_result.set)
        # The waiting task may be the task that takes the items, so the queue needs more room.
        with self._queue.response_awaited():
            self._requests.add(request)
            try:
                # The runner closes a connection without an answer; the request is then sent again.
                await has_result.wait()
            finally:
                self._requests.withdraw(request)
        if request.error is not None:
            raise request.error
        assert request.result is not None
        return request.result

    async def _receive(self) -> Sequence[Item | Checkpoint] | None:
        """Wait for the items of the next read and return them; None after the last."""
        return await self._queue.get()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        while True:
            # No await while the batch has items: a task switch costs more than parsing a message.
            for item in self._batch:
                self._offset_tracker.follow(item)
                if not isinstance(item, Checkpoint):
                    return item
            batch = await self._receive()
            if batch is None:
                if self.error is not None:
                    raise self.error
                raise StopAsyncIteration
            self._batch = iter(batch)

    def messages(self) -> AsyncIterator[Message]:
        """Iterate over the messages only; `lost` and `skipped` count the missing ones."""
        return _Messages(self)


class _Messages(AsyncIterator[Message]):
    """The iterator of `messages()`.

    Not an async generator: Python warns about a generator that is neither exhausted nor closed.
    """

    __slots__ = ("_client",)

    def __init__(self, client: BaseClient) -> None:
        self._client = client

    async def __anext__(self) -> Message:
        while True:
            item = await anext(self._client)
            if type(item) is Message:
                return item
