"""What a client is in every event loop: an iterator over items, subscriptions, positions."""

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
    """Iterate over it for every Item, or over `messages()`; get it from `open_client`.

    The iteration ends where the client will not come back; with a ClientError if that is not as it
    should be. Waiting can be cancelled, nothing is lost by that.
    """

    def __init__(self, queue: BatchQueue, reconnector: Reconnector) -> None:
        self.error: ClientError | None = None  # why it will not come back
        self._batch: Iterator[Item | Checkpoint] = iter(())
        self._queue = queue
        # It moves with what is taken; that of the reconnector moves with what is received.
        self._offset_tracker: OffsetTracker = reconnector.subscriptions.tracker.copy()
        self._subscriptions = reconnector.subscriptions
        self._requests = reconnector.requests
        self._counts = reconnector.counts

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

    def checkpoint(self) -> dict[str, Any]:
        """`positions` and `ids` as options of `open_client`; JSON keeps them.

        Between two items it covers exactly the items taken so far.
        """
        return {"positions": self.positions, "ids": self.ids}

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

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """The current subscriptions: for a later `open_client`, together with a checkpoint."""
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
        """Follow more on the live connection; returns the server's answer.

        The options are those of Subscription. If a name is followed already, its options are
        replaced. While there is no connection it waits for the next one, and if the connection is
        lost before the answer it is sent again. Raises SubscriptionRejected if the server rejects
        every name, and another ClientError if there will be no answer.
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
        """Follow less, by the names that were subscribed; returns the server's answer.

        Nothing of these names is received after that; what was received before may still wait to be
        taken. Raises SubscriptionRejected if no name is subscribed, and another ClientError if
        there will be no answer.
        """
        ended = Subscription(channels=channels, topics=topics, bundles=bundles, tokens=tokens)
        result = await self._carry_out(RequestKind.UNSUBSCRIBE, ended)
        assert isinstance(result, Unsubscribed)
        return result

    async def _carry_out(
        self, kind: RequestKind, subscription: Subscription
    ) -> Subscribed | Unsubscribed:
        answered = self._queue.new_event()
        request = Request(kind, subscription, answered.set)
        # The task that waits here may be the one that takes the items.
        with self._queue.answer_awaited():
            self._requests.add(request)
            try:
                # The connection is given up without an answer, and the request is sent again.
                await answered.wait()
            finally:
                self._requests.withdraw(request)
        if request.error is not None:
            raise request.error
        assert request.result is not None
        return request.result

    async def _receive(self) -> Sequence[Item | Checkpoint] | None:
        """The next batch of items, those of one read; None after the last."""
        return await self._queue.get()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        while True:
            # Where a batch is there, nothing is waited for: a task switch costs more than a parse.
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
        """Only the messages. What was lost or skipped is seen in the counts."""
        return _Messages(self)


class _Messages(AsyncIterator[Message]):
    """No generator: one that is left half-way has to be closed, or Python complains."""

    __slots__ = ("_client",)

    def __init__(self, client: BaseClient) -> None:
        self._client = client

    async def __anext__(self) -> Message:
        while True:
            item = await anext(self._client)
            if type(item) is Message:
                return item
