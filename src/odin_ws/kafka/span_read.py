"""One read of spans of the log: fetches from their leaders until all is read."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from collections.abc import Set as AbstractSet
from typing import Final

import attrs
import trio

from odin_ws.kafka.broker_states import UNSEEN_SECONDS
from odin_ws.kafka.client import Brokers, Purpose
from odin_ws.kafka.errors import KafkaUnavailable, error_text
from odin_ws.kafka.protocol import (
    FetchedPartition,
    FetchFrom,
    FetchRequest,
    FetchResponse,
    Metadata,
    TopicLayout,
)
from odin_ws.kafka.record_batches import read_batches
from odin_ws.kafka.record_headers import NO_NAMES
from odin_ws.kafka.tail_gaps import is_tail_gap
from odin_ws.log_reader import LogUnavailable, RecordsExpired, Span
from odin_ws.records import Record, TopicPartition

__all__ = [
    "RETRY_SECONDS",
    "TOPIC_DENIED",
    "UNKNOWN_TOPIC",
    "SpanRead",
    "leaders_of",
    "topic_error",
]

# Decoding this many records blocks the loop for about 3 ms on a busy machine.
_BATCH_RECORDS: Final = 200

# Size limit of one response, compressed: it bounds the memory of a read.
_FETCH_BYTES: Final = 4 << 20
_PARTITION_BYTES: Final = 1 << 20
_LARGEST_PARTITION_BYTES: Final = 64 << 20

# A broker waits only at the end of the log: replays read older records.
_FETCH_SECONDS: Final = 0.1

# KIP-227: the epoch of a fetch without a session.
_NO_SESSION: Final = 0
_NO_SESSION_EPOCH: Final = -1

_OUT_OF_RANGE: Final = 1
_LEADER_MOVED: Final = {3, 5, 6, 9, 74, 75, 100, 103}

# Interval between requests for leaders.
RETRY_SECONDS: Final = 0.2

# Kafka's code for a topic that the broker does not know.
UNKNOWN_TOPIC: Final = 3

# Kafka's code for a missing permission to describe or read a topic.
TOPIC_DENIED: Final = 29


class SpanRead(AsyncIterator[Sequence[Record]]):
    """The records of some spans, in batches. Raises RecordsExpired and LogUnavailable."""

    def __init__(  # noqa: PLR0913, PLR0917 -- two are how to ask Kafka
        self,
        layout: Callable[[Collection[str], Collection[TopicPartition]], Awaitable[Metadata]],
        brokers: Brokers,
        spans: Mapping[TopicPartition, Span],
        topic_ids: Mapping[str, str],
        bound: float,
        header_names: AbstractSet[str] = NO_NAMES,
    ) -> None:
        self._header_names = header_names
        self.given_at = -math.inf
        """When the last batch was returned (Trio's clock); infinite while the next one is read."""
        self.over: str | None = None
        """Why the read ended early; None otherwise."""
        self._layout = layout
        self._brokers = brokers
        self._bound = bound
        self._left = {
            key: _Progress(span.first, span.last)
            for key, span in spans.items()
            if span.first <= span.last
        }
        self._batches: deque[Sequence[Record]] = deque()
        self._metadata: Metadata | None = None
        # True if brokers identify topics by name in fetches although the topics have ids.
        self._fetches_by_name = False
        self._topic_ids = dict(topic_ids)
        self._errors: dict[TopicPartition, str] = {}
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
        self._errors = {}
        if self._metadata is None:
            await self._look_up()
        if self._metadata is not None:
            await self._fetch_all(self._metadata)
        if not self._batches and self._metadata is not None:
            await self._pass_gaps(self._metadata)
        if self._batches or not self._left:
            return
        if trio.current_time() - self._progress_at > self._bound:
            stuck = min(self._errors or self._left)
            reason = self._errors.get(stuck)
            raise LogUnavailable(
                f"no records come from {stuck.topic} {stuck.partition}"
                + ("" if reason is None else f": {reason}")
            )
        if self._errors:
            self._metadata = None
            await trio.sleep(RETRY_SECONDS)

    async def _look_up(self) -> None:
        """Request the leaders.

        Raises RecordsExpired, and LogUnavailable for missing permissions.
        """
        try:
            metadata = await self._layout({key.topic for key in self._left}, self._left)
        except LogUnavailable as failure:
            self._errors.update(dict.fromkeys(self._left, str(failure)))
            return
        for key in self._left:
            error = topic_error(metadata, key.topic)
            if error == TOPIC_DENIED:
                raise LogUnavailable(f"{key.topic}: {error_text(error)}")
            if error == UNKNOWN_TOPIC:
                raise _expired(key)
            topic = metadata.topics[key.topic]
            if error:
                self._errors[key] = error_text(error)
            elif self._is_another(key.topic, topic) or key.partition not in topic.partitions:
                raise _expired(key)
        self._metadata = metadata
        self._mark_seen(self._left)

    def _is_another(self, name: str, topic: TopicLayout) -> bool:
        """Return whether the topic's id differs from the caller's, or from the first response's."""
        if topic.topic_id is None:
            return False
        return self._topic_ids.setdefault(name, topic.topic_id) != topic.topic_id

    async def _fetch_all(self, metadata: Metadata) -> None:
        leaders = leaders_of(metadata)
        by_leader: dict[int, list[TopicPartition]] = {}
        for key in self._left:
            leader = leaders.get(key)
            if leader is None:
                self._errors.setdefault(key, "no leader")
            else:
                by_leader.setdefault(leader, []).append(key)
        for node, keys in by_leader.items():
            await self._fetch(node, keys, metadata)

    def _mark_seen(self, keys: Iterable[TopicPartition]) -> None:
        """Note that a response has shown that these topics were not recreated."""
        now = trio.current_time()
        for key in keys:
            self._left[key].seen_at = now

    async def _fetch(self, node: int, keys: list[TopicPartition], metadata: Metadata) -> None:
        seen_at = min(self._left[key].seen_at for key in keys)
        if self._fetches_by_name and trio.current_time() > seen_at + UNSEEN_SECONDS:
            # The topic may have been recreated while nothing was read.
            self._metadata = None
            return
        request = FetchRequest(
            _FETCH_SECONDS,
            1,
            max(_FETCH_BYTES, *(self._left[key].max_bytes for key in keys)),
            _NO_SESSION,
            _NO_SESSION_EPOCH,
            {
                key: FetchFrom(progress.next, _epoch(metadata, key), progress.max_bytes)
                for key in keys
                for progress in (self._left[key],)
            },
            (),
            {key.topic: self._topic_ids.get(key.topic) for key in keys},
        )
        try:
            response = await self._send(node, request)
        except KafkaUnavailable as failure:
            self._errors.update(dict.fromkeys(keys, str(failure)))
            self._metadata = None
            return
        self._fetches_by_name |= any(request.topic_ids.values()) and not response.by_id
        self._mark_seen(keys)
        for fetched in response.partitions:
            progress = self._left.get(fetched.key)
            if progress is not None:
                self._apply(fetched, progress)
                await trio.lowlevel.checkpoint()

    async def _send(self, node: int, request: FetchRequest) -> FetchResponse:
        """Send a fetch. Raises KafkaUnavailable, also for an error of the whole response."""
        response = await self._brokers.send(node, request, Purpose.FETCH, request.wait_seconds)
        if response.error:
            raise KafkaUnavailable(error_text(response.error))
        return response

    def _apply(self, fetched: FetchedPartition, progress: _Progress) -> None:
        if fetched.error == _OUT_OF_RANGE and progress.out_of_range_at == progress.next:
            raise _expired(fetched.key)
        if fetched.error:
            # Brokers also send this error for a moment after a leader change: only the second
            # time counts.
            progress.out_of_range_at = progress.next if fetched.error == _OUT_OF_RANGE else None
            self._errors[fetched.key] = error_text(fetched.error)
            if fetched.error in _LEADER_MOVED or self._fetches_by_name:
                self._metadata = None
            return
        if not fetched.data:
            if progress.stable_end is None and fetched.last_stable_offset > progress.next:
                progress.stable_end = fetched.last_stable_offset
            return
        skip = progress.corrupt_at == progress.next
        found = read_batches(
            fetched.key,
            fetched.data,
            progress.next,
            fetched.aborted,
            skip_corrupt=skip,
            is_largest=progress.max_bytes == _LARGEST_PARTITION_BYTES,
            log_end=fetched.high_watermark,
            header_names=self._header_names,
        )
        if found.next_offset == progress.next:
            # A corrupt batch may be intact the next time; a large one needs a larger fetch.
            progress.corrupt_at = progress.next if found.corrupt is not None else None
            if found.incomplete and found.corrupt is None:
                progress.max_bytes = min(2 * progress.max_bytes, _LARGEST_PARTITION_BYTES)
            return
        self._progress_at = trio.current_time()
        self._move(fetched.key, progress, found.next_offset)
        records = [record for record in found.records if record.offset <= progress.last]
        for begin in range(0, len(records), _BATCH_RECORDS):
            self._batches.append(records[begin : begin + _BATCH_RECORDS])

    def _move(self, key: TopicPartition, progress: _Progress, offset: int) -> None:
        """Continue at an offset, unless that is after the span."""
        progress.next, progress.max_bytes, progress.stable_end = offset, _PARTITION_BYTES, None
        # A broker fills its response in the order of the request: partitions left out go first.
        del self._left[key]
        if progress.next <= progress.last:
            self._left[key] = progress

    async def _pass_gaps(self, metadata: Metadata) -> None:
        """Pass offsets at the ends of logs whose records compaction has removed."""
        leaders = leaders_of(metadata)
        for key, progress in list(self._left.items()):
            leader, end = leaders.get(key), progress.stable_end
            if end is None or leader is None:
                continue
            try:
                topic_id = self._topic_ids.get(key.topic)
                if await is_tail_gap(self._brokers, leader, key, progress.next, topic_id):
                    self._progress_at = trio.current_time()
                    self._move(key, progress, end)
            except KafkaUnavailable as failure:
                self._errors[key] = str(failure)


@attrs.define
class _Progress:
    """The progress of reading one span."""

    next: int
    """The next offset to read."""
    last: int
    """The last offset of the span."""
    max_bytes: int = _PARTITION_BYTES
    corrupt_at: int | None = None
    """The offset at which one fetch had a corrupt batch; a second one confirms it."""
    out_of_range_at: int | None = None
    """The offset at which one fetch was out of range; a second one confirms it."""
    seen_at: float = -math.inf
    """When a response last showed that the topic was not recreated (Trio's clock)."""
    stable_end: int | None = None
    """The last stable offset of the first response without a record at `next`."""


def topic_error(metadata: Metadata, name: str) -> int:
    """Return Kafka's code for a topic in the metadata."""
    topic = metadata.topics.get(name)
    return UNKNOWN_TOPIC if topic is None else topic.error


def leaders_of(metadata: Metadata) -> dict[TopicPartition, int | None]:
    """Return the leader of each partition that exists."""
    return {
        TopicPartition(name, number): layout.leader
        for name, topic in metadata.topics.items()
        for number, layout in topic.partitions.items()
    }


def _epoch(metadata: Metadata, key: TopicPartition) -> int:
    return metadata.topics[key.topic].partitions[key.partition].epoch


def _expired(key: TopicPartition) -> RecordsExpired:
    return RecordsExpired(f"{key.topic} {key.partition} no longer has the requested records")
