"""Random access to Kafka's log, for replays: bounds, offsets by time, reads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from typing import Final

import trio

from odin_ws.kafka.client import KafkaClient
from odin_ws.kafka.errors import KafkaUnavailable, error_text
from odin_ws.kafka.offset_queries import Offsets, list_offsets
from odin_ws.kafka.options import KafkaOptions
from odin_ws.kafka.protocol import (
    EARLIEST,
    LATEST,
    Metadata,
)
from odin_ws.kafka.span_read import (
    RETRY_SECONDS,
    TOPIC_DENIED,
    UNKNOWN_TOPIC,
    SpanRead,
    leaders_of,
    topic_error,
)
from odin_ws.log_reader import (
    NO_IDS,
    Bounds,
    LogUnavailable,
    PartitionsUnavailable,
    Span,
    TimePositions,
)
from odin_ws.records import Record, TopicPartition

__all__ = ["KafkaLogReader"]

# A broker that has just started may not know a topic yet: only lasting absence counts.
_MISSING_SECONDS: Final = 2.0

# An election takes seconds. A partition without an answer for this time begins without its past.
_FAILING_SECONDS: Final = 10.0

# A partition that failed within this time still counts as failing: nobody waits for it again.
_FAILED_RECENTLY_SECONDS: Final = 30.0

# A read whose batches are not taken for this time ends if others wait to read.
_UNTAKEN_SECONDS: Final = 2.0

# Reasons why a read ends early.
_STOPPED: Final = "the log reader has stopped"
_UNTAKEN: Final = "records were not taken while other reads waited"
_LEFT: Final = "the read was abandoned"

# Codes of topics whose partitions are those of the metadata: none, and a missing topic.
_CERTAIN: Final = {0, UNKNOWN_TOPIC}

# The source has not noticed yet that the topic is another log.
_RECREATED: Final = "the topic was recreated"

# The limit of Kafka's format.
_LAST_TIMESTAMP: Final = (1 << 63) - 1


class KafkaLogReader:
    """Reads spans of the log, at most `readings` at once. See LogReader."""

    def __init__(self, options: KafkaOptions, readings: int) -> None:
        self._bound = options.probe
        self._header_names = options.header_names
        self._client = KafkaClient(options.security, options.probe)
        self._slots = trio.CapacityLimiter(readings)
        self._current: set[SpanRead] = set()
        self._started = trio.Event()
        self._has_stopped = False
        # Topics that are missing for long, until they are seen again.
        self._absent: set[str] = set()
        # By partition or topic without positions of a time for long, when it failed last.
        self._failed_at: dict[TopicPartition | str, float] = {}

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
        for reading in sorted(self._current, key=lambda reading: reading.given_at):
            if waiting and reading.given_at < trio.current_time() - _UNTAKEN_SECONDS:
                self._end(reading, _UNTAKEN)
                waiting -= 1

    def _end(self, reading: SpanRead, reason: str) -> None:
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
        # A topic with an error exists, although the response may lack its partitions.
        unknown = _failures(metadata, topics)
        left_out = recreated | unknown.keys()
        there = {key for key in leaders.keys() & set(partitions) if key.topic not in left_out}
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
        others = {key: unknown[key.topic] for key in partitions if key.topic in unknown}
        others |= {key: _RECREATED for key in partitions if key.topic in recreated}
        if failed := {**firsts.failed, **ends.failed, **others}:
            raise PartitionsUnavailable(failed, found)
        return found

    async def positions_at(
        self, topics: Collection[str], timestamp: int, topic_ids: Mapping[str, str] = NO_IDS
    ) -> TimePositions:
        """See LogReader."""
        at = min(max(0, timestamp), _LAST_TIMESTAMP)
        give_up_at = trio.current_time() + _FAILING_SECONDS
        while True:
            metadata = await self.layout(topics)
            if recreated := _recreated(metadata, topic_ids):
                raise PartitionsUnavailable(
                    {TopicPartition(topic, 0): _RECREATED for topic in recreated}, {}
                )
            offsets = await self._offsets_at(leaders_of(metadata), at)
            topics_failed = _failures(metadata, topics)
            failing: set[TopicPartition | str] = {*offsets.failed}
            # A missing permission lasts: nobody waits for it.
            failing |= {
                name for name in topics_failed if topic_error(metadata, name) != TOPIC_DENIED
            }
            if failing and not offsets.found:
                reasons = {TopicPartition(name, 0): why for name, why in topics_failed.items()}
                raise PartitionsUnavailable(reasons | offsets.failed, {})
            if self._are_lasting(failing, give_up_at):
                break
            await trio.sleep(RETRY_SECONDS)
        found = {key: first - 1 for key, first in offsets.found.items() if first >= 0}
        return TimePositions(found, offsets.failed, topics_failed)

    async def _offsets_at(
        self, leaders: Mapping[TopicPartition, int | None], timestamp: int
    ) -> Offsets:
        """Request the first offsets of a time; of a log without timestamps, the first of all."""
        # The first record may be one that an open transaction holds back: it is live later.
        offsets = await list_offsets(
            self._client, dict.fromkeys(leaders, timestamp), leaders, committed=True
        )
        if offsets.undated:
            firsts = dict.fromkeys(offsets.undated, EARLIEST)
            undated = await list_offsets(self._client, firsts, leaders)
            offsets.found.update(undated.found)
            offsets.failed.update(undated.failed)
        return offsets

    def _are_lasting(self, failing: AbstractSet[TopicPartition | str], give_up_at: float) -> bool:
        """Return whether none of these failures is expected to end soon."""
        now = trio.current_time()
        earliest = now - _FAILED_RECENTLY_SECONDS
        recent = {key: at for key, at in self._failed_at.items() if at > earliest}
        are_lasting = failing <= recent.keys() or now >= give_up_at
        self._failed_at = recent | dict.fromkeys(
            failing if are_lasting else failing & recent.keys(), now
        )
        return are_lasting

    @asynccontextmanager
    async def read(
        self, spans: Mapping[TopicPartition, Span], topic_ids: Mapping[str, str] = NO_IDS
    ) -> AsyncIterator[AsyncIterator[Sequence[Record]]]:
        """See LogReader."""
        reading = SpanRead(
            self.layout, self._client, spans, topic_ids, self._bound, self._header_names
        )
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
            absent = {name for name in topics if topic_error(metadata, name) == UNKNOWN_TOPIC}
            there = leaders_of(metadata)
            self._absent.difference_update(set(topics) - absent)
            is_doubtful = not absent <= self._absent or any(
                key not in there and not topic_error(metadata, key.topic) for key in partitions
            )
            if not is_doubtful or trio.current_time() >= give_up_at:
                self._absent |= absent
                return metadata
            await trio.sleep(RETRY_SECONDS)

    async def _metadata(self, topics: Collection[str]) -> Metadata:
        if self._has_stopped:
            raise LogUnavailable(_STOPPED)
        try:
            return await self._client.metadata(sorted(topics))
        except KafkaUnavailable as failure:
            raise LogUnavailable(str(failure)) from failure


def _failures(metadata: Metadata, topics: Collection[str]) -> dict[str, str]:
    """Return the reasons by topic of topics that exist, but whose partitions are unknown now."""
    codes = {name: topic_error(metadata, name) for name in topics}
    return {name: error_text(code) for name, code in codes.items() if code not in _CERTAIN}


def _recreated(metadata: Metadata, topic_ids: Mapping[str, str]) -> set[str]:
    """Return the topics that have another id in the metadata."""
    return {
        name
        for name, topic in metadata.topics.items()
        if topic.topic_id is not None and topic_ids.get(name, topic.topic_id) != topic.topic_id
    }
