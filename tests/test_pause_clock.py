"""Time in which the process did not run does not count against deadlines."""

from __future__ import annotations

import pytest
import trio

from odin_ws import pause_clock as module
from odin_ws.pause_clock import PauseClock, pauses


class FakeTime:
    """The system's clock, set by the test."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Read it."""
        return self.now


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    """Replaces the system's clock."""
    fake = FakeTime()
    monkeypatch.setattr(module, "perf_counter", fake)
    return fake


def test_work_of_half_a_second_counts_in_full(system: FakeTime) -> None:
    """A busy event loop is no pause: its deadlines must expire."""
    clock = PauseClock()
    clock.start_clock()
    started = clock.current_time()
    for _ in range(20):
        system.now += 0.5
        clock.current_time()
    assert clock.current_time() - started == pytest.approx(10)
    assert (clock.pauses, clock.paused_seconds) == (0, 0)


def test_sleep_until_a_deadline_counts_in_full(system: FakeTime) -> None:
    """Trio sleeps until the next deadline, or for an hour without one."""
    clock = PauseClock()
    started = clock.current_time()
    assert clock.deadline_to_sleep_time(started + 3600) == pytest.approx(3600)
    system.now += 3600
    assert clock.current_time() - started == pytest.approx(3600)
    assert clock.pauses == 0


@pytest.mark.parametrize("asleep", [True, False])
def test_pause_counts_for_half_a_second(system: FakeTime, *, asleep: bool) -> None:
    """Whether the process paused while the loop slept or while it worked."""
    clock = PauseClock()
    started = clock.current_time()
    if asleep:
        clock.deadline_to_sleep_time(started + 0.1)
    system.now += 60
    allowed = 0.6 if asleep else 0.5
    assert clock.current_time() - started == pytest.approx(allowed)
    assert clock.pauses == 1
    assert clock.paused_seconds == pytest.approx(60 - allowed)
    # From here on the clock advances as usual.
    system.now += 0.2
    assert clock.current_time() - started == pytest.approx(allowed + 0.2)
    assert clock.deadline_to_sleep_time(started + allowed + 1) == pytest.approx(0.8)


def test_expired_deadline_is_no_pause(system: FakeTime) -> None:
    """An overdue deadline must not look like a pause."""
    clock = PauseClock()
    started = clock.current_time()
    clock.deadline_to_sleep_time(started - 100)
    system.now += 60
    assert clock.current_time() - started == pytest.approx(0.5)


def test_trio_runs_with_the_pause_clock(system: FakeTime) -> None:
    """A deadline moves by the length of a pause, and tasks can read that length."""

    async def main() -> tuple[int, float]:
        with trio.move_on_after(1) as scope:
            system.now += 6
            await trio.lowlevel.checkpoint()
        assert not scope.cancelled_caught
        return pauses()

    count, seconds = trio.run(main, clock=PauseClock())
    assert count == 1
    assert seconds == pytest.approx(5.5)


def test_other_clocks_have_no_pauses() -> None:
    """The metrics exist with every clock."""

    async def main() -> tuple[int, float]:
        return pauses()

    assert trio.run(main) == (0, 0)
