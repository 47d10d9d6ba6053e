"""A bounded queue between the runner and the consumer, which can be closed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

from odin_ws_client.core.items import Checkpoint, Item

__all__ = ["BatchQueue", "Event"]

# Batches that wait for the consumer, each one read of the socket: 1 MiB of text at the very most.
_WAITING_BATCHES: Final = 16

# While the consumer waits for the answer to a command, it may take nothing: 16 MiB at the very
# most. The server sends an answer after at most 1 MiB of messages, unless a replay is under way.
_BATCHES_BEFORE_ANSWER: Final = 256


class Event(Protocol):
    """`trio.Event` and `asyncio.Event`."""

    def set(self) -> object:
        """Wake who waits."""
        ...

    def is_set(self) -> bool:
        """Whether it is."""
        ...

    async def wait(self) -> object:
        """Wait until it is set."""
        ...


class BatchQueue:
    """Batches of items in their order.

    Args:
        new_event: makes an event of the event loop.
        on_overflow: is called if the consumer waits for an answer, and nothing more fits.
        size: how many batches wait at the most.
        most: how many while the consumer waits for an answer.
    """

    def __init__(
        self,
        new_event: Callable[[], Event],
        on_overflow: Callable[[], None],
        *,
        size: int = _WAITING_BATCHES,
        most: int = _BATCHES_BEFORE_ANSWER,
    ) -> None:
        self.new_event = new_event
        self._on_overflow = on_overflow
        self._size, self._most = size, most
        self._batches: deque[Sequence[Item | Checkpoint]] = deque()
        self._has_room = new_event()
        self._has_news = new_event()
        self._awaited_answers = 0
        self._is_closed = False

    async def put(self, batch: Sequence[Item | Checkpoint]) -> None:
        """Add a batch; waits while there is no room."""
        while len(self._batches) >= (self._most if self._awaited_answers else self._size):
            if self._has_room.is_set():
                self._has_room = self.new_event()
            if self._awaited_answers:
                self._on_overflow()
            await self._has_room.wait()
        self._batches.append(batch)
        self._has_news.set()

    async def get(self) -> Sequence[Item | Checkpoint] | None:
        """The next batch; None after the last, once the queue is closed."""
        while not self._batches:
            if self._is_closed:
                return None
            if self._has_news.is_set():
                self._has_news = self.new_event()
            await self._has_news.wait()
        self._has_room.set()
        return self._batches.popleft()

    @contextmanager
    def answer_awaited(self) -> Iterator[None]:
        """Accept more items during the block: the answer may follow items that nobody takes."""
        self._awaited_answers += 1
        self._has_room.set()
        try:
            yield
        finally:
            self._awaited_answers -= 1

    def close(self) -> None:
        """Nothing will be added."""
        self._is_closed = True
        self._has_news.set()
