"""Slots start at once after a pause, and evenly under load."""

from __future__ import annotations

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
    assert starts == [10, 10, 10, 10.25, 10.5, 10.75]


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
