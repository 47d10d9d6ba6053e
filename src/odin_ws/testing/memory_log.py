"""A partitioned log in memory, and a source that reads it."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar
from zlib import crc32

import attrs
import trio
from trio_util import AsyncBool

from odin_ws.kafka.offset_tracker import OffsetTracker, history_starts
from odin_ws.kafka.source_protocol import PACING_SLOT
from odin_ws.kafka.source_status import SourceState, SourceStatus
from odin_ws.log_reader import Bounds
from odin_ws.records import (
    Assignment,
    Batch,
    GapReason,
    HistoryEnd,
    Item,
    Record,
    RecordHeaders,
    TopicPartition,
)
from odin_ws.token_bucket import TokenBucket

__all__ = ["MemoryLog", "MemorySource"]

_V = TypeVar("_V")


@attrs.define
class _Partition:
    """The records of a partition that are not deleted."""

    first: int = 0
    """The offset of the first record."""
    records: list[Record] = attrs.field(factory=list)
    cuts: list[int] = attrs.field(factory=list)
    """The offset of each truncation so far, in order of time."""

    @property
    def end(self) -> int:
        return self.first + len(self.records)


class MemoryLog:
    """Topics of `partitions` partitions each, with Kafka's offsets. Records stay until deleted.

    Attributes:
        ids: the id of each topic.
        changes: the number of changes that move a reader, besides new records: recreated
            topics, added and truncated partitions.
    """

    def __init__(self, topics: Iterable[str], partitions: int = 12) -> None:
        self.ids: dict[str, str] = {}
        self.changes = 0
        self._log: dict[TopicPartition, _Partition] = {}
        self._counts: Counter[str] = Counter()
        self._changed = trio.Event()
        for topic in topics:
            self.add_partitions(topic, partitions)

    def append(  # noqa: PLR0913 -- a record has that many fields
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        partition: int | None = None,
        timestamp: int | None = None,
        headers: RecordHeaders = (),
    ) -> Record:
        """Add a record; the key decides the partition unless one is given.

        `headers`: those that messages carry; the others are left out when Kafka's bytes are read.
        """
        if partition is None:
            partition = crc32(key or b"") % self._counts[topic]
        partition_log = self._log[TopicPartition(topic, partition)]
        at = int(time.time() * 1000) if timestamp is None else timestamp
        record = Record(topic, partition, partition_log.end, at, key, value, headers=headers)
        partition_log.records.append(record)
        self._change()
        return record

    def delete_before(self, topic: str, partition: int, offset: int) -> None:
        """Delete the records before `offset`, as retention does; other records keep their offsets.

        Raises:
            ValueError: the partition ends before `offset`.
        """
        partition_log = self._log[TopicPartition(topic, partition)]
        if offset > partition_log.end:
            raise ValueError(f"{topic} {partition} ends at {partition_log.end}, before {offset}")
        partition_log.records = partition_log.records[max(0, offset - partition_log.first) :]
        partition_log.first = max(partition_log.first, offset)
        self._change()

    def add_partitions(self, topic: str, count: int) -> None:
        """Add empty partitions to a topic; the first partitions create the topic."""
        self.ids.setdefault(topic, uuid.uuid4().hex)
        for _ in range(count):
            self._log[TopicPartition(topic, self._counts[topic])] = _Partition()
            self._counts[topic] += 1
        self.changes += 1
        self._change()

    def recreate(self, topic: str, partitions: int | None = None) -> None:
        """Delete a topic and create it again: empty, with offsets from 0 and another id.

        `partitions`: the new number of partitions; None: the same number.
        """
        count = self._counts.pop(topic)
        del self.ids[topic]
        for number in range(count):
            del self._log[TopicPartition(topic, number)]
        self.add_partitions(topic, count if partitions is None else partitions)

    def truncate(self, topic: str, partition: int, offset: int) -> None:
        """Delete the records from `offset` on, as an unclean leader election does.

        Records appended later have these offsets again.

        Raises:
            ValueError: the partition has no record at `offset`.
        """
        partition_log = self._log[TopicPartition(topic, partition)]
        if not partition_log.first <= offset < partition_log.end:
            raise ValueError(f"{topic} {partition} has no record {offset}")
        del partition_log.records[offset - partition_log.first :]
        partition_log.cuts.append(offset)
        self.changes += 1
        self._change()

    def cuts(self) -> dict[TopicPartition, int]:
        """Return the number of truncations so far, by partition."""
        return {key: len(partition_log.cuts) for key, partition_log in self._log.items()}

    def cuts_since(self, key: TopicPartition, count: int) -> Sequence[int]:
        """Return the offset of each truncation after the first `count` of a partition."""
        return self._log[key].cuts[count:]

    def bounds(self) -> dict[TopicPartition, Bounds]:
        """Return the first offset and the end of each partition."""
        return {
            key: Bounds(partition_log.first, partition_log.end)
            for key, partition_log in self._log.items()
        }

    def ends(self) -> dict[TopicPartition, int]:
        """Return the offset of each partition's next record."""
        return {key: partition_log.end for key, partition_log in self._log.items()}

    @property
    def records(self) -> list[Record]:
        """Return all records that are not deleted, by partition."""
        return [record for partition_log in self._log.values() for record in partition_log.records]

    def first_since(self, timestamp: int) -> dict[TopicPartition, int]:
        """Return each partition's first offset with a `timestamp` (epoch ms) or a later one."""
        found: dict[TopicPartition, int] = {}
        for key, partition_log in self._log.items():
            recent = (
                record.offset for record in partition_log.records if record.timestamp >= timestamp
            )
            first = next(recent, None)
            if first is not None:
                found[key] = first
        return found

    def read(self, positions: dict[TopicPartition, int], maximum: int | None) -> list[Record]:
        """Return records from `positions` on, at most `maximum`; moves the positions past them."""
        found: list[Record] = []
        for key, start in positions.items():
            partition_log = self._log[key]
            index = start - partition_log.first
            stop = None if maximum is None else index + maximum - len(found)
            records = partition_log.records[index:stop]
            found += records
            positions[key] = start + len(records)
        return found

    async def wait_changed(self) -> None:
        """Wait for the next record or change, or for a call of `wake`."""
        await self._changed.wait()

    def wake(self) -> None:
        """Wake all waiting readers, which then read again."""
        self._change()

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class MemorySource:
    """Reads a MemoryLog from its end, at most `rate` records per second (0: unlimited).

    Args:
        log: the log.
        rate: records per second; 0 for no limit.
        batch: maximum number of records per read.
        history_seconds: maximum age of the history that is read first.
        history_records: maximum number of its records.
    """

    def __init__(
        self,
        log: MemoryLog,
        rate: float = 0,
        batch: int = 500,
        *,
        history_seconds: float = 0,
        history_records: int = 0,
    ) -> None:
        self.status = SourceStatus()
        self._log = log
        self._rate = rate
        self._batch = batch
        self._history_seconds = history_seconds
        self._history_records = history_records
        self._broker_there = AsyncBool(value=True)
        self._started = False
        self._revoked: frozenset[TopicPartition] = frozenset()
        self._stopped_at: dict[TopicPartition, int] = {}
        # The state of the log at the last assignment.
        self._changes = 0
        self._assigned_without: frozenset[TopicPartition] = frozenset()
        self._ids: dict[str, str] = {}
        self._cuts: dict[TopicPartition, int] = {}

    def lose_broker(self, reason: str = "the broker is away") -> None:
        """Simulate the loss of the broker: the feed is not live, and no records arrive."""
        self._broker_there.value = False
        self._report(reason)

    def find_broker(self) -> None:
        """Restore the broker: reading continues where it stopped."""
        self._broker_there.value = True
        self._report()

    def begin_at(self, key: TopicPartition, offset: int) -> None:
        """Read a partition that is not read yet from `offset` on, and not from its beginning.

        So does an instance if the partition had no leader at the instance's start.
        """
        self._stopped_at[key] = offset

    def revoke(self, *topics: str) -> None:
        """Simulate a rebalance that assigns these topics to another member of the group."""
        revoked = {key for key in self._log.bounds() if key.topic in topics}
        self._revoked |= revoked
        self._log.wake()

    def reassign(self) -> None:
        """Reassign all topics: reading continues where it stopped, or at the first record left."""
        self._revoked = frozenset()
        self._log.wake()

    async def run(self, channel: trio.MemorySendChannel[Item]) -> None:
        """See Source."""
        offset_tracker = OffsetTracker()
        await self._broker_there.wait_value(bool)
        assignment = offset_tracker.begin(self._starts(), self._log.ends())
        await channel.send(self._noted(assignment, {}))
        bucket = TokenBucket(self._rate, self._rate * PACING_SLOT, trio.current_time())
        while offset_tracker.history:
            await self._read_some(offset_tracker, channel, self._batch)
            offset_tracker.pass_history({})
        await channel.send(HistoryEnd())
        self._started = True
        self._report()
        while True:
            await self._wait_beyond(offset_tracker.next)
            allowed = bucket.available(trio.current_time()) if self._rate else self._batch
            if allowed:
                bucket.spend(
                    await self._read_some(offset_tracker, channel, min(self._batch, allowed))
                )
            spent = self._rate and not bucket.available(trio.current_time())
            self.status.paced = bool(spent) and offset_tracker.next != self._owned(self._log.ends())
            if self.status.paced:
                await trio.sleep(bucket.seconds_until_full())

    async def _wait_beyond(self, positions: Mapping[TopicPartition, int]) -> None:
        """Wait for records, partitions or changes other than those at `positions`."""
        while (
            self._log.changes == self._changes
            and self._revoked == self._assigned_without
            and self._owned(self._log.ends()) == positions
        ):
            await self._log.wait_changed()

    def _owned(self, partitions: Mapping[TopicPartition, _V]) -> dict[TopicPartition, _V]:
        return {key: value for key, value in partitions.items() if key not in self._revoked}

    def _report(self, reason: str = "") -> None:
        if not self._started:
            self.status.transition(SourceState.STARTING, reason)
        elif self._broker_there.value:
            self.status.transition(SourceState.LIVE)
        else:
            self.status.transition(SourceState.STALLED, reason)

    def _starts(self) -> dict[TopicPartition, int]:
        oldest = (time.time() - self._history_seconds) * 1000
        since = self._log.first_since(int(oldest)) if self._history_seconds else {}
        return history_starts(self._log.bounds(), since, self._history_records)

    async def _read_some(
        self, offset_tracker: OffsetTracker, channel: trio.MemorySendChannel[Item], maximum: int
    ) -> int:
        """Deliver at most `maximum` records; returns their number."""
        while not self._broker_there.value:
            await self._broker_there.wait_value(bool)
        assignment = self._moved(offset_tracker)
        if assignment is not None:
            await channel.send(assignment)
            return 0
        records = self._log.read(offset_tracker.next, maximum)
        await channel.send(Batch(records))
        return len(records)

    def _moved(self, offset_tracker: OffsetTracker) -> Assignment | None:
        """Move `offset_tracker` after changes of the log; None if reading continues as before."""
        bounds = self._owned(self._log.bounds())
        gone = offset_tracker.next.keys() - bounds.keys()
        for key in gone:
            stopped_at = offset_tracker.next.pop(key)
            if key in self._revoked:
                self._stopped_at[key] = stopped_at
            offset_tracker.history.pop(key, None)
        reasons = {
            key: found
            for key in offset_tracker.next
            if (found := self._reset(key, offset_tracker, bounds))
        }
        new = {
            key: max(bounds_now.first, self._stopped_at.pop(key, bounds_now.first))
            for key, bounds_now in bounds.items()
            if key not in offset_tracker.next
        }
        if not (gone or reasons or new):
            # For example a truncation at an offset above the position.
            self._noted(Assignment({}), {})
            return None
        resets = {key: to for key, (_, to) in reasons.items()}
        for key, (reason, to) in reasons.items():
            if reason is GapReason.EXPIRED:
                self.status.lost_records += offset_tracker.lost(key, to)
            else:
                offset_tracker.history.pop(key, None)
        offset_tracker.next |= new
        assignment = offset_tracker.assignment_after(resets, offset_tracker.next)
        offset_tracker.reset(resets)
        return self._noted(assignment, {key: reason for key, (reason, _) in reasons.items()})

    def _reset(
        self,
        key: TopicPartition,
        offset_tracker: OffsetTracker,
        bounds: Mapping[TopicPartition, Bounds],
    ) -> tuple[GapReason, int] | None:
        """Return why reading does not continue at the position, and where it does."""
        position, bounds_now = offset_tracker.next[key], bounds[key]
        if self._ids.get(key.topic) != self._log.ids[key.topic]:
            return GapReason.RECREATED, bounds_now.first
        cut = min(self._log.cuts_since(key, self._cuts.get(key, 0)), default=position)
        if cut < position:
            return GapReason.TRUNCATED, max(cut, bounds_now.first)
        return (GapReason.EXPIRED, bounds_now.first) if position < bounds_now.first else None

    def _noted(
        self, assignment: Assignment, resets: Mapping[TopicPartition, GapReason]
    ) -> Assignment:
        """Return the assignment with ids and resets; later changes compare with it."""
        log = self._log
        self._changes, self._ids, self._cuts = log.changes, dict(log.ids), log.cuts()
        partial = bool(self._revoked or self._assigned_without)
        self._assigned_without = self._revoked
        return attrs.evolve(assignment, topic_ids=self._ids, gaps=resets, partial=partial)
