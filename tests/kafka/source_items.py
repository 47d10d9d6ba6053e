"""What a source in memory hands on, item by item."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from odin_ws.records import Assignment, Batch, HistoryEnd, Item, Record, TopicPartition
from odin_ws.testing.memory_log import MemoryLog, MemorySource

__all__ = ["KEY", "TOPIC", "Reader", "fill", "reading"]

TOPIC = "odin.trades"
KEY = TopicPartition(TOPIC, 0)


class Reader:
    """The hub's end of a source's channel."""

    def __init__(self, receive: trio.MemoryReceiveChannel[Item]) -> None:
        self._receive = receive

    async def begin(self) -> Assignment:
        """The first assignment of a source without a history."""
        assignment = await self.assignment()
        await self.history_end()
        return assignment

    async def assignment(self) -> Assignment:
        """The next item, which is one."""
        item = await self._receive.receive()
        assert isinstance(item, Assignment)
        return item

    async def history_end(self) -> None:
        """The next item is the end of the history."""
        assert isinstance(await self._receive.receive(), HistoryEnd)

    async def batch(self) -> list[Record]:
        """The records of the next item, which is a batch."""
        item = await self._receive.receive()
        assert isinstance(item, Batch)
        return list(item.records)

    async def records(self, count: int) -> list[Record]:
        """The next records, which come in one batch or several."""
        found: list[Record] = []
        while len(found) < count:
            found += await self.batch()
        assert len(found) == count
        return found

    def batches(self) -> list[int]:
        """The sizes of the batches that are there now."""
        sizes: list[int] = []
        while True:
            try:
                item = self._receive.receive_nowait()
            except trio.WouldBlock:
                return sizes
            assert isinstance(item, Batch)
            sizes.append(len(item.records))


@asynccontextmanager
async def reading(source: MemorySource, capacity: float = 100) -> AsyncIterator[Reader]:
    """Run a source for the length of the block."""
    send, receive = trio.open_memory_channel[Item](capacity)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run, send)
        yield Reader(receive)
        nursery.cancel_scope.cancel()


def fill(log: MemoryLog, count: int, key: bytes = b"BTC") -> list[Record]:
    """Append records of one token."""
    return [log.append(TOPIC, key, b"{}") for _ in range(count)]
