"""What a client is in every event loop: an iterator over items, positions, counters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Self

from odin_ws_client.core.errors import ClientError
from odin_ws_client.core.items import Checkpoint, Item, Message
from odin_ws_client.core.offset_tracker import OffsetTracker
from odin_ws_client.core.session import Counts

__all__ = ["BaseClient"]


class BaseClient(ABC):
    """Iterate over it for every Item, or over `messages()`; get it from `open_client`.

    The iteration ends where the client will not come back; with a ClientError if that is not as it
    should be. Waiting can be cancelled, nothing is lost by that.
    """

    def __init__(self, offset_tracker: OffsetTracker, counts: Counts) -> None:
        self.error: ClientError | None = None  # why it will not come back
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

    @abstractmethod
    async def _receive(self) -> Sequence[Item | Checkpoint] | None:
        """The next batch of items, those of one read; None after the last."""

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
