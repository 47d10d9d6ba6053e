"""A token bucket, for rate limits."""

from __future__ import annotations

import math
from typing import Final

__all__ = ["TokenBucket"]

# Whoever has waited as long as it was told finds what it waited for, however times were rounded.
_ROUNDING: Final = 1e-6


class TokenBucket:
    """`rate` per second in the long run, and at most `burst` at once. Starts full.

    Times are the caller's clock, in seconds.
    """

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        # With room for less than one, none would ever be allowed.
        self._burst = max(1.0, burst)
        self._rate = rate
        self._tokens = self._burst
        self._at = now

    def available(self, now: float) -> int:
        """How many may happen now."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        return max(0, math.floor(self._tokens + _ROUNDING))

    def spend(self, count: int) -> None:
        """Count what happened."""
        self._tokens -= count

    def spend_down_to(self, count: int, least: float, now: float) -> None:
        """Count what happened, leaving no more of a debt than `least` says."""
        self.available(now)
        self._tokens = max(min(self._tokens, least), self._tokens - count)

    def seconds_until_available(self) -> float:
        """How long, since `available` was asked, until one may happen."""
        return max(0.0, (1 - self._tokens) / self._rate)

    def seconds_until_full(self) -> float:
        """How long until `burst` are available again."""
        return max(0.0, (self._burst - self._tokens) / self._rate)
