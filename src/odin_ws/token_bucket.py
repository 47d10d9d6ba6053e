"""A token bucket, for rate limits."""

from __future__ import annotations

import math
from typing import Final

__all__ = ["TokenBucket"]

# Tolerance: a caller that waited as long as `seconds_until_available` must succeed after rounding.
_ROUNDING: Final = 1e-6


class TokenBucket:
    """`rate` per second in the long run, and at most `burst` at once. Starts full.

    Times are of the caller's clock, in seconds.
    """

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        # A burst below one would never allow anything.
        self._burst = max(1.0, burst)
        self._rate = rate
        self._tokens = self._burst
        self._at = now

    def available(self, now: float) -> int:
        """Return how many are allowed now."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        return max(0, math.floor(self._tokens + _ROUNDING))

    def spend(self, count: int) -> None:
        """Count `count` events."""
        self._tokens -= count

    def spend_down_to(self, count: int, least: float, now: float) -> None:
        """Count events, with at most `least` of a debt."""
        self.available(now)
        self._tokens = max(min(self._tokens, least), self._tokens - count)

    def seconds_until_available(self) -> float:
        """Return the seconds until one is allowed, since the last call of `available`."""
        return max(0.0, (1 - self._tokens) / self._rate)

    def seconds_until_full(self) -> float:
        """Return the seconds until `burst` are available again."""
        return max(0.0, (self._burst - self._tokens) / self._rate)
