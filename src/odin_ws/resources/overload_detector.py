"""The overload detector: a threshold exceeded for every sample of a window; event loop delay."""

from __future__ import annotations

from collections import deque
from typing import Final

import structlog
import trio

from odin_ws.distribution import Distribution
from odin_ws.pause_clock import pauses

__all__ = ["LoopDelay", "OverloadDetector"]

log = structlog.get_logger("odin_ws.ops")

_INTERVAL_SECONDS: Final = 0.1

# A second of samples where there is no delay; with one, each takes longer by it.
_SAMPLES: Final = 10

# From a loop with nothing to do to one that stands still.
_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class OverloadDetector:
    """A limit that is passed when the least of the last `samples` values is above `high`.

    So one large value says nothing, as one slow write does not: CoDel (RFC 8289) tells a standing
    queue in the same way. It lasts until one of them is at or below `low`, so that it does not
    come and go with every value.
    """

    def __init__(self, samples: int, *, high: float, low: float) -> None:
        self.passed = False
        self._high = high
        self._low = low
        self._last: deque[float] = deque(maxlen=samples)

    def forget(self) -> None:
        """Begin anew: the values so far say nothing about what is now."""
        self.passed = False
        self._last.clear()

    def observe(self, value: float) -> None:
        """Add a value."""
        self._last.append(value)
        least = min(self._last)
        if len(self._last) == self._last.maxlen and least > self._high:
            self.passed = True
        elif least <= self._low:
            self.passed = False


class LoopDelay:
    """How late a task runs that is due: what everything here waits, beside its own work.

    `limit` in seconds; 0 is none.
    """

    def __init__(self, limit: float) -> None:
        self.delays = Distribution(_BOUNDS)
        self._limit = limit
        self._current_notices = OverloadDetector(_SAMPLES, high=limit, low=limit / 2)

    @property
    def passed(self) -> bool:
        """Whether the limit is passed at the moment."""
        return self._limit > 0 and self._current_notices.passed

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            due, (_, paused) = trio.current_time() + _INTERVAL_SECONDS, pauses()
            await trio.sleep_until(due)
            pause = pauses()[1] - paused
            delay = max(0.0, trio.current_time() - due) + pause
            if pause:
                log.warning("process paused, deadlines extended", seconds=round(delay, 3))
            self.delays.observe(delay)
            self._current_notices.observe(delay)
