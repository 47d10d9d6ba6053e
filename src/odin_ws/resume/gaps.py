"""Judgement of where a client wants to begin: the records to be had, and those lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum

import attrs

from odin_ws.history import Want
from odin_ws.log_reader import Bounds, Span
from odin_ws.records import TopicPartition

__all__ = ["Losses", "Reason", "judge_past", "judge_truncated", "judge_unknown"]


class Reason(StrEnum):
    """Why records cannot be had; the first of them is told where there are several."""

    RECREATED = "recreated"  # the topic was deleted and created again: it has another id
    UNKNOWN_POSITION = "unknown_position"  # no such partition, or it never was that far
    TRUNCATED = "truncated"  # the position is one that an unclean leader election took back
    EXPIRED = "expired"  # the log's retention took them
    NO_POSITION = "no_position"  # the client named no position there
    TOO_MANY = "too_many"  # more than one replay may read


@attrs.define
class Losses:
    """The spans lost so far, and the reason."""

    spans: dict[TopicPartition, Span] = attrs.field(factory=dict)
    reasons: set[Reason] = attrs.field(factory=set)

    def add(self, reason: Reason, key: TopicPartition, span: Span) -> None:
        """Lose some more; the losses of one partition become one span."""
        known = self.spans.get(key)
        self.spans[key] = span if known is None else Span(known.first, span.last)
        self.reasons.add(reason)

    def unknown(self, key: TopicPartition, span: Span) -> None:
        """A position that nobody ever had."""
        self.add(Reason.UNKNOWN_POSITION, key, span)

    @property
    def reason(self) -> Reason | None:
        """The one that is told."""
        return next((reason for reason in Reason if reason in self.reasons), None)

    def by_topic(self) -> dict[str, dict[int, Span]]:
        """`{topic: {partition: span}}`."""
        found: dict[str, dict[int, Span]] = {}
        for key, span in sorted(self.spans.items()):
            found.setdefault(key.topic, {})[key.partition] = span
        return found


def judge_unknown(
    want: Want,
    losses: Losses,
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
            losses.unknown(key, Span(has.first, here))
            want.place(key, here)


def judge_truncated(
    want: Want,
    losses: Losses,
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
            losses.add(Reason.TRUNCATED, key, gone)
            want.place(key, gone.first - 1)


def judge_past(
    want: Want,
    losses: Losses,
    needed: Mapping[TopicPartition, Span],
    bounds: Mapping[TopicPartition, Bounds],
    most: int,
) -> None:
    """Lose from the spans needed what the log no longer has, and what is over `most` records.

    The newest of those are kept, an equal share of each partition.
    """
    left: dict[TopicPartition, Span] = {}
    for key, span in needed.items():
        first = bounds[key].first if key in bounds else span.last + 1
        if first > span.first:
            gone = Span(span.first, min(first - 1, span.last))
            losses.add(Reason.EXPIRED, key, gone)
            want.advance(key, gone.last)
        if first <= span.last:
            left[key] = Span(max(first, span.first), span.last)
    if sum(span.last - span.first + 1 for span in left.values()) > most:
        share = most // len(left)
        for key, span in left.items():
            last = span.last - share
            if last >= span.first:
                losses.add(Reason.TOO_MANY, key, Span(span.first, last))
                want.advance(key, last)
