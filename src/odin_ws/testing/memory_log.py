"""A partitioned log in memory, and what reads it: for tests, and for embedding."""

from __future__ import annotations

import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager
from zlib import crc32

import attrs
import trio
from trio_util import AsyncBool

from odin_ws.archive import ArchiveUnavailable, Bounds, RecordsExpired, Span
from odin_ws.kafka.base import PACING_SLOT
from odin_ws.kafka.feed import Feed, FeedStatus
from odin_ws.kafka.places import Places, history_starts
from odin_ws.rates import TokenBucket
from odin_ws.records import Batch, HistoryEnd, Item, Record, TopicPartition

__all__ = ["MemoryArchive", "MemoryLog", "MemorySource"]


@attrs.define
class _Partition:
    """The records that are left, and the offset of the first of them."""

    first: int = 0
    records: list[Record] = attrs.field(factory=list)

    @property
    def end(self) -> int:
        return self.first + len(self.records)


class MemoryLog:
    """Topics of `partitions` partitions each, with Kafka's offsets; kept until deleted."""

    def __init__(self, topics: Iterable[str], partitions: int = 12) -> None:
        self._partitions = partitions
        self._log = {
            TopicPartition(topic, number): _Partition()
            for topic in topics
            for number in range(partitions)
        }
        self._changed = trio.Event()

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
        there = self._log[TopicPartition(topic, partition)]
        at = int(time.time() * 1000) if timestamp is None else timestamp
        record = Record(topic, partition, there.end, at, key, value)
        there.records.append(record)
        self._change()
        return record

    def delete_before(self, topic: str, partition: int, offset: int) -> None:
        """Delete the records before `offset`, as retention does; the others keep their offsets.

        Raises ValueError where the partition does not reach that far.
        """
        there = self._log[TopicPartition(topic, partition)]
        if offset > there.end:
            raise ValueError(f"{topic} {partition} ends at {there.end}, before {offset}")
        there.records = there.records[max(0, offset - there.first) :]
        there.first = max(there.first, offset)
        self._change()

    def recreate(self, topic: str) -> None:
        """Delete a topic and make it anew: empty, with offsets from 0.

        As with Kafka, a reader knows of it by a position that the log does not have.
        """
        for key in self._log:
            if key.topic == topic:
                self._log[key] = _Partition()
        self._change()

    def bounds(self) -> dict[TopicPartition, Bounds]:
        """What each partition has."""
        return {key: Bounds(there.first, there.end) for key, there in self._log.items()}

    def ends(self) -> dict[TopicPartition, int]:
        """The offset of each partition's next record."""
        return {key: there.end for key, there in self._log.items()}

    def first_since(self, timestamp: int) -> dict[TopicPartition, int]:
        """The offset of each partition's first record of `timestamp` (epoch ms) or later."""
        found: dict[TopicPartition, int] = {}
        for key, there in self._log.items():
            young = (one.offset for one in there.records if one.timestamp >= timestamp)
            first = next(young, None)
            if first is not None:
                found[key] = first
        return found

    def read(self, positions: dict[TopicPartition, int], most: int | None) -> list[Record]:
        """Records from `positions` on, at most `most`; moves the positions past them."""
        found: list[Record] = []
        for key, start in positions.items():
            there = self._log[key]
            index = start - there.first
            stop = None if most is None else index + most - len(found)
            records = there.records[index:stop]
            found += records
            positions[key] = start + len(records)
        return found

    async def wait_beyond(self, positions: Mapping[TopicPartition, int]) -> None:
        """Wait until the ends are not at `positions`."""
        while self.ends() == positions:
            await self._changed.wait()

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class MemorySource:
    """Reads a MemoryLog from its end, at most `rate` records per second (0: any number).

    `history_seconds` and `history_records`: of what there is already, so much is read first.
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
        self.feed = Feed()
        self._log = log
        self._rate = rate
        self._batch = batch
        self._history_seconds = history_seconds
        self._history_records = history_records
        self._broker_there = AsyncBool(value=True)
        self._started = False

    def lose_broker(self, reason: str = "the broker is away") -> None:
        """From now on play a source whose broker is away: a feed that is not live, no records."""
        self._broker_there.value = False
        self._tell(reason)

    def find_broker(self) -> None:
        """The broker is back: go on where we stopped."""
        self._broker_there.value = True
        self._tell()

    async def run(self, outbox: trio.MemorySendChannel[Item]) -> None:
        """See Source."""
        places = Places()
        await self._broker_there.wait_value(bool)
        await outbox.send(places.begin(self._starts(), self._log.ends()))
        bucket = TokenBucket(self._rate, self._rate * PACING_SLOT, trio.current_time())
        while places.history:
            await self._read_some(places, outbox, self._batch)
            places.pass_history({})
        await outbox.send(HistoryEnd())
        self._started = True
        self._tell()
        while True:
            await self._log.wait_beyond(places.next)
            allowed = bucket.available(trio.current_time()) if self._rate else self._batch
            if allowed:
                bucket.spend(await self._read_some(places, outbox, min(self._batch, allowed)))
            spent = self._rate and not bucket.available(trio.current_time())
            self.feed.paced = bool(spent) and places.next != self._log.ends()
            if self.feed.paced:
                await trio.sleep(bucket.seconds_until_full())

    def _tell(self, reason: str = "") -> None:
        if not self._started:
            self.feed.become(FeedStatus.STARTING, reason)
        elif self._broker_there.value:
            self.feed.become(FeedStatus.LIVE)
        else:
            self.feed.become(FeedStatus.STALLED, reason)

    def _starts(self) -> dict[TopicPartition, int]:
        oldest = (time.time() - self._history_seconds) * 1000
        since = self._log.first_since(int(oldest)) if self._history_seconds else {}
        return history_starts(self._log.bounds(), since, self._history_records)

    async def _read_some(
        self, places: Places, outbox: trio.MemorySendChannel[Item], most: int
    ) -> int:
        """Hand on at most `most` records; returns how many it were."""
        while not self._broker_there.value:
            await self._broker_there.wait_value(bool)
        jumps = places.gone(self._log.bounds())
        if jumps:
            await outbox.send(places.assignment_after(jumps, places.next))
            self.feed.lost_records += sum(places.lost(key, to) for key, to in jumps.items())
            places.jump(jumps)
            return 0
        records = self._log.read(places.next, most)
        await outbox.send(Batch(records))
        return len(records)


class MemoryArchive:
    """A MemoryLog's past, as an Archive in batches of `batch` records at most.

    `seconds`: how long each batch takes. `records_read`: how many were read so far.
    """

    def __init__(self, log: MemoryLog, batch: int = 500, seconds: float = 0) -> None:
        self.batch = batch
        self.seconds = seconds
        self.records_read = 0
        self._log = log
        self._free = AsyncBool(value=True)
        self._failure: str | None = None
        self._failing: Collection[str] | None = None

    def hold(self) -> None:
        """From now on let all wait, also a reading that has begun: before its next batch."""
        self._free.value = False

    def release(self) -> None:
        """Let nobody wait any more."""
        self._free.value = True

    def fail(
        self, reason: str = "the broker is away", topics: Collection[str] | None = None
    ) -> None:
        """From now on raise ArchiveUnavailable, also out of a reading that has begun.

        `topics`: only for those who ask for one of these.
        """
        self._failure, self._failing = reason, topics

    def recover(self) -> None:
        """Answer again."""
        self._failure = None

    async def run(self) -> None:
        """See Archive: there is nothing to do."""
        await trio.sleep_forever()

    async def bounds(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Bounds]:
        """See Archive."""
        await self._turn({key.topic for key in partitions})
        return {key: has for key, has in self._log.bounds().items() if key in partitions}

    async def positions_at(
        self, topics: Collection[str], timestamp: int
    ) -> dict[TopicPartition, int]:
        """See Archive."""
        await self._turn(topics)
        found = self._log.first_since(timestamp)
        return {key: first - 1 for key, first in found.items() if key.topic in topics}

    @asynccontextmanager
    async def read(
        self, spans: Mapping[TopicPartition, Span]
    ) -> AsyncIterator[AsyncIterator[Sequence[Record]]]:
        """See Archive."""
        await self._turn({key.topic for key in spans})
        async with aclosing(self._batches(spans)) as batches:
            yield batches

    async def _batches(
        self, spans: Mapping[TopicPartition, Span]
    ) -> AsyncGenerator[Sequence[Record], None]:
        for key, (first, last) in spans.items():
            place = first
            while place <= last:
                await self._turn([key.topic])
                has = self._log.bounds().get(key)
                if has is None or not has.first <= place <= has.end:
                    raise RecordsExpired(f"{key.topic} {key.partition} has no offset {place}")
                if place == has.end:
                    # As it is with Kafka, where the wait for them is longer.
                    raise ArchiveUnavailable(f"no records come from {key.topic} {key.partition}")
                places = {key: place}
                records = self._log.read(places, min(self.batch, last + 1 - place))
                self.records_read += len(records)
                yield records
                place = places[key]

    async def _turn(self, topics: Collection[str]) -> None:
        while not self._free.value:
            await self._free.wait_value(bool)
        await trio.sleep(self.seconds)
        failing = self._failing
        if self._failure is not None and (failing is None or not set(failing).isdisjoint(topics)):
            raise ArchiveUnavailable(self._failure)
