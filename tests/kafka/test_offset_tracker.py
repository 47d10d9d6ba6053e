"""Places move by records and jumps; a history ends where the log ended at the start."""

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


def test_the_first_assignment_tells_where_history_begins_and_where_news() -> None:
    """For all partitions if for any; and for none if there is none."""
    offset_tracker = OffsetTracker()
    begin = offset_tracker.begin({A: 10, B: 5}, {A: 20, B: 5})
    assert begin == Assignment({A: 19, B: 4}, history={A: 9, B: 4})
    assert offset_tracker.history == {A: 20}
    without = OffsetTracker().begin({A: 10, B: 0}, {A: 10, B: 0}, partial=True)
    assert without == Assignment({A: 9, B: -1}, partial=True, history={})


def test_positions_stay_at_the_end_of_the_history_until_it_is_passed() -> None:
    """Whatever of it has been read: what came after the first assignment is news."""
    offset_tracker = begun()
    offset_tracker.next[A] = 15
    assert offset_tracker.assignment([A, B]) == Assignment({A: 19, B: 4})
    offset_tracker.pass_history({A: 19})
    assert offset_tracker.history == {A: 20}
    offset_tracker.next[A] = 23
    offset_tracker.pass_history({})
    assert offset_tracker.history == {}
    assert offset_tracker.assignment([A, B]) == Assignment({A: 22, B: 4})


def test_a_history_that_ends_with_no_record_is_passed_by_the_reading() -> None:
    """And the next record is sought behind it."""
    offset_tracker = begun()
    offset_tracker.next[A] = 19
    offset_tracker.pass_history({A: 20})
    assert offset_tracker.history == {}
    assert offset_tracker.next[A] == 20


def test_a_history_that_is_skipped_is_behind_us() -> None:
    """As is one that we have passed."""
    offset_tracker = begun()
    offset_tracker.skip_history(A)
    assert (offset_tracker.next[A], offset_tracker.history) == (20, {})


def test_a_jump_forward_loses_records() -> None:
    """The position is then before the first that is left."""
    offset_tracker = begun()
    assert offset_tracker.assignment_after({B: 8}, [A, B]) == Assignment({A: 19, B: 7})
    assert offset_tracker.lost(B, 8) == 3
    offset_tracker.reset({B: 8})
    assert offset_tracker.next == {A: 10, B: 8}


def test_a_jump_within_a_history_loses_none_that_were_to_be_delivered() -> None:
    """The position stays; what is remembered begins anew."""
    offset_tracker = begun()
    assert offset_tracker.assignment_after({A: 13}, [A]) == Assignment({A: 19}, history={A: 12})
    assert offset_tracker.lost(A, 13) == 0
    offset_tracker.reset({A: 13})
    assert (offset_tracker.next[A], offset_tracker.history) == (13, {A: 20})


def test_a_jump_over_the_end_of_a_history_loses_what_is_behind_it() -> None:
    """The history is over, and what was read of it does not join what comes."""
    offset_tracker = begun()
    assert offset_tracker.assignment_after({A: 22}, [A]) == Assignment({A: 21}, history={A: 21})
    assert offset_tracker.lost(A, 22) == 2
    offset_tracker.reset({A: 22})
    assert (offset_tracker.next[A], offset_tracker.history) == (22, {})


def test_a_jump_back_is_another_topic() -> None:
    """All that it has is new, also if it was a history that was being read."""
    offset_tracker = begun()
    after = offset_tracker.assignment_after({A: 0, B: 0}, [A, B])
    assert after == Assignment({A: -1, B: -1}, history={A: -1})
    assert (offset_tracker.lost(A, 0), offset_tracker.lost(B, 0)) == (0, 0)
    offset_tracker.reset({A: 0, B: 0})
    assert (offset_tracker.next, offset_tracker.history) == ({A: 0, B: 0}, {})


def test_an_assignment_after_a_jump_moves_nothing_yet() -> None:
    """It is told first; if that is interrupted, the jump has not been made."""
    offset_tracker = begun()
    offset_tracker.assignment_after({A: 22, B: 8}, [A, B])
    assert (offset_tracker.next, offset_tracker.history) == ({A: 10, B: 5}, {A: 20})


def test_history_begins_where_records_are_young_and_not_too_many() -> None:
    """The later of both; without a young record, at the end."""
    bounds = {A: Bounds(100, 200), B: Bounds(0, 30), C: Bounds(5, 9)}
    assert history_starts(bounds, {A: 150, B: 25}, 1000) == {A: 150, B: 25, C: 9}
    assert history_starts(bounds, {A: 150, B: 25}, 15) == {A: 190, B: 25, C: 9}
    assert history_starts(bounds, {A: 90, B: 31}, 1000) == {A: 100, B: 30, C: 9}
    assert history_starts(bounds, {A: 150, B: 25}, 0) == {A: 200, B: 30, C: 9}


@given(st.dictionaries(st.integers(), st.integers(0, 1000)), st.integers(0, 10_000))
def test_shares_are_fair_and_nothing_is_left_that_is_wanted(
    wanted: dict[int, int], total: int
) -> None:
    """Nobody gets more than it wants; who gets less has as much as any other, but for one."""
    keys = [TopicPartition("odin.trades", number) for number in wanted]
    shares = split_evenly(dict(zip(keys, wanted.values(), strict=True)), total)
    resume_cursors = dict(zip(keys, wanted.values(), strict=True))
    assert sum(shares.values()) == min(total, sum(resume_cursors.values()))
    maximum = max(shares.values(), default=0)
    for key, share in shares.items():
        assert share <= resume_cursors[key]
        assert share == resume_cursors[key] or share >= maximum - 1


def test_reading_goes_on_behind_the_last_record_of_each_partition() -> None:
    """Also behind a hole between them; a partition of which nothing came stays where it is."""
    offset_tracker = begun()
    came = [(A, 10), (B, 5), (A, 12), (A, 15)]
    offset_tracker.pass_records([Record(*key, offset, 0, b"BTC", b"{}") for key, offset in came])
    assert offset_tracker.next == {A: 16, B: 6}
    offset_tracker.pass_records([Record(*B, 9, 0, b"BTC", b"{}")])
    assert offset_tracker.next == {A: 16, B: 10}


def test_offsets_without_records_are_passed() -> None:
    """Forward only: records that were handed on meanwhile are further."""
    offset_tracker = begun()
    offset_tracker.pass_offsets({A: 12, B: 7})
    assert offset_tracker.next == {A: 13, B: 8}
    offset_tracker.pass_offsets({A: 5})
    assert offset_tracker.next[A] == 13


def test_forgotten_partitions_are_nowhere() -> None:
    """Nor is their history waited for."""
    offset_tracker = begun()
    offset_tracker.forget([A, C])
    assert (offset_tracker.next, offset_tracker.history) == ({B: 5}, {})
