"""Time slices: work for one client yields to others after each millisecond."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import trio

from odin_ws.steps import Steps

__all__ = ["SLICE_SECONDS", "SLICE_STEPS", "TimeSlice", "Turn"]

T = TypeVar("T")

# Waits for a client's next turn.
Turn = Callable[[], Awaitable[None]]

# The time, or the number of steps, for which one client's work may use the event loop: a step takes
# 0.2 ms on average, so both limits are reached at about the same time.
SLICE_SECONDS: Final = 0.001
SLICE_STEPS: Final = 4


class TimeSlice:
    """The time that one client's work has before it yields to other clients.

    Args:
        turn: waits for the client's next turn.
    """

    __slots__ = ("_end", "_steps", "_turn")

    def __init__(self, turn: Turn = trio.lowlevel.checkpoint) -> None:
        self._turn = turn
        self.begin()

    def begin(self) -> None:
        """Begin a slice, because the client has got a turn."""
        self._end = trio.current_time() + SLICE_SECONDS
        self._steps = SLICE_STEPS

    @property
    def expired(self) -> bool:
        """True if other tasks should run now."""
        return self._steps <= 0 or trio.current_time() > self._end

    async def yield_control(self) -> None:
        """Wait for the client's next turn, and begin a slice."""
        await self._turn()
        self.begin()

    async def run(self, steps: Steps[T]) -> T:
        """Run steps, over as many slices as needed; returns their result.

        No checkpoint if one slice is enough. If cancelled, the steps stay where they are.
        """
        while True:
            try:
                next(steps)
            except StopIteration as ended:
                result: T = ended.value
                return result
            self._steps -= 1
            if self.expired:
                await self.yield_control()
