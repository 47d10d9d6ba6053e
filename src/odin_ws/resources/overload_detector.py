"""The overload detector: a threshold exceeded in every sample of a window; event loop delay."""

from __future__ import annotations

from collections import deque
from typing import Final

import structlog
import trio

from odin_ws.histogram import Histogram
from odin_ws.pause_clock import pauses

__all__ = ["LoopDelay", "OverloadDetector"]

log = structlog.get_logger("odin_ws.ops")

_INTERVAL_SECONDS: Final = 0.1

# Samples of a second without delay; with delay, each sample takes longer.
_SAMPLES: Final = 10

# Buckets from an idle event loop to a blocked one.
_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class OverloadDetector:
    """Detects an overload when the least of the last `samples` values is above `high`.

    A single large value does not count, as in CoDel (RFC 8289), which detects a standing queue in
    the same way. The overload lasts until a value is at or below `low`, so that it does not flap.
    """

    def __init__(self, samples: int, *, high: float, low: float) -> None:
        self.passed = False
        self._high = high
        self._low = low
        self._last: deque[float] = deque(maxlen=samples)

    def forget(self) -> None:
        """Drop all values: they say nothing about the present."""
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
    """Measures how late a due task runs: what all tasks wait besides their own work.

    `limit` in seconds; 0 for none.
    """

    def __init__(self, limit: float) -> None:
        self.delays = Histogram(_BOUNDS)
        self._limit = limit
        self._current_notices = OverloadDetector(_SAMPLES, high=limit, low=limit / 2)

    @property
    def passed(self) -> bool:
        """True if the limit is exceeded now."""
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
