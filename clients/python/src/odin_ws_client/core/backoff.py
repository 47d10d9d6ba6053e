"""Exponential back-off with full jitter: the wait before the next attempt."""

from __future__ import annotations

import random

__all__ = ["Backoff"]


class Backoff:
    """Exponential back-off: random waits below a ceiling that doubles with each attempt.

    Full jitter spreads the reconnects of clients that lost the same server better than other kinds
    of jitter: AWS Architecture Blog, "Exponential Backoff And Jitter".

    Args:
        first: the ceiling of the first wait, seconds.
        maximum: the largest ceiling, seconds.
        rng: the random numbers of the jitter.

    Raises:
        ValueError: unless `first` and `maximum` are above 0.
    """

    def __init__(self, first: float, maximum: float, rng: random.Random) -> None:
        if first <= 0 or maximum <= 0:
            raise ValueError(f"seconds must be above 0, not {first} and {maximum}")
        self._first = min(first, maximum)
        self._maximum = maximum
        self._rng = rng
        self._tries = 0

    def next(self) -> float:
        """Return the seconds to wait before the next attempt."""
        ceiling = min(self._maximum, self._first * 2**self._tries)
        # The exponent stops at the largest ceiling, because 2**1024 overflows a float.
        self._tries += ceiling < self._maximum
        return self._rng.uniform(0, ceiling)

    def reset(self) -> None:
        """Set the next ceiling to `first` again, after a connection that worked."""
        self._tries = 0
