"""Slots start at once after a pause, and evenly under load."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.slots import Slots


def test_slots_after_a_pause_start_at_once_and_then_evenly() -> None:
    """Three at once, then one each quarter of a second."""
    slots = Slots(0.25, 3)
    starts = []
    now = 10.0
    for _ in range(6):
        now = max(now, slots.next_start)
        slots.start(now)
        starts.append(now)
    assert starts == pytest.approx([10, 10, 10, 10.2425, 10.49, 10.7375], abs=0.003)


def test_start_after_next_is_the_start_of_the_slot_after_next() -> None:
    """It holds from any state, and does not count as a start."""
    slots = Slots(0.25, 2)
    now = 10.0
    for pause in [0, 0, 0, 0.1, 0.3, 0, 5, 0, 0, 0]:
        now = max(now + pause, slots.next_start)
        expected = slots.start_after_next(now)
        slots.start(now)
        assert max(expected, now) == max(slots.next_start, now)


def test_slots_without_an_interval_are_not_limited() -> None:
    """Any number starts at any time."""
    slots = Slots(0, 3)
    for _ in range(100):
        slots.start(1.0)
    assert slots.next_start <= 1.0
    assert slots.start_after_next(1.0) == 1.0


def test_one_late_record_does_not_delay_all_later_ones() -> None:
    """Records as frequent as slots wait no longer after some hundred slots."""
    slots, waits, started = Slots(0.05, 2), [], 0.0
    for number in range(400):
        # The tenth record is late by three slots.
        arrived = number * 0.05 + (0.15 if number == 10 else 0)
        started = max(arrived, slots.next_start, started)
        slots.start(started)
        waits.append(started - arrived)
    assert max(waits[:10]) == pytest.approx(0)
    assert max(waits[11:]) > 0.05
    assert waits[-1] == pytest.approx(0)


@given(st.lists(st.floats(0, 0.2), min_size=1, max_size=200), st.integers(1, 4))
def test_starts_in_any_time_are_bounded(pauses: list[float], burst: int) -> None:
    """At most 1% more than one per interval, and the burst."""
    slots, now, starts = Slots(0.05, burst), 0.0, []
    for pause in pauses:
        now = max(now + pause, slots.next_start)
        slots.start(now)
        starts.append(now)
    for first, begin in enumerate(starts):
        for last in range(first, len(starts)):
            most = (starts[last] - begin) / 0.0495 + 1.01 * burst
            assert last - first + 1 <= most + 1e-6
