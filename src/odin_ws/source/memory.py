"""A partitioned log in memory and a source that reads it: for tests, and for embedding."""

from __future__ import annotations

import time
from collections.abc import Iterable
from zlib import crc32

import trio

from odin_ws.rates import TokenBucket
from odin_ws.records import Assignment, Batch, Record, TopicPartition
from odin_ws.source.base import PACING_SLOT
from odin_ws.source.feed import Feed, FeedStatus

__all__ = ["MemoryLog", "MemorySource"]


class MemoryLog:
    """Topics of `partitions` partitions each, with Kafka's offsets, kept for ever."""

    def __init__(self, topics: Iterable[str], partitions: int = 12) -> None:
        self._partitions = partitions
        self._records: dict[TopicPartition, list[Record]] = {
            TopicPartition(topic, number): [] for topic in topics for number in range(partitions)
        }
        self._grew = trio.Event()

    def append(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        partition: int | None = None,
        timestamp: int | None = None,
    ) -> Record:
        """Add a record; the key decides the partition unless one is given."""
        if partition is None:
            partition = crc32(key or b"") % self._partitions
        records = self._records[TopicPartition(topic, partition)]
        at = int(time.time() * 1000) if timestamp is None else timestamp
        record = Record(topic, partition, len(records), at, key, value)
        records.append(record)
        self._grew.set()
        self._grew = trio.Event()
        return record

    def ends(self) -> dict[TopicPartition, int]:
        """The offset of each partition's next record."""
        return {key: len(records) for key, records in self._records.items()}

    def read(self, positions: dict[TopicPartition, int], most: int | None) -> list[Record]:
        """Records from `positions` on, at most `most`; moves the positions past them."""
        found: list[Record] = []
        for key, start in positions.items():
            room = None if most is None else most - len(found)
            records = self._records[key][start : None if room is None else start + room]
            found += records
            positions[key] = start + len(records)
        return found

    async def wait_beyond(self, positions: dict[TopicPartition, int]) -> None:
        """Wait until there is a record that `positions` have not passed."""
        while self.ends() == positions:
            await self._grew.wait()


class MemorySource:
    """Reads a MemoryLog from its end, at most `rate` records per second (0: any number)."""

    def __init__(self, log: MemoryLog, rate: float = 0, batch: int = 500) -> None:
        self.feed = Feed()
        self._log = log
        self._rate = rate
        self._batch = batch

    async def run(self, outbox: trio.MemorySendChannel[Batch | Assignment]) -> None:
        """See Source."""
        positions = self._log.ends()
        await outbox.send(Assignment({key: end - 1 for key, end in positions.items()}))
        self.feed.become(FeedStatus.LIVE)
        bucket = TokenBucket(self._rate, self._rate * PACING_SLOT, trio.current_time())
        while True:
            await self._log.wait_beyond(positions)
            allowed = bucket.available(trio.current_time()) if self._rate else self._batch
            self.feed.paced = not allowed
            if not allowed:
                await trio.sleep(bucket.seconds_until_full())
                continue
            records = self._log.read(positions, min(self._batch, allowed))
            bucket.spend(len(records))
            await outbox.send(Batch(records))
