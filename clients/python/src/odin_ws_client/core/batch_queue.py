"""A bounded queue between the runner and the consumer, which can be closed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

from odin_ws_client.core.items import Checkpoint, Item

__all__ = ["BatchQueue", "Event"]

# Queued batches; each is one read of at most 64 KiB, so at most 1 MiB of text waits.
_WAITING_BATCHES: Final = 16

# Queued batches while the consumer waits for the answer to a command, and so may take no items: at
# most 16 MiB. The server sends an answer after at most 1 MiB of messages, unless a replay runs.
_BATCHES_BEFORE_RESPONSE: Final = 256


class Event(Protocol):
    """The interface that `trio.Event` and `asyncio.Event` have in common."""

    def set(self) -> object:
        """Set the event, and wake the tasks in `wait`."""
        ...

    def is_set(self) -> bool:
        """Return whether the event is set."""
        ...

    async def wait(self) -> object:
        """Wait until the event is set."""
        ...


class BatchQueue:
    """A FIFO queue of batches of items, with one producer and one consumer.

    Args:
        new_event: makes an event of the event loop.
        on_overflow: called if the queue is full while the consumer waits for an answer.
        size: the largest number of queued batches.
        most: the same while the consumer waits for an answer.
    """

    def __init__(
        self,
        new_event: Callable[[], Event],
        on_overflow: Callable[[], None],
        *,
        size: int = _WAITING_BATCHES,
        most: int = _BATCHES_BEFORE_RESPONSE,
    ) -> None:
        self.new_event = new_event
        self._on_overflow = on_overflow
        self._size, self._most = size, most
        self._batches: deque[Sequence[Item | Checkpoint]] = deque()
        self._has_room = new_event()
        self._has_news = new_event()
        self._awaited_responses = 0
        self._is_closed = False

    async def put(self, batch: Sequence[Item | Checkpoint]) -> None:
        """Add a batch; wait while the queue is full."""
        while len(self._batches) >= (self._most if self._awaited_responses else self._size):
            if self._has_room.is_set():
                self._has_room = self.new_event()
            if self._awaited_responses:
                self._on_overflow()
            await self._has_room.wait()
        self._batches.append(batch)
        self._has_news.set()

    async def get(self) -> Sequence[Item | Checkpoint] | None:
        """Wait for the next batch and return it; None after the last batch of a closed queue."""
        while not self._batches:
            if self._is_closed:
                return None
            if self._has_news.is_set():
                self._has_news = self.new_event()
            await self._has_news.wait()
        self._has_room.set()
        return self._batches.popleft()

    @contextmanager
    def response_awaited(self) -> Iterator[None]:
        """Allow `most` batches during the block: the answer may come behind items not yet taken."""
        self._awaited_responses += 1
        self._has_room.set()
        try:
            yield
        finally:
            self._awaited_responses -= 1

    def close(self) -> None:
        """Close the queue: `get` returns the remaining batches, then None."""
        self._is_closed = True
        self._has_news.set()
