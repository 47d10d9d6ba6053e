"""A Trio clock that excludes time in which the process was suspended."""

from __future__ import annotations

from time import perf_counter
from typing import Final

import trio

__all__ = ["PauseClock", "pauses"]

# A step of the event loop takes milliseconds, a full garbage collection beside 12,000 connections
# some tenths of a second. The shortest default deadline is 1 s (linger), so an undetected pause
# uses up at most half of it.
_LONGEST_STEP_SECONDS: Final = 0.5


class PauseClock(trio.abc.Clock):
    """Runs as the system's clock, and stops while the process is suspended.

    After SIGSTOP, a suspended virtual machine or a long garbage collection, all deadlines that have
    passed meanwhile would expire before Trio reads what clients sent in time. With this clock each
    deadline moves by the length of the pause: of handshakes, commands, writes, pongs, Kafka
    requests and the drain.

    Trio reads the clock in every pass of the event loop, and says how long it will sleep. Between
    two readings, the time beyond that sleep and half a second of work counts as a pause.
    """

    __slots__ = ("_expected", "paused_seconds", "pauses")

    def __init__(self) -> None:
        self.pauses = 0
        self.paused_seconds = 0.0
        self._expected = perf_counter() + _LONGEST_STEP_SECONDS

    def start_clock(self) -> None:
        """Start with the event loop; earlier time is no pause."""
        self._expected = perf_counter() + _LONGEST_STEP_SECONDS

    def current_time(self) -> float:
        """Return seconds without all pauses."""
        now = perf_counter()
        if now > self._expected:
            self.pauses += 1
            self.paused_seconds += now - self._expected
        self._expected = now + _LONGEST_STEP_SECONDS
        return now - self.paused_seconds

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Return how long the event loop may sleep; that time is no pause."""
        seconds = deadline - self.current_time()
        self._expected += max(0.0, seconds)
        return seconds


def pauses() -> tuple[int, float]:
    """Return the number of pauses of the running clock and their seconds; 0 for other clocks."""
    clock = trio.lowlevel.current_clock()
    return (clock.pauses, clock.paused_seconds) if isinstance(clock, PauseClock) else (0, 0.0)
