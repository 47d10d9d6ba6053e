"""The queue of fetched partitions, from which the source takes records in even shares."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import attrs
import trio

from odin_ws.kafka.partition import OffsetReset, Partition
from odin_ws.records import Record, TopicPartition

__all__ = ["FetchedRecords", "ReadyQueue"]


@attrs.frozen
class FetchedRecords:
    """Fetched records, and offset resets after them."""

    records: Sequence[Record]
    """In offset order per partition."""
    cut_off: bool
    """True if more records are buffered."""
    resets: Mapping[TopicPartition, OffsetReset]
    passed: Mapping[TopicPartition, int]
    """By partition the offset after all taken records. Includes offsets without records:
    transaction markers and records removed by compaction."""


class ReadyQueue:
    """Partitions with records or resets to take, in the order of taking.

    The queue is true if it is not empty.
    """

    def __init__(self) -> None:
        self._partitions: deque[Partition] = deque()
        self._something = trio.Event()

    def __bool__(self) -> bool:
        return bool(self._partitions)

    async def wait(self) -> None:
        """Wait until a partition is added, or for `wake`."""
        self._something = trio.Event()
        await self._something.wait()

    def wake(self) -> None:
        """End a `wait` although the queue is empty."""
        self._something.set()

    def add(self, partition: Partition) -> None:
        """Put a partition at the end, unless it is in the queue."""
        if not partition.ready:
            partition.ready = True
            self._partitions.append(partition)
        self._something.set()

    def remove(self, partition: Partition) -> None:
        """Remove a partition from the queue, if present."""
        if partition.ready:
            self._partitions.remove(partition)

    def take(self, limit: int) -> FetchedRecords:
        """Take at most `limit` records, an even share of each partition's."""
        records: list[Record] = []
        resets: dict[TopicPartition, OffsetReset] = {}
        passed: dict[TopicPartition, int] = {}
        # Records after a reset are left for the next call: the hub gets the reset first.
        on_offset_gaps: list[Partition] = []
        share = max(1, limit // max(1, len(self._partitions)))
        while self._partitions and len(records) < limit:
            partition = self._partitions.popleft()
            partition.ready = False
            records += partition.take(min(share, limit - len(records)))
            reset = partition.take_reset()
            if reset is not None:
                resets[partition.key] = reset
                on_offset_gaps.append(partition)
                continue
            passed[partition.key] = partition.first_buffered - 1
            if partition.has_buffered:
                self.add(partition)
        for partition in on_offset_gaps:
            self.add(partition)
        return FetchedRecords(records, len(records) == limit, resets, passed)
