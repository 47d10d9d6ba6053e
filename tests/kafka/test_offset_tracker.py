"""Offsets advance with records and resets; a history ends at the log's end at the start."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from odin_ws.kafka.offset_tracker import OffsetTracker, history_starts, split_evenly
from odin_ws.log_reader import Bounds
from odin_ws.records import Assignment, Record, TopicPartition

A, B, C = (TopicPartition("odin.trades", number) for number in range(3))


def begun() -> OffsetTracker:
    """A has a history from 10 to 20, B none."""
    offset_tracker = OffsetTracker()
    offset_tracker.begin({A: 10, B: 5}, {A: 20, B: 5})
    return offset_tracker


def test_first_assignment_has_history_and_positions() -> None:
    """With history for all partitions or for none."""
    offset_tracker = OffsetTracker()
    begin = offset_tracker.begin({A: 10, B: 5}, {A: 20, B: 5})
    assert begin == Assignment({A: 19, B: 4}, history={A: 9, B: 4})
    assert offset_tracker.history == {A: 20}
    without = OffsetTracker().begin({A: 10, B: 0}, {A: 10, B: 0}, partial=True)
    assert without == Assignment({A: 9, B: -1}, partial=True, history={})


def test_position_stays_at_the_end_of_history_until_it_is_read() -> None:
    """Records after the first assignment are new."""
    offset_tracker = begun()
    offset_tracker.next[A] = 15
    assert offset_tracker.assignment([A, B]) == Assignment({A: 19, B: 4})
    offset_tracker.pass_history({A: 19})
    assert offset_tracker.history == {A: 20}
    offset_tracker.next[A] = 23
    offset_tracker.pass_history({})
    assert offset_tracker.history == {}
    assert offset_tracker.assignment([A, B]) == Assignment({A: 22, B: 4})


def test_history_ending_without_record_ends_by_fetch_position() -> None:
    """The next record is sought after it."""
    offset_tracker = begun()
    offset_tracker.next[A] = 19
    offset_tracker.pass_history({A: 20})
    assert offset_tracker.history == {}
    assert offset_tracker.next[A] == 20


def test_skipped_history_is_over() -> None:
    """Like one that was read."""
    offset_tracker = begun()
    offset_tracker.skip_history(A)
    assert (offset_tracker.next[A], offset_tracker.history) == (20, {})


def test_reset_forward_loses_records() -> None:
    """The position is before the first remaining record."""
    offset_tracker = begun()
    assert offset_tracker.assignment_after({B: 8}, [A, B]) == Assignment({A: 19, B: 7})
    assert offset_tracker.lost(B, 8) == 3
    offset_tracker.reset({B: 8})
    assert offset_tracker.next == {A: 10, B: 8}


def test_reset_within_history_loses_no_deliveries() -> None:
    """The position stays; the history restarts."""
    offset_tracker = begun()
    assert offset_tracker.assignment_after({A: 13}, [A]) == Assignment({A: 19}, history={A: 12})
    assert offset_tracker.lost(A, 13) == 0
    offset_tracker.reset({A: 13})
    assert (offset_tracker.next[A], offset_tracker.history) == (13, {A: 20})


def test_reset_over_the_end_of_history_loses_records() -> None:
    """The history is over and does not join later records."""
    offset_tracker = begun()
    assert offset_tracker.assignment_after({A: 22}, [A]) == Assignment({A: 21}, history={A: 21})
    assert offset_tracker.lost(A, 22) == 2
    offset_tracker.reset({A: 22})
    assert (offset_tracker.next[A], offset_tracker.history) == (22, {})


def test_reset_back_makes_all_records_new() -> None:
    """Also during a history."""
    offset_tracker = begun()
    after = offset_tracker.assignment_after({A: 0, B: 0}, [A, B])
    assert after == Assignment({A: -1, B: -1}, history={A: -1})
    assert (offset_tracker.lost(A, 0), offset_tracker.lost(B, 0)) == (0, 0)
    offset_tracker.reset({A: 0, B: 0})
    assert (offset_tracker.next, offset_tracker.history) == ({A: 0, B: 0}, {})


def test_assignment_before_a_reset_changes_nothing() -> None:
    """If its delivery is interrupted, the reset was not made."""
    offset_tracker = begun()
    offset_tracker.assignment_after({A: 22, B: 8}, [A, B])
    assert (offset_tracker.next, offset_tracker.history) == ({A: 10, B: 5}, {A: 20})


def test_history_starts_within_age_and_count() -> None:
    """The later of both; at the end without a young record."""
    bounds = {A: Bounds(100, 200), B: Bounds(0, 30), C: Bounds(5, 9)}
    assert history_starts(bounds, {A: 150, B: 25}, 1000) == {A: 150, B: 25, C: 9}
    assert history_starts(bounds, {A: 150, B: 25}, 15) == {A: 190, B: 25, C: 9}
    assert history_starts(bounds, {A: 90, B: 31}, 1000) == {A: 100, B: 30, C: 9}
    assert history_starts(bounds, {A: 150, B: 25}, 0) == {A: 200, B: 30, C: 9}


@given(st.dictionaries(st.integers(), st.integers(0, 1000)), st.integers(0, 10_000))
def test_split_is_even_and_complete(wanted: dict[int, int], total: int) -> None:
    """No part exceeds its wish; smaller parts differ by at most one."""
    keys = [TopicPartition("odin.trades", number) for number in wanted]
    shares = split_evenly(dict(zip(keys, wanted.values(), strict=True)), total)
    resume_cursors = dict(zip(keys, wanted.values(), strict=True))
    assert sum(shares.values()) == min(total, sum(resume_cursors.values()))
    maximum = max(shares.values(), default=0)
    for key, share in shares.items():
        assert share <= resume_cursors[key]
        assert share == resume_cursors[key] or share >= maximum - 1


def test_offsets_advance_past_the_last_records() -> None:
    """Also over holes; partitions without records stay."""
    offset_tracker = begun()
    came = [(A, 10), (B, 5), (A, 12), (A, 15)]
    offset_tracker.pass_records([Record(*key, offset, 0, b"BTC", b"{}") for key, offset in came])
    assert offset_tracker.next == {A: 16, B: 6}
    offset_tracker.pass_records([Record(*B, 9, 0, b"BTC", b"{}")])
    assert offset_tracker.next == {A: 16, B: 10}


def test_offsets_without_records_advance_forward_only() -> None:
    """Records delivered meanwhile may be further."""
    offset_tracker = begun()
    offset_tracker.pass_offsets({A: 12, B: 7})
    assert offset_tracker.next == {A: 13, B: 8}
    offset_tracker.pass_offsets({A: 5})
    assert offset_tracker.next[A] == 13


def test_forgotten_partitions_are_removed() -> None:
    """Their history is not waited for either."""
    offset_tracker = begun()
    offset_tracker.forget([A, C])
    assert (offset_tracker.next, offset_tracker.history) == ({B: 5}, {})
