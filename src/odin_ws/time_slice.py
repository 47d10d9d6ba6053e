"""Time slices: work for one client yields to others after each millisecond."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import trio

from odin_ws.steps import Steps

__all__ = ["SLICE_SECONDS", "SLICE_STEPS", "TimeSlice", "WorkTurns"]

T = TypeVar("T")

# The time, or the number of steps, for which one client's work may use the event loop: a step takes
# 0.2 ms on average, so both limits are reached at about the same time.
SLICE_SECONDS: Final = 0.001
SLICE_STEPS: Final = 4


class WorkTurns:
    """The turns of all clients' work, and the time that their time slices have used.

    Args:
        wait: waits for a client's next turn.
    """

    __slots__ = ("seconds", "wait")

    def __init__(self, wait: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint) -> None:
        self.wait = wait
        self.seconds = 0.0
        """The seconds that slices have used so far, in their turns."""

    async def wait_for_whole_slice(self) -> None:
        """Wait for a turn of work without steps; it is charged as a whole time slice."""
        await self.wait()
        self.seconds += SLICE_SECONDS


class TimeSlice:
    """The time that one client's work has before it yields to other clients.

    Args:
        turns: the turns of all clients' work.
    """

    __slots__ = ("_end", "_has_turn", "_steps", "_turns")

    def __init__(self, turns: WorkTurns) -> None:
        self._turns = turns
        self.begin()

    def begin(self) -> None:
        """Begin a slice in a turn of another kind, which is charged for the slice's time."""
        self._has_turn = False
        self._end = trio.current_time() + SLICE_SECONDS
        self._steps = SLICE_STEPS

    @property
    def expired(self) -> bool:
        """True if other tasks should run now."""
        return self._steps <= 0 or trio.current_time() > self._end

    async def yield_control(self) -> None:
        """Wait for the client's next turn, and begin a slice."""
        await self._turns.wait()
        self.begin()
        self._has_turn = True

    async def run(self, steps: Steps[T]) -> T:
        """Run steps, over as many slices as needed; returns their result.

        No checkpoint if one slice is enough. If cancelled, the steps stay where they are.
        """
        begun = trio.current_time() if self._has_turn else 0.0
        while True:
            try:
                next(steps)
            except StopIteration as ended:
                if self._has_turn:
                    self._turns.seconds += trio.current_time() - begun
                result: T = ended.value
                return result
            self._steps -= 1
            if self.expired:
                if self._has_turn:
                    self._turns.seconds += trio.current_time() - begun
                await self.yield_control()
                begun = trio.current_time()
