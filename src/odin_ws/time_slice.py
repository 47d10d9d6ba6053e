"""Time slices: work for one client yields to others after each millisecond."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import trio

from odin_ws.steps import Steps

__all__ = ["SLICE_SECONDS", "SLICE_STEPS", "TimeSlice", "Turn"]

T = TypeVar("T")

# Waits until it is a client's turn again.
Turn = Callable[[], Awaitable[None]]

# A client's work keeps the event loop for this long, or for this many steps: a step takes 0.2 ms on
# average, so either bound is reached at about the same time.
SLICE_SECONDS: Final = 0.001
SLICE_STEPS: Final = 4


class TimeSlice:
    """The time that one client's work has until the client's next turn.

    Args:
        turn: waits for that turn.
    """

    __slots__ = ("_end", "_steps", "_turn")

    def __init__(self, turn: Turn = trio.lowlevel.checkpoint) -> None:
        self._turn = turn
        self.begin()

    def begin(self) -> None:
        """Begin a slice: the client has just got a turn."""
        self._end = trio.current_time() + SLICE_SECONDS
        self._steps = SLICE_STEPS

    @property
    def expired(self) -> bool:
        """Whether the others are to run now."""
        return self._steps <= 0 or trio.current_time() > self._end

    async def yield_control(self) -> None:
        """Wait for the client's next turn, and begin a slice."""
        await self._turn()
        self.begin()

    async def run(self, steps: Steps[T]) -> T:
        """Carry out steps, over as many slices as they take; returns their result.

        No checkpoint where one slice is enough. If it is cancelled, the steps stay where they are.
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
