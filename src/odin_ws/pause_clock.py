"""A Trio clock that does not count time in which the process was suspended."""

from __future__ import annotations

from time import perf_counter
from typing import Final

import trio

__all__ = ["PauseClock", "pauses"]

# A step of the event loop takes milliseconds, and a full garbage collection beside 12,000
# connections some tenths of a second. The shortest default deadline is 1 s (linger), so a pause
# uses up half of it at most.
_LONGEST_STEP_SECONDS: Final = 0.5


class PauseClock(trio.abc.Clock):
    """Runs as the system's clock, and stands still while the process is stopped.

    After SIGSTOP, a suspended virtual machine or a long garbage collection, Trio would let every
    deadline expire that has passed meanwhile, before it reads what clients have sent in time. With
    this clock each deadline is later by the length of the pause: of handshakes, commands, writes,
    pongs, Kafka requests and the drain alike.

    The clock is read in every pass of the event loop, and Trio says how long it is going to sleep.
    Between two readings a pause is what exceeds that sleep and half a second of work.
    """

    __slots__ = ("_expected", "paused_seconds", "pauses")

    def __init__(self) -> None:
        self.pauses = 0
        self.paused_seconds = 0.0
        self._expected = perf_counter() + _LONGEST_STEP_SECONDS

    def start_clock(self) -> None:
        """Start with the event loop; what came before is no pause."""
        self._expected = perf_counter() + _LONGEST_STEP_SECONDS

    def current_time(self) -> float:
        """Seconds, without those of all pauses."""
        now = perf_counter()
        if now > self._expected:
            self.pauses += 1
            self.paused_seconds += now - self._expected
        self._expected = now + _LONGEST_STEP_SECONDS
        return now - self.paused_seconds

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """How long the event loop may sleep; as much is no pause."""
        seconds = deadline - self.current_time()
        self._expected += max(0.0, seconds)
        return seconds


def pauses() -> tuple[int, float]:
    """How many pauses the running clock has left out, and their seconds; none for other clocks."""
    clock = trio.lowlevel.current_clock()
    return (clock.pauses, clock.paused_seconds) if isinstance(clock, PauseClock) else (0, 0.0)
