"""Random access to Kafka's log, for replays: bounds, offsets by time, reads."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio

from odin_ws.kafka.client import KafkaClient, Purpose
from odin_ws.kafka.errors import KafkaUnavailable, error_text
from odin_ws.kafka.offset_queries import list_offsets
from odin_ws.kafka.options import KafkaOptions
from odin_ws.kafka.protocol import (
    EARLIEST,
    LATEST,
    FetchedPartition,
    FetchFrom,
    FetchRequest,
    Metadata,
    TopicLayout,
)
from odin_ws.kafka.record_batches import read_batches
from odin_ws.log_reader import (
    NO_IDS,
    Bounds,
    LogUnavailable,
    PartitionsUnavailable,
    RecordsExpired,
    Span,
)
from odin_ws.records import Record, TopicPartition

__all__ = ["KafkaLogReader"]

# Decoding this many records blocks the loop for about 3 ms on a busy machine.
_BATCH_RECORDS: Final = 200

# Size limit of one response, compressed: it bounds the memory of a read.
_FETCH_BYTES: Final = 4 << 20
_PARTITION_BYTES: Final = 1 << 20
_LARGEST_PARTITION_BYTES: Final = 64 << 20

# A broker waits only at the end of the log: replays read older records.
_FETCH_SECONDS: Final = 0.1

# Interval between requests for leaders.
_RETRY_SECONDS: Final = 0.2

# A broker that has just started may not know a topic yet: only lasting absence counts.
_MISSING_SECONDS: Final = 2.0

# A read whose batches are not taken for this time ends if others wait to read.
_UNTAKEN_SECONDS: Final = 2.0

# Reasons why a read ends early.
_STOPPED: Final = "the log reader has stopped"
_UNTAKEN: Final = "records were not taken while other reads waited"
_LEFT: Final = "the read was abandoned"

# The source has not noticed yet that the topic is another log.
_RECREATED: Final = "the topic was recreated"

# KIP-227: the epoch of a fetch without a session.
_NO_SESSION: Final = 0
_NO_SESSION_EPOCH: Final = -1

# The limit of Kafka's format.
_LAST_TIMESTAMP: Final = (1 << 63) - 1

_OUT_OF_RANGE: Final = 1
_UNKNOWN_TOPIC: Final = 3
_TOPIC_DENIED: Final = 29
_LEADER_MOVED: Final = {3, 5, 6, 9, 74, 75, 100, 103}


class KafkaLogReader:
    """Reads spans of the log, at most `readings` at once. See LogReader."""

    def __init__(self, options: KafkaOptions, readings: int) -> None:
        self._bound = options.probe
        self._client = KafkaClient(options.security, options.probe)
        self._slots = trio.CapacityLimiter(readings)
        self._current: set[_Reading] = set()
        self._started = trio.Event()
        self._has_stopped = False
        # Topics that are missing for long, until they are seen again.
        self._absent: set[str] = set()

    async def run(self) -> None:
        """See LogReader."""
        try:
            async with self._client.running():
                self._started.set()
                while True:
                    await trio.sleep(_UNTAKEN_SECONDS / 4)
                    self._make_room()
        finally:
            self._has_stopped = True
            self._started.set()
            for reading in list(self._current):
                self._end(reading, _STOPPED)

    def _make_room(self) -> None:
        """End reads whose records are not taken, while others wait to read."""
        waiting = self._slots.statistics().tasks_waiting
        for reading in sorted(self._current, key=lambda one: one.given_at):
            if waiting and reading.given_at < trio.current_time() - _UNTAKEN_SECONDS:
                self._end(reading, _UNTAKEN)
                waiting -= 1

    def _end(self, reading: _Reading, reason: str) -> None:
        if reading in self._current:
            self._current.remove(reading)
            self._slots.release_on_behalf_of(reading)
            reading.over = reason

    async def bounds(
        self, partitions: Collection[TopicPartition], topic_ids: Mapping[str, str] = NO_IDS
    ) -> dict[TopicPartition, Bounds]:
        """See LogReader."""
        topics = {key.topic for key in partitions}
        metadata = await self.layout(topics, partitions)
        recreated = _recreated(metadata, topic_ids)
        leaders = leaders_of(metadata)
        there = {key for key in leaders.keys() & set(partitions) if key.topic not in recreated}
        firsts = await list_offsets(self._client, dict.fromkeys(there, EARLIEST), leaders)
        ends = await list_offsets(self._client, dict.fromkeys(firsts.found, LATEST), leaders)
        # Offsets are requested by topic name: a topic may have been recreated meanwhile.
        if there and not topic_ids.keys().isdisjoint(topics):
            recreated |= _recreated(await self._metadata(topics), topic_ids)
        found = {
            key: Bounds(firsts.found[key], end)
            for key, end in ends.found.items()
            if key.topic not in recreated
        }
        others = {key: _RECREATED for key in partitions if key.topic in recreated}
        if failed := {**firsts.failed, **ends.failed, **others}:
            raise PartitionsUnavailable(failed, found)
        return found

    async def positions_at(
        self, topics: Collection[str], timestamp: int, topic_ids: Mapping[str, str] = NO_IDS
    ) -> dict[TopicPartition, int]:
        """See LogReader."""
        metadata = await self.layout(topics)
        if recreated := _recreated(metadata, topic_ids):
            raise PartitionsUnavailable(
                {TopicPartition(topic, 0): _RECREATED for topic in recreated}, {}
            )
        at = min(max(0, timestamp), _LAST_TIMESTAMP)
        leaders = leaders_of(metadata)
        offsets = await list_offsets(self._client, dict.fromkeys(leaders, at), leaders)
        if offsets.failed:
            raise PartitionsUnavailable(offsets.failed, {})
        return {key: first - 1 for key, first in offsets.found.items() if first >= 0}

    @asynccontextmanager
    async def read(
        self, spans: Mapping[TopicPartition, Span], topic_ids: Mapping[str, str] = NO_IDS
    ) -> AsyncIterator[AsyncIterator[Sequence[Record]]]:
        """See LogReader."""
        reading = _Reading(self, spans, topic_ids, self._bound)
        await self._slots.acquire_on_behalf_of(reading)
        reading.given_at = trio.current_time()
        self._current.add(reading)
        try:
            if self._has_stopped:
                raise LogUnavailable(_STOPPED)
            yield reading
        finally:
            self._end(reading, _LEFT)

    async def layout(
        self, topics: Collection[str], partitions: Collection[TopicPartition] = ()
    ) -> Metadata:
        """Return the metadata of topics. Raises LogUnavailable.

        Requests missing topics and partitions again for some seconds.
        """
        await self._started.wait()
        give_up_at = trio.current_time() + _MISSING_SECONDS
        while True:
            metadata = await self._metadata(topics)
            absent = {name for name in topics if _error_of(metadata, name) == _UNKNOWN_TOPIC}
            there = leaders_of(metadata)
            self._absent.difference_update(set(topics) - absent)
            is_doubtful = not absent <= self._absent or any(
                key not in there and not _error_of(metadata, key.topic) for key in partitions
            )
            if not is_doubtful or trio.current_time() >= give_up_at:
                self._absent |= absent
                return metadata
            await trio.sleep(_RETRY_SECONDS)

    async def _metadata(self, topics: Collection[str]) -> Metadata:
        if self._has_stopped:
            raise LogUnavailable(_STOPPED)
        try:
            return await self._client.metadata(sorted(topics))
        except KafkaUnavailable as failure:
            raise LogUnavailable(str(failure)) from failure

    async def fetch(self, node: int, request: FetchRequest) -> Sequence[FetchedPartition]:
        """Fetch from a broker. Raises KafkaUnavailable."""
        response = await self._client.send(node, request, Purpose.FETCH, request.wait_seconds)
        if response.error:
            raise KafkaUnavailable(error_text(response.error))
        return response.partitions


class _Reading(AsyncIterator[Sequence[Record]]):
    """The records of some spans, in batches.

    `given_at`: when the last batch was returned; infinite while the next one is read.
    `over`: why the read ended early.
    """

    def __init__(
        self,
        reader: KafkaLogReader,
        spans: Mapping[TopicPartition, Span],
        topic_ids: Mapping[str, str],
        bound: float,
    ) -> None:
        self.given_at = -math.inf
        self.over: str | None = None
        self._reader = reader
        self._bound = bound
        self._left = {
            key: _Place(span.first, span.last)
            for key, span in spans.items()
            if span.first <= span.last
        }
        self._batches: deque[Sequence[Record]] = deque()
        self._metadata: Metadata | None = None
        self._topic_ids = dict(topic_ids)
        self._trouble: dict[TopicPartition, str] = {}
        self._progress_at = -math.inf

    async def __anext__(self) -> Sequence[Record]:
        # The broker's timeout excludes the wait for a slot and the wait for the caller.
        self._progress_at = trio.current_time()
        try:
            while not self._batches and self.over is None:
                if not self._left:
                    raise StopAsyncIteration
                self.given_at = math.inf
                await self._read_some()
        finally:
            self.given_at = trio.current_time()
        if self.over is not None:
            raise LogUnavailable(self.over)
        return self._batches.popleft()

    async def _read_some(self) -> None:
        """Fetch once from each leader. Raises RecordsExpired and LogUnavailable."""
        self._trouble = {}
        if self._metadata is None:
            await self._look_up()
        if self._metadata is not None:
            await self._fetch_all(self._metadata)
        if self._batches or not self._left:
            return
        if trio.current_time() - self._progress_at > self._bound:
            stuck = min(self._trouble or self._left)
            reason = self._trouble.get(stuck)
            raise LogUnavailable(
                f"no records come from {stuck.topic} {stuck.partition}"
                + ("" if reason is None else f": {reason}")
            )
        if self._trouble:
            self._metadata = None
            await trio.sleep(_RETRY_SECONDS)

    async def _look_up(self) -> None:
        """Request the leaders.

        Raises RecordsExpired, and LogUnavailable for missing permissions.
        """
        try:
            metadata = await self._reader.layout({key.topic for key in self._left}, self._left)
        except LogUnavailable as failure:
            self._trouble.update(dict.fromkeys(self._left, str(failure)))
            return
        for key in self._left:
            error = _error_of(metadata, key.topic)
            if error == _TOPIC_DENIED:
                raise LogUnavailable(f"{key.topic}: {error_text(error)}")
            if error == _UNKNOWN_TOPIC:
                raise _expired(key)
            topic = metadata.topics[key.topic]
            if error:
                self._trouble[key] = error_text(error)
            elif self._is_another(key.topic, topic) or key.partition not in topic.partitions:
                raise _expired(key)
        self._metadata = metadata

    def _is_another(self, name: str, topic: TopicLayout) -> bool:
        """Whether the topic was recreated after the caller's offsets or after the first request."""
        if topic.topic_id is None:
            return False
        return self._topic_ids.setdefault(name, topic.topic_id) != topic.topic_id

    async def _fetch_all(self, metadata: Metadata) -> None:
        leaders = leaders_of(metadata)
        by_leader: dict[int, list[TopicPartition]] = {}
        for key in self._left:
            leader = leaders.get(key)
            if leader is None:
                self._trouble.setdefault(key, "no leader")
            else:
                by_leader.setdefault(leader, []).append(key)
        for node, keys in by_leader.items():
            await self._fetch(node, keys, metadata)

    async def _fetch(self, node: int, keys: list[TopicPartition], metadata: Metadata) -> None:
        request = FetchRequest(
            _FETCH_SECONDS,
            1,
            max(_FETCH_BYTES, *(self._left[key].max_bytes for key in keys)),
            _NO_SESSION,
            _NO_SESSION_EPOCH,
            {
                key: FetchFrom(place.next, _epoch(metadata, key), place.max_bytes)
                for key in keys
                for place in (self._left[key],)
            },
            (),
            {key.topic: metadata.topics[key.topic].topic_id for key in keys},
        )
        try:
            partitions = await self._reader.fetch(node, request)
        except KafkaUnavailable as failure:
            self._trouble.update(dict.fromkeys(keys, str(failure)))
            self._metadata = None
            return
        for one in partitions:
            place = self._left.get(one.key)
            if place is not None:
                self._take(one, place)
                await trio.lowlevel.checkpoint()

    def _take(self, one: FetchedPartition, place: _Place) -> None:
        if one.error == _OUT_OF_RANGE and place.out_of_range_at == place.next:
            raise _expired(one.key)
        if one.error:
            # Brokers also respond so for a moment after a leader change: only the second time
            # counts.
            place.out_of_range_at = place.next if one.error == _OUT_OF_RANGE else None
            self._trouble[one.key] = error_text(one.error)
            if one.error in _LEADER_MOVED:
                self._metadata = None
            return
        if not one.data:
            return
        skip = place.corrupt_at == place.next
        found = read_batches(one.key, one.data, place.next, one.aborted, skip_corrupt=skip)
        if found.next_offset == place.next:
            # A corrupt batch may be intact the next time; a large one needs a larger fetch.
            place.corrupt_at = place.next if found.corrupt is not None else None
            if found.incomplete:
                place.max_bytes = min(2 * place.max_bytes, _LARGEST_PARTITION_BYTES)
            return
        self._progress_at = trio.current_time()
        place.next, place.max_bytes = found.next_offset, _PARTITION_BYTES
        records = [record for record in found.records if record.offset <= place.last]
        for begin in range(0, len(records), _BATCH_RECORDS):
            self._batches.append(records[begin : begin + _BATCH_RECORDS])
        # A broker fills its response in the order of the request: partitions left out go first.
        del self._left[one.key]
        if place.next <= place.last:
            self._left[one.key] = place


@attrs.define
class _Place:
    """The progress of reading one span."""

    next: int
    last: int
    max_bytes: int = _PARTITION_BYTES
    corrupt_at: int | None = None
    out_of_range_at: int | None = None


def _error_of(metadata: Metadata, name: str) -> int:
    topic = metadata.topics.get(name)
    return _UNKNOWN_TOPIC if topic is None else topic.error


def leaders_of(metadata: Metadata) -> dict[TopicPartition, int | None]:
    """Return the leader of each partition that exists."""
    return {
        TopicPartition(name, number): layout.leader
        for name, topic in metadata.topics.items()
        for number, layout in topic.partitions.items()
    }


def _recreated(metadata: Metadata, topic_ids: Mapping[str, str]) -> set[str]:
    """Return the topics that have another id in the metadata."""
    return {
        name
        for name, topic in metadata.topics.items()
        if topic.topic_id is not None and topic_ids.get(name, topic.topic_id) != topic.topic_id
    }


def _epoch(metadata: Metadata, key: TopicPartition) -> int:
    return metadata.topics[key.topic].partitions[key.partition].epoch


def _expired(key: TopicPartition) -> RecordsExpired:
    return RecordsExpired(f"{key.topic} {key.partition} no longer has the requested records")
