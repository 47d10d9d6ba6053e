"""Spaces starts of cycles and fetches: evenly in the long run, a burst after a pause."""

from __future__ import annotations

import math

__all__ = ["Slots"]


class Slots:
    """Starts that are `interval` seconds apart in the long run; after a pause `burst` at once.

    In any `t` seconds there are at most `t / interval + burst` starts. Times are of the caller's
    clock, in seconds.
    """

    __slots__ = ("_ahead", "_due", "_interval")

    def __init__(self, interval: float, burst: int) -> None:
        self._interval = interval
        self._ahead = (burst - 1) * interval
        # The next start with even spacing; an actual start may be `_ahead` seconds earlier.
        self._due = -math.inf

    @property
    def next_start(self) -> float:
        """The earliest time of the next start."""
        return self._due - self._ahead

    def start(self, now: float) -> None:
        """Count a start."""
        self._due = max(now, self._due) + self._interval

    def start_after_next(self, now: float) -> float:
        """Return the earliest time of the start after the next one, if the next one is not late.

        Counts nothing.
        """
        return max(now, self._due) + self._interval - self._ahead
