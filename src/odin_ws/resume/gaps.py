"""Gaps: the records after a client's positions that a replay cannot send, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum

import attrs

from odin_ws.history import ResumeCursor
from odin_ws.log_reader import Bounds, Span
from odin_ws.records import TopicPartition

__all__ = [
    "LossReason",
    "LostSpans",
    "report_expired",
    "report_truncated",
    "report_unknown_positions",
]


class LossReason(StrEnum):
    """The reason of a loss. If several apply, the client gets the first in this order."""

    RECREATED = "recreated"  # the topic was deleted and created again, with another id
    UNKNOWN_POSITION = "unknown_position"  # no such partition, or no such offset yet
    TRUNCATED = "truncated"  # an unclean leader election removed the records at the position
    EXPIRED = "expired"  # the log's retention deleted them
    NO_POSITION = "no_position"  # the client sent no position for the partition
    UNAVAILABLE = "unavailable"  # Kafka does not find the partition's records of `since_ms`
    OVER_LIMIT = "too_many"  # more than WS_MAX_REPLAY_RECORDS


@attrs.define
class LostSpans:
    """The lost spans of one replay, with the reasons."""

    spans: dict[TopicPartition, Span] = attrs.field(factory=dict)
    reasons: set[LossReason] = attrs.field(factory=set)

    def add(self, reason: LossReason, key: TopicPartition, span: Span) -> None:
        """Add a lost span; the spans of one partition become one that covers both.

        After a recreation the offsets of earlier spans name other records, so they are dropped.
        """
        known = None if reason is LossReason.RECREATED else self.spans.get(key)
        if known is None or known.last < known.first:
            self.spans[key] = span
        elif span.first <= span.last:
            self.spans[key] = Span(min(known.first, span.first), max(known.last, span.last))
        self.reasons.add(reason)

    def unknown(self, key: TopicPartition, span: Span) -> None:
        """Add the span behind a position that the log never had."""
        self.add(LossReason.UNKNOWN_POSITION, key, span)

    @property
    def reason(self) -> LossReason | None:
        """The reason that the client gets; None without lost spans."""
        return next((reason for reason in LossReason if reason in self.reasons), None)

    def by_topic(self) -> dict[str, dict[int, Span]]:
        """Return the spans as `{topic: {partition: span}}`."""
        found: dict[str, dict[int, Span]] = {}
        for key, span in sorted(self.spans.items()):
            found.setdefault(key.topic, {})[key.partition] = span
        return found


def report_unknown_positions(
    resume_cursor: ResumeCursor,
    lost_spans: LostSpans,
    ahead: Mapping[TopicPartition, int],
    live: Callable[[TopicPartition], int | None],
    bounds: Mapping[TopicPartition, Bounds],
) -> None:
    """Report positions beyond the log's end as lost: they belong to an earlier topic of the name.

    The client has no message of the present topic, and its position is of the earlier one. So the
    whole log counts as lost, and the client continues live.

    `ahead`: the client's positions that are ahead of this instance. `live`: returns the offset of
    the last live record of a partition; None if it is not read.
    """
    for key, offset in ahead.items():
        has = bounds.get(key, Bounds(0, 0))
        here = live(key)
        if offset >= has.end and here is not None:
            lost_spans.unknown(key, Span(has.first, here))
            resume_cursor.place(key, here)


def report_truncated(
    resume_cursor: ResumeCursor,
    lost_spans: LostSpans,
    ahead: Mapping[TopicPartition, int],
    bounds: Mapping[TopicPartition, Bounds],
    cut: Callable[[TopicPartition, int], Span | None],
) -> None:
    """Report positions that the log had before it was truncated.

    The client continues after the last of its records that is left.

    `ahead`: the client's positions that are ahead of this instance. `cut`: returns the truncated
    offsets up to a position; None if it was not truncated.
    """
    for key, offset in ahead.items():
        gone = cut(key, offset)
        if gone is not None and key in bounds and offset >= bounds[key].end:
            lost_spans.add(LossReason.TRUNCATED, key, gone)
            resume_cursor.place(key, gone.first - 1)


def report_expired(
    resume_cursor: ResumeCursor,
    lost_spans: LostSpans,
    needed: Mapping[TopicPartition, Span],
    bounds: Mapping[TopicPartition, Bounds],
    maximum: int,
) -> None:
    """Report the needed records that the log no longer has, and those over `maximum` in sum.

    Beyond `maximum` only the newest records are replayed, an equal share of each partition.
    """
    remaining: dict[TopicPartition, Span] = {}
    for key, span in needed.items():
        first = bounds[key].first if key in bounds else span.last + 1
        if first > span.first:
            gone = Span(span.first, min(first - 1, span.last))
            lost_spans.add(LossReason.EXPIRED, key, gone)
            resume_cursor.advance(key, gone.last)
        if first <= span.last:
            remaining[key] = Span(max(first, span.first), span.last)
    if sum(span.last - span.first + 1 for span in remaining.values()) > maximum:
        share = maximum // len(remaining)
        for key, span in remaining.items():
            last = span.last - share
            if last >= span.first:
                lost_spans.add(LossReason.OVER_LIMIT, key, Span(span.first, last))
                resume_cursor.advance(key, last)
