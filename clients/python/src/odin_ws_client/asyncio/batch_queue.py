"""A bounded queue between the runner and the consumer, which can be closed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from odin_ws_client.core.items import Checkpoint, Item

__all__ = ["BatchQueue"]


class BatchQueue:
    """Batches of items in their order. asyncio.Queue can be closed from Python 3.13 on only.

    Args:
        size: how many batches wait at the most.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._batches: deque[Sequence[Item | Checkpoint]] = deque()
        self._has_room = asyncio.Event()
        self._has_news = asyncio.Event()
        self._is_closed = False

    async def put(self, batch: Sequence[Item | Checkpoint]) -> None:
        """Add a batch; waits while there is no room."""
        while len(self._batches) >= self._size:
            self._has_room.clear()
            await self._has_room.wait()
        self._batches.append(batch)
        self._has_news.set()

    async def get(self) -> Sequence[Item | Checkpoint] | None:
        """The next batch; None after the last, once the queue is closed."""
        while not self._batches:
            if self._is_closed:
                return None
            self._has_news.clear()
            await self._has_news.wait()
        self._has_room.set()
        return self._batches.popleft()

    def close(self) -> None:
        """Nothing will be added."""
        self._is_closed = True
        self._has_news.set()
