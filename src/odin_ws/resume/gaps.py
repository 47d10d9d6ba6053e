"""Judgement of where a client wants to begin: the records to be had, and those lost."""

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
    """Why records cannot be had; the first of them is told where there are several."""

    RECREATED = "recreated"  # the topic was deleted and created again: it has another id
    UNKNOWN_POSITION = "unknown_position"  # no such partition, or it never was that far
    TRUNCATED = "truncated"  # the position is one that an unclean leader election took back
    EXPIRED = "expired"  # the log's retention took them
    NO_POSITION = "no_position"  # the client named no position there
    RATE_LIMIT_REJECTIONS = "too_many"  # more than one replay may read


@attrs.define
class LostSpans:
    """The spans lost so far, and the reason."""

    spans: dict[TopicPartition, Span] = attrs.field(factory=dict)
    reasons: set[LossReason] = attrs.field(factory=set)

    def add(self, reason: LossReason, key: TopicPartition, span: Span) -> None:
        """Lose some more; the losses of one partition become one span."""
        known = self.spans.get(key)
        self.spans[key] = span if known is None else Span(known.first, span.last)
        self.reasons.add(reason)

    def unknown(self, key: TopicPartition, span: Span) -> None:
        """A position that nobody ever had."""
        self.add(LossReason.UNKNOWN_POSITION, key, span)

    @property
    def reason(self) -> LossReason | None:
        """The one that is told."""
        return next((reason for reason in LossReason if reason in self.reasons), None)

    def by_topic(self) -> dict[str, dict[int, Span]]:
        """`{topic: {partition: span}}`."""
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
    """Judge positions ahead of ours: those beyond the log's end belong to another life of a topic.

    Nothing that it has now was given to the client; it is not known what the client wants of it.
    So it is told of what there is, and goes on live.
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
    """Judge positions beyond the log's end that the log once had, before a truncation.

    `cut` gives the truncated offsets up to a position. The client goes on behind what is left of
    what it had.
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
    """Lose from the spans needed what the log no longer has, and what is over `maximum` records.

    The newest of those are kept, an equal share of each partition.
    """
    left: dict[TopicPartition, Span] = {}
    for key, span in needed.items():
        first = bounds[key].first if key in bounds else span.last + 1
        if first > span.first:
            gone = Span(span.first, min(first - 1, span.last))
            lost_spans.add(LossReason.EXPIRED, key, gone)
            resume_cursor.advance(key, gone.last)
        if first <= span.last:
            left[key] = Span(max(first, span.first), span.last)
    if sum(span.last - span.first + 1 for span in left.values()) > maximum:
        share = maximum // len(left)
        for key, span in left.items():
            last = span.last - share
            if last >= span.first:
                lost_spans.add(LossReason.RATE_LIMIT_REJECTIONS, key, Span(span.first, last))
                resume_cursor.advance(key, last)
