"""Which records a replay can bring and which are lost is reported exactly, offset by offset."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.history import ResumeCursor
from odin_ws.log_reader import Bounds, Span
from odin_ws.records import TopicPartition
from odin_ws.resume import LossReason, LostSpans
from odin_ws.resume.gaps import report_expired, report_truncated, report_unknown_positions

FIRST, SECOND, THIRD = (TopicPartition("odin.trades", number) for number in range(3))
SOCIAL = TopicPartition("odin.social", 0)
KEYS = [FIRST, SECOND, THIRD, SOCIAL]

Spans = Mapping[TopicPartition, Span]

# A client's position, the records between it and the history, and the log's first offset.
places = st.dictionaries(
    st.sampled_from(KEYS),
    st.tuples(st.integers(-1, 40), st.integers(1, 30), st.integers(0, 80) | st.none()),
    max_size=4,
)


def expired_of(
    starts: Mapping[TopicPartition, tuple[int, int]],
    firsts: Mapping[TopicPartition, int],
    maximum: int = 1000,
) -> tuple[ResumeCursor, LostSpans]:
    """Run `report_expired`; `starts` has position and history floor, `firsts` the log's offsets."""
    resume_cursor = ResumeCursor({"*.*": {key: position for key, (position, _) in starts.items()}})
    needed = {key: Span(position + 1, floor) for key, (position, floor) in starts.items()}
    bounds = {key: Bounds(first, 10_000) for key, first in firsts.items()}
    lost_spans = LostSpans()
    report_expired(resume_cursor, lost_spans, needed, bounds, maximum)
    return resume_cursor, lost_spans


def offsets(spans: Spans) -> set[tuple[TopicPartition, int]]:
    """Return every single offset of the spans."""
    return {
        (key, offset) for key, span in spans.items() for offset in range(span.first, span.last + 1)
    }


# ---- records that the log has deleted, and those over the limit


@given(places=places, maximum=st.sampled_from([0, 1, 2, 7, 20, 1000]))
def test_each_requested_offset_is_either_replayed_or_lost(
    places: dict[TopicPartition, tuple[int, int, int | None]], maximum: int
) -> None:
    """Replayed offsets are in the log, and not more than the limit."""
    starts = {key: (position, position + gap) for key, (position, gap, _) in places.items()}
    firsts = {key: first for key, (_, _, first) in places.items() if first is not None}
    resume_cursor, lost_spans = expired_of(starts, firsts, maximum)
    requested = offsets(
        {key: Span(position + 1, floor) for key, (position, floor) in starts.items()}
    )
    positions = resume_cursor.positions()
    kept = offsets({key: Span(positions[key] + 1, floor) for key, (_, floor) in starts.items()})
    lost = offsets(lost_spans.spans)
    assert kept | lost == requested
    assert not kept & lost
    assert len(kept) <= maximum
    assert all(key in firsts and offset >= firsts[key] for key, offset in kept)
    assert bool(lost_spans.reasons) is bool(lost)
    # Of each partition the newest records are replayed.
    assert all(span.last <= positions[key] for key, span in lost_spans.spans.items())
    there = {(key, offset) for key, offset in requested if key in firsts and offset >= firsts[key]}
    assert (LossReason.EXPIRED in lost_spans.reasons) is (there != requested)
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
def test_offsets_deleted_from_log_are_lost_as_expired(
    oldest: int | None, lost: Span | None, position: int
) -> None:
    """The position is 4 and the history begins after 10; None: the partition does not exist."""
    resume_cursor, lost_spans = expired_of(
        {FIRST: (4, 10)}, {} if oldest is None else {FIRST: oldest}
    )
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
def test_replay_over_limit_keeps_newest_in_equal_shares_per_partition(
    maximum: int, lost: Spans, positions: list[int]
) -> None:
    """The client requests 20 and 10 records."""
    resume_cursor, lost_spans = expired_of(
        {FIRST: (-1, 19), SECOND: (-1, 9)}, {FIRST: 0, SECOND: 0}, maximum
    )
    assert lost_spans.spans == lost
    assert lost_spans.reason == (LossReason.OVER_LIMIT if lost else None)
    assert resume_cursor.positions() == dict(zip([FIRST, SECOND], positions, strict=True))


def test_number_of_records_counts_to_limit_and_not_their_offsets() -> None:
    """15 and 3 records are less than 20, though a half of 20 is less than 15."""
    starts = {FIRST: (9, 24), SECOND: (9, 12)}
    resume_cursor, lost_spans = expired_of(starts, {FIRST: 0, SECOND: 0}, 20)
    assert lost_spans.spans == {}
    assert resume_cursor.positions() == {FIRST: 9, SECOND: 9}


def test_expired_offsets_do_not_count_to_limit() -> None:
    """Both losses of a partition are reported as one span."""
    resume_cursor, lost_spans = expired_of(
        {FIRST: (-1, 19), SECOND: (-1, 9)}, {FIRST: 10, SECOND: 0}, 20
    )
    assert lost_spans.spans == {FIRST: Span(0, 9)}
    assert lost_spans.reasons == {LossReason.EXPIRED}
    resume_cursor, lost_spans = expired_of(
        {FIRST: (-1, 19), SECOND: (-1, 9)}, {FIRST: 10, SECOND: 0}, 10
    )
    assert lost_spans.spans == {FIRST: Span(0, 14), SECOND: Span(0, 4)}
    assert lost_spans.reasons == {LossReason.EXPIRED, LossReason.OVER_LIMIT}
    assert resume_cursor.positions() == {FIRST: 14, SECOND: 4}


# ---- positions that the log does not have


def unknown_positions_of(
    position: int, live: int | None, bounds: Bounds | None
) -> tuple[ResumeCursor, LostSpans]:
    """Run `report_unknown_positions` for a client that is ahead of this instance."""
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


def test_position_ahead_of_instance_but_within_log_is_kept() -> None:
    """Another instance was faster: the log has what the client received."""
    resume_cursor, lost_spans = unknown_positions_of(9, 5, Bounds(0, 10))
    assert lost_spans.reason is None
    assert resume_cursor.positions() == {FIRST: 9, SECOND: 3}


@pytest.mark.parametrize("position", [10, 11, 10**9])
def test_position_ahead_of_log_is_unknown_position(position: int) -> None:
    """All records of the log are reported as lost, and the client continues live."""
    resume_cursor, lost_spans = unknown_positions_of(position, 7, Bounds(2, 10))
    assert lost_spans.spans == {FIRST: Span(2, 7)}
    assert lost_spans.reason is LossReason.UNKNOWN_POSITION
    assert resume_cursor.positions() == {FIRST: 7, SECOND: 3}


def test_position_in_missing_partition_is_lost_with_empty_span() -> None:
    """The span ends before it begins."""
    resume_cursor, lost_spans = unknown_positions_of(4, -1, None)
    assert lost_spans.spans == {FIRST: Span(0, -1)}
    assert resume_cursor.positions() == {FIRST: -1, SECOND: 3}


def test_partition_assigned_to_another_instance_is_not_reported() -> None:
    """The consumer group moved it away while the log reader was fetching its bounds."""
    resume_cursor, lost_spans = unknown_positions_of(4, None, Bounds(0, 2))
    assert lost_spans.reason is None
    assert resume_cursor.positions() == {FIRST: 4, SECOND: 3}


# ---- positions that the log had before it was truncated


@pytest.mark.parametrize(
    ("bounds", "cut", "lost", "position"),
    [
        # The log ends before the position: what it had from the cut on is gone.
        (Bounds(2, 8), Span(6, 9), Span(6, 9), 5),
        (Bounds(2, 9), Span(6, 9), Span(6, 9), 5),
        # The log is as long again: the offset alone does not tell the old record from the new one.
        (Bounds(2, 10), Span(6, 9), None, 9),
        # It was not truncated: another instance is ahead.
        (Bounds(2, 8), None, None, 9),
        # Its bounds are not known now.
        (None, Span(6, 9), None, 9),
    ],
)
def test_position_beyond_a_truncated_log_moves_to_the_cut(
    bounds: Bounds | None, cut: Span | None, lost: Span | None, position: int
) -> None:
    """The client, at offset 9, continues after the last of its records that is left."""
    resume_cursor = ResumeCursor({"*.*": {FIRST: 9, SECOND: 3}})
    lost_spans = LostSpans()
    asked: list[tuple[TopicPartition, int]] = []

    def cut_of(key: TopicPartition, offset: int) -> Span | None:
        asked.append((key, offset))
        return cut

    known = {} if bounds is None else {FIRST: bounds}
    report_truncated(resume_cursor, lost_spans, {FIRST: 9}, known, cut_of)
    assert asked == [(FIRST, 9)]
    assert lost_spans.spans == ({} if lost is None else {FIRST: lost})
    assert lost_spans.reason == (None if lost is None else LossReason.TRUNCATED)
    assert resume_cursor.positions() == {FIRST: position, SECOND: 3}


# ---- losses


def test_lost_spans_of_one_partition_become_one_span() -> None:
    """`by_topic` sorts them by topic and partition."""
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


def test_expired_span_does_not_shorten_truncated_span() -> None:
    """A log that was cut at 5 and has deleted its new offsets to 7: the client lost 5 to 9."""
    lost_spans = LostSpans()
    lost_spans.add(LossReason.TRUNCATED, FIRST, Span(5, 9))
    lost_spans.add(LossReason.EXPIRED, FIRST, Span(5, 7))
    assert lost_spans.spans == {FIRST: Span(5, 9)}


def test_recreated_topic_drops_spans_of_the_earlier_topic() -> None:
    """The offsets lost before a recreation are not reported as offsets of the present topic."""
    lost_spans = LostSpans()
    lost_spans.add(LossReason.EXPIRED, FIRST, Span(50, 60))
    lost_spans.add(LossReason.RECREATED, FIRST, Span(0, -1))
    lost_spans.add(LossReason.EXPIRED, FIRST, Span(0, 4))
    assert lost_spans.spans == {FIRST: Span(0, 4)}


def test_reason_is_first_of_loss_reasons_order() -> None:
    """Later reasons in this test come earlier in `LossReason`."""
    lost_spans = LostSpans()
    assert lost_spans.reason is None
    reasons: list[str | None] = []
    for reason in (
        LossReason.OVER_LIMIT,
        LossReason.UNAVAILABLE,
        LossReason.NO_POSITION,
        LossReason.EXPIRED,
        LossReason.TRUNCATED,
        LossReason.UNKNOWN_POSITION,
        LossReason.RECREATED,
    ):
        lost_spans.add(reason, FIRST, Span(0, 1))
        reasons.append(lost_spans.reason)
    assert reasons == [
        "too_many",
        "unavailable",
        "no_position",
        "expired",
        "truncated",
        "unknown_position",
        "recreated",
    ]
