"""Exponential back-off with full jitter: the wait before the next attempt."""

from __future__ import annotations

import random

__all__ = ["Backoff"]


class Backoff:
    """Each wait is a random part of a ceiling, which doubles from `first` to `maximum` seconds.

    Full jitter spreads best what lost the same server: AWS Architecture Blog, "Exponential Backoff
    And Jitter". Raises ValueError unless both are above 0.
    """

    def __init__(self, first: float, maximum: float, rng: random.Random) -> None:
        if first <= 0 or maximum <= 0:
            raise ValueError(f"seconds above 0 are needed, not {first} and {maximum}")
        self._first = min(first, maximum)
        self._maximum = maximum
        self._rng = rng
        self._tries = 0

    def next(self) -> float:
        """Seconds to wait before the next attempt."""
        ceiling = min(self._maximum, self._first * 2**self._tries)
        # Beyond the ceiling the exponent would only grow into a float overflow.
        self._tries += ceiling < self._maximum
        return self._rng.uniform(0, ceiling)

    def reset(self) -> None:
        """It worked: the next wait is a short one again."""
        self._tries = 0
