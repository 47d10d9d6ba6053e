"""What of the past can be had and what is lost are told exactly, offset by offset."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.history import ResumeCursor
from odin_ws.log_reader import Bounds, Span
from odin_ws.records import TopicPartition
from odin_ws.resume import LossReason, LostSpans
from odin_ws.resume.gaps import report_expired, report_unknown_positions

FIRST, SECOND, THIRD = (TopicPartition("odin.trades", number) for number in range(3))
SOCIAL = TopicPartition("odin.social", 0)
KEYS = [FIRST, SECOND, THIRD, SOCIAL]

Spans = Mapping[TopicPartition, Span]

# Where a client stands, how far it is to the hot tail, and where the log begins.
places = st.dictionaries(
    st.sampled_from(KEYS),
    st.tuples(st.integers(-1, 40), st.integers(1, 30), st.integers(0, 80) | st.none()),
    max_size=4,
)


def judge(
    starts: Mapping[TopicPartition, tuple[int, int]],
    firsts: Mapping[TopicPartition, int],
    maximum: int = 1000,
) -> tuple[ResumeCursor, LostSpans]:
    """Judge a client by its positions and the hot tail's floors, and the log by its oldest ones."""
    resume_cursor = ResumeCursor({"*.*": {key: position for key, (position, _) in starts.items()}})
    needed = {key: Span(position + 1, floor) for key, (position, floor) in starts.items()}
    bounds = {key: Bounds(first, 10_000) for key, first in firsts.items()}
    lost_spans = LostSpans()
    report_expired(resume_cursor, lost_spans, needed, bounds, maximum)
    return resume_cursor, lost_spans


def offsets(spans: Spans) -> set[tuple[TopicPartition, int]]:
    """Every single one of them."""
    return {
        (key, offset) for key, span in spans.items() for offset in range(span.first, span.last + 1)
    }


# ---- what the log no longer has, and what is too much


@given(places=places, maximum=st.sampled_from([0, 1, 2, 7, 20, 1000]))
def test_what_is_kept_and_what_is_lost_is_what_was_asked_for(
    places: dict[TopicPartition, tuple[int, int, int | None]], maximum: int
) -> None:
    """No offset is in both, none in neither; and what is kept is there, and not too much."""
    starts = {key: (position, position + gap) for key, (position, gap, _) in places.items()}
    firsts = {key: first for key, (_, _, first) in places.items() if first is not None}
    resume_cursor, lost_spans = judge(starts, firsts, maximum)
    asked = offsets({key: Span(position + 1, floor) for key, (position, floor) in starts.items()})
    positions = resume_cursor.positions()
    kept = offsets({key: Span(positions[key] + 1, floor) for key, (_, floor) in starts.items()})
    lost = offsets(lost_spans.spans)
    assert kept | lost == asked
    assert not kept & lost
    assert len(kept) <= maximum
    assert all(key in firsts and offset >= firsts[key] for key, offset in kept)
    assert bool(lost_spans.reasons) is bool(lost)
    # Newer than what is kept of a partition nothing is lost.
    assert all(span.last <= positions[key] for key, span in lost_spans.spans.items())
    there = {(key, offset) for key, offset in asked if key in firsts and offset >= firsts[key]}
    assert (LossReason.EXPIRED in lost_spans.reasons) is (there != asked)
    assert (LossReason.OVER_LIMIT in lost_spans.reasons) is (len(there) > maximum)
    if len(there) <= maximum:
        assert kept == there


@pytest.mark.parametrize(
    ("oldest", "lost", "position"),
    [
        (0, None, 4),
        (5, None, 4),
        (6, Span(5, 5), 5),
        (10, Span(5, 9), 9),
        (11, Span(5, 10), 10),
        (500, Span(5, 10), 10),
        (None, Span(5, 10), 10),
    ],
)
def test_what_the_log_has_deleted_is_expired(
    oldest: int | None, lost: Span | None, position: int
) -> None:
    """Position 4, and the hot tail has what comes after 10; None: there is no such partition."""
    resume_cursor, lost_spans = judge({FIRST: (4, 10)}, {} if oldest is None else {FIRST: oldest})
    assert lost_spans.spans == ({} if lost is None else {FIRST: lost})
    assert lost_spans.reason == (None if lost is None else LossReason.EXPIRED)
    assert resume_cursor.positions() == {FIRST: position}


@pytest.mark.parametrize(
    ("maximum", "lost", "positions"),
    [
        (30, {}, [-1, -1]),
        (29, {FIRST: Span(0, 5)}, [5, -1]),
        (20, {FIRST: Span(0, 9)}, [9, -1]),
        (8, {FIRST: Span(0, 15), SECOND: Span(0, 5)}, [15, 5]),
        (3, {FIRST: Span(0, 18), SECOND: Span(0, 8)}, [18, 8]),
        (1, {FIRST: Span(0, 19), SECOND: Span(0, 9)}, [19, 9]),
        (0, {FIRST: Span(0, 19), SECOND: Span(0, 9)}, [19, 9]),
    ],
)
def test_of_too_many_the_newest_are_kept_an_equal_share_of_each_partition(
    maximum: int, lost: Spans, positions: list[int]
) -> None:
    """20 and 10 records are asked for."""
    resume_cursor, lost_spans = judge(
        {FIRST: (-1, 19), SECOND: (-1, 9)}, {FIRST: 0, SECOND: 0}, maximum
    )
    assert lost_spans.spans == lost
    assert lost_spans.reason == (LossReason.OVER_LIMIT if lost else None)
    assert resume_cursor.positions() == dict(zip([FIRST, SECOND], positions, strict=True))


def test_what_is_expired_is_not_counted_among_too_many() -> None:
    """Only what could be read costs anything; both losses of a partition are told as one."""
    resume_cursor, lost_spans = judge(
        {FIRST: (-1, 19), SECOND: (-1, 9)}, {FIRST: 10, SECOND: 0}, 20
    )
    assert lost_spans.spans == {FIRST: Span(0, 9)}
    assert lost_spans.reasons == {LossReason.EXPIRED}
    resume_cursor, lost_spans = judge(
        {FIRST: (-1, 19), SECOND: (-1, 9)}, {FIRST: 10, SECOND: 0}, 10
    )
    assert lost_spans.spans == {FIRST: Span(0, 14), SECOND: Span(0, 4)}
    assert lost_spans.reasons == {LossReason.EXPIRED, LossReason.OVER_LIMIT}
    assert resume_cursor.positions() == {FIRST: 14, SECOND: 4}


# ---- what nobody ever had


def judge_ahead(
    position: int, live: int | None, bounds: Bounds | None
) -> tuple[ResumeCursor, LostSpans]:
    """Judge a client that is ahead of this instance."""
    resume_cursor = ResumeCursor({"*.*": {FIRST: position, SECOND: 3}})
    lost_spans = LostSpans()
    report_unknown_positions(
        resume_cursor,
        lost_spans,
        {FIRST: position},
        {FIRST: live}.get,
        {} if bounds is None else {FIRST: bounds},
    )
    return resume_cursor, lost_spans


def test_who_is_ahead_of_us_and_not_of_the_log_is_waited_for() -> None:
    """Another instance was faster: the log has what the client has."""
    resume_cursor, lost_spans = judge_ahead(9, 5, Bounds(0, 10))
    assert lost_spans.reason is None
    assert resume_cursor.positions() == {FIRST: 9, SECOND: 3}


@pytest.mark.parametrize("position", [10, 11, 10**9])
def test_who_is_ahead_of_the_log_has_another_ones_position(position: int) -> None:
    """It is told all that there is now, and goes on live."""
    resume_cursor, lost_spans = judge_ahead(position, 7, Bounds(2, 10))
    assert lost_spans.spans == {FIRST: Span(2, 7)}
    assert lost_spans.reason is LossReason.UNKNOWN_POSITION
    assert resume_cursor.positions() == {FIRST: 7, SECOND: 3}


def test_a_partition_that_is_gone_has_nothing() -> None:
    """The span is empty: it ends before it begins."""
    resume_cursor, lost_spans = judge_ahead(4, -1, None)
    assert lost_spans.spans == {FIRST: Span(0, -1)}
    assert resume_cursor.positions() == {FIRST: -1, SECOND: 3}


def test_a_partition_that_is_another_instances_is_not_judged() -> None:
    """It was given to another member of the group while the log was asked."""
    resume_cursor, lost_spans = judge_ahead(4, None, Bounds(0, 2))
    assert lost_spans.reason is None
    assert resume_cursor.positions() == {FIRST: 4, SECOND: 3}


# ---- losses


def test_what_is_lost_of_one_partition_stands_together() -> None:
    """By topic and partition, in order, from its first offset to its last."""
    lost_spans = LostSpans()
    lost_spans.add(LossReason.OVER_LIMIT, SECOND, Span(0, 4))
    lost_spans.add(LossReason.EXPIRED, FIRST, Span(3, 5))
    lost_spans.add(LossReason.EXPIRED, FIRST, Span(6, 9))
    lost_spans.unknown(SOCIAL, Span(0, -1))
    found = lost_spans.by_topic()
    assert found == {
        "odin.social": {0: Span(0, -1)},
        "odin.trades": {0: Span(3, 9), 1: Span(0, 4)},
    }
    assert [list(partitions) for partitions in found.values()] == [[0], [0, 1]]


def test_of_several_reasons_the_one_that_says_most_is_told() -> None:
    """A position nobody had comes before what is gone, and that before what is too much."""
    lost_spans = LostSpans()
    assert lost_spans.reason is None
    told: list[str | None] = []
    for reason in (
        LossReason.OVER_LIMIT,
        LossReason.EXPIRED,
        LossReason.UNKNOWN_POSITION,
    ):
        lost_spans.add(reason, FIRST, Span(0, 1))
        told.append(lost_spans.reason)
    assert told == ["too_many", "expired", "unknown_position"]
