"""Work is divided into time slices, which the clock and a number of steps bound."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from odin_ws.steps import Steps, finish
from odin_ws.time_slice import SLICE_SECONDS, SLICE_STEPS, TimeSlice


class Turns:
    """Counts how often work has waited for its turn."""

    def __init__(self) -> None:
        self.taken = 0

    async def take(self) -> None:
        """Grant the next turn at once."""
        await trio.lowlevel.checkpoint()
        self.taken += 1


def counting(steps: int, clock: MockClock | None = None, seconds: float = 0.0) -> Steps[int]:
    """Work of some steps that take `seconds` each; returns the number of steps."""
    for _ in range(steps):
        if clock is not None:
            clock.jump(seconds)
        yield
    return steps


async def test_work_of_one_slice_does_not_wait(mock_clock: MockClock) -> None:
    """Not even for a checkpoint: a short command completes before any other task runs."""
    turns = Turns()
    time_slice = TimeSlice(turns.take)
    with trio.CancelScope() as scope:
        scope.cancel()
        assert await time_slice.run(counting(SLICE_STEPS - 1)) == SLICE_STEPS - 1
    assert (turns.taken, scope.cancelled_caught) == (0, False)


@pytest.mark.parametrize("steps", [SLICE_STEPS, 10 * SLICE_STEPS])
async def test_slice_ends_after_its_steps_without_a_moving_clock(
    mock_clock: MockClock, steps: int
) -> None:
    """So the work between two turns is bounded on every machine."""
    turns = Turns()
    assert await TimeSlice(turns.take).run(counting(steps)) == steps
    assert turns.taken == steps // SLICE_STEPS


async def test_slice_ends_after_its_time_with_slow_steps(mock_clock: MockClock) -> None:
    """After each step that takes longer than a slice, the work waits for a turn."""
    turns = Turns()
    await TimeSlice(turns.take).run(counting(6, mock_clock, 1.5 * SLICE_SECONDS))
    assert turns.taken == 6


async def test_several_pieces_of_work_share_a_slice(mock_clock: MockClock) -> None:
    """Many small requests get no more time, until a turn begins another slice."""
    turns = Turns()
    time_slice = TimeSlice(turns.take)
    for _ in range(SLICE_STEPS):
        await time_slice.run(counting(1))
    assert turns.taken == 1
    time_slice.begin()
    await time_slice.run(counting(SLICE_STEPS - 1))
    assert turns.taken == 1


async def test_cancelled_work_can_be_finished(mock_clock: MockClock) -> None:
    """Cancelled while it waits for a turn, the work is interrupted between two steps."""
    steps = counting(3 * SLICE_STEPS)
    with trio.CancelScope() as scope:
        scope.cancel()
        await TimeSlice(Turns().take).run(steps)
    assert scope.cancelled_caught
    assert finish(steps) == 3 * SLICE_STEPS
