"""Ingest: records become messages, positions advance, gaps and invalid records are reported."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet

import structlog
import trio

from odin_ws.history.history import History
from odin_ws.history.record_decoder import InvalidRecord, RecordDecoder
from odin_ws.history.snapshot_cache import SnapshotCache
from odin_ws.hub.log_changes import OffsetGaps
from odin_ws.hub.stats import HubStats
from odin_ws.hub.stream import Stream
from odin_ws.log_reader import Span
from odin_ws.pattern import channel_name
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.records import Assignment, Batch, GapReason, Item, Record, TopicPartition

__all__ = ["Ingest"]

log = structlog.get_logger("odin_ws.hub")

# Interval of log lines per kind of invalid record: a broken publisher may send nothing else.
_REPORT_SECONDS = 30.0


class Ingest:
    """Takes records from the source, adds them to history, and advances the stream's positions.

    Args:
        before_assignment: called before positions change other than by records.
        on_offset_gaps: called with partitions that do not continue after their last record.
        on_moved: called with topics of partitions that were at another group member meanwhile.
        on_invalid_record: called with a new record that cannot be delivered, and the reason.
    """

    def __init__(  # noqa: PLR0913 -- its parts, and four callbacks
        self,
        stream: Stream,
        history: History,
        snapshots: SnapshotCache,
        max_record_bytes: int,
        *,
        before_assignment: Callable[[], None] | None = None,
        on_offset_gaps: Callable[[OffsetGaps], None] | None = None,
        on_moved: Callable[[AbstractSet[str]], None] | None = None,
        on_invalid_record: Callable[[Record, InvalidRecord], None] | None = None,
    ) -> None:
        self.stats = HubStats()
        self.stream = stream
        self.history = history
        self.snapshots = snapshots
        self._readers = {
            name: RecordDecoder(topic, max_record_bytes)
            for name, topic in stream.catalogue.topics.items()
        }
        self._before_assignment = before_assignment
        self._on_offset_gaps = on_offset_gaps
        self._on_moved = on_moved
        self._on_invalid_record = on_invalid_record
        self._next_report: dict[InvalidRecord, float] = {}

    def read(self, record: Record) -> ChannelMessage | None:
        """Return the message of a record, None if it is invalid."""
        content = self._readers[record.topic].read(record)
        return None if isinstance(content, InvalidRecord) else content[0]

    def token(self, record: Record) -> str | None:
        """Return the token of a record, None without one; does not decode the value."""
        token = self._readers[record.topic].token(record)
        return None if isinstance(token, InvalidRecord) else token

    def take(self, unread: deque[Item], deliver: Callable[[ChannelMessage], int], room: int) -> int:
        """Take the first item's records, up to `room` bytes; returns the bytes taken.

        New records go to `deliver`, which returns the bytes that each counts as: records without
        subscribers count little. Records beyond `room` stay in `unread`.
        """
        item = unread.popleft()
        if isinstance(item, Batch):
            size = self._take_batch(item, unread, deliver, room)
        else:
            size = 0
            if isinstance(item, Assignment):
                if self._before_assignment is not None:
                    self._before_assignment()
                self._assign(item)
            else:
                self.stream.history_loaded.set()
            self.stream.contiguous_since = self.stream.order
        self.stream.move()
        return size

    def _take_batch(
        self, batch: Batch, unread: deque[Item], deliver: Callable[[ChannelMessage], int], room: int
    ) -> int:
        records = batch.records
        size, count = self._take_records(records, deliver, room) if records else (0, 0)
        if count < len(records):
            unread.appendleft(Batch(records[count:], batch.passed))
        else:
            for key, offset in batch.passed.items():
                positions = self.stream.positions.get(key.topic, {})
                if offset > positions.get(key.partition, offset):
                    positions[key.partition] = offset
        return size

    def _take_records(
        self, records: Sequence[Record], deliver: Callable[[ChannelMessage], int], room: int
    ) -> tuple[int, int]:
        size = count = 0
        stream = self.stream
        now = trio.current_time()
        received, keep, remember = self.stats.received, self.history.keep, self.snapshots.remember
        reader, positions = self._of_topic(records[0].topic)
        for record in records:
            count += 1
            # Records of a partition are adjacent: their topic is looked up once.
            if record.topic != reader.topic.name:
                reader, positions = self._of_topic(record.topic)
            received[record.topic] += 1
            # History is remembered and not delivered; no record is delivered twice.
            is_news = record.offset > positions.get(record.partition, -1)
            if is_news:
                positions[record.partition] = record.offset
            content = reader.read(record)
            if not isinstance(content, tuple):
                self._skip_invalid(record, content)
                if is_news and self._on_invalid_record is not None:
                    self._on_invalid_record(record, content)
                continue
            message, event = content
            # Unknown types are delivered: a new event type must not need a new server.
            if event not in reader.topic.events:
                self.stats.unknown_types += 1
            stream.order += 1
            message.order = stream.order
            keep(message, now)
            remember(message)
            if is_news:
                size += deliver(message)
            else:
                stream.contiguous_since = stream.order
                size += len(message.value)
            if size >= room:
                break
        return size, count

    def _of_topic(self, topic: str) -> tuple[RecordDecoder, dict[int, int]]:
        """Return the decoder of a topic's records, and the positions of its partitions."""
        return self._readers[topic], self.stream.positions.setdefault(topic, {})

    def _assign(self, assignment: Assignment) -> None:
        stream = self.stream
        before = {
            TopicPartition(topic, partition): offset
            for topic, partitions in stream.positions.items()
            for partition, offset in partitions.items()
        }
        reasons = self._gap_reasons(before, assignment)
        unread = before.keys() - assignment.positions.keys()
        moved = self._moved(before, assignment, reasons) if assignment.partial else frozenset()
        if moved and self._on_moved is not None:
            self._on_moved({key.topic for key in moved})
        stream.is_partial = assignment.partial
        stream.positions = {}
        stream.partitions = frozenset(assignment.positions)
        for key, offset in assignment.positions.items():
            stream.positions.setdefault(key.topic, {})[key.partition] = offset
            if key in assignment.history:
                self.history.begin(key, assignment.history[key])
            elif key in reasons or before.get(key) != offset:
                self.history.begin(key, offset)
        for key in unread:
            self.history.drop(key)
        if unread and assignment.partial:
            stream.revoked_topics.value |= {key.topic for key in unread}
        for key in (assignment.positions.keys() - before.keys()) | (moved - unread):
            stream.changes.begin(key, assignment.positions[key])
        self._broadcast_offset_gaps(before, reasons)

    def _moved(
        self,
        before: Mapping[TopicPartition, int],
        assignment: Assignment,
        reasons: Mapping[TopicPartition, GapReason],
    ) -> AbstractSet[TopicPartition]:
        """Return the partitions whose subscribers must be closed before any later record.

        Another member may have read a partition between two assignments: the next record here does
        not follow the last one. The same holds if a partition returns before all subscribers of its
        topic are closed, and if it leaves again then.
        """
        now, closing = assignment.positions, self.stream.revoked_topics.value
        returned = {key for key in now.keys() ^ before.keys() if key.topic in closing}
        jumped = {key for key in now.keys() & before.keys() if now[key] != before[key]}
        return returned | (jumped - reasons.keys())

    def _gap_reasons(
        self, before: Mapping[TopicPartition, int], assignment: Assignment
    ) -> Mapping[TopicPartition, GapReason]:
        """Return the partitions that do not continue after their last record, and why."""
        now = assignment.positions
        reasons = {key: reason for key, reason in assignment.gaps.items() if key in now}
        # If the source reports resets of a topic, those of its other partitions will follow.
        named = {key.topic for key, why in reasons.items() if why is GapReason.RECREATED}
        # A group member continues where another one stopped: see `_moved`.
        for key in before.keys() & now.keys() if not assignment.partial else ():
            if key not in reasons and before[key] != now[key]:
                forward = before[key] < now[key]
                reasons[key] = GapReason.EXPIRED if forward else GapReason.RECREATED
        recreated = self.stream.changes.note_ids(assignment.topic_ids) - named
        return reasons | {key: GapReason.RECREATED for key in now if key.topic in recreated}

    def _broadcast_offset_gaps(
        self, before: Mapping[TopicPartition, int], reasons: Mapping[TopicPartition, GapReason]
    ) -> None:
        spans: dict[GapReason, dict[TopicPartition, Span]] = {}
        positions: dict[TopicPartition, int] = {}
        for key, reason in sorted(reasons.items()):
            old, new = before.get(key), self.stream.positions[key.topic][key.partition]
            span = self._apply_gap(key, reason, old, new)
            if span is not None:
                spans.setdefault(reason, {})[key] = span
                if reason is not GapReason.EXPIRED:
                    positions[key] = new
        if spans and self._on_offset_gaps is not None:
            topics = {key.topic for key in positions}
            self._on_offset_gaps(OffsetGaps(spans, positions, self.stream.ids_of(topics)))

    def _apply_gap(
        self, key: TopicPartition, reason: GapReason, old: int | None, new: int
    ) -> Span | None:
        """Apply one reset; returns the offsets to report, None if there are none.

        `old`: the position before; None if the partition was not read here.
        """
        if reason is GapReason.RECREATED:
            self.stream.changes.recreate(key, new)
            self.snapshots.forget_category(self.stream.catalogue.topics[key.topic].category)
            return Span(0, new)
        if reason is GapReason.TRUNCATED and old is not None and new < old:
            gone = Span(new + 1, old)
            self.stream.changes.truncate(key, gone)
            self.snapshots.forget_beyond(key, new)
            return gone
        if reason is GapReason.EXPIRED and old is not None and old < new:
            return Span(old + 1, new)
        return None

    def _skip_invalid(self, record: Record, reason: InvalidRecord) -> None:
        """Count an invalid record; logs one per reason and interval.

        A null value deletes its channel.
        """
        token = self.token(record)
        if reason is InvalidRecord.TOMBSTONE and token is not None:
            self.snapshots.forget(
                channel_name(token, self.stream.catalogue.topics[record.topic].category)
            )
        invalid_records = self.stats.invalid_records
        invalid_records[reason] += 1
        now = trio.current_time()
        if now >= self._next_report.get(reason, -math.inf):
            self._next_report[reason] = now + _REPORT_SECONDS
            log.warning(
                "skipped invalid record",
                reason=reason,
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                so_far=invalid_records[reason],
            )
