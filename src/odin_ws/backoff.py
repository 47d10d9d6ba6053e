"""Exponential back-off with jitter: the wait before the next retry."""

from __future__ import annotations

import random

__all__ = ["Backoff"]


class Backoff:
    """Exponential back-off with full jitter: the ceiling doubles from `first` to `maximum`.

    Full jitter spreads clients of a lost server or broker best: AWS Architecture Blog, "Exponential
    Backoff And Jitter".
    """

    def __init__(
        self,
        first: float = 0.25,
        maximum: float = 10.0,
        *,
        least: float | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """Start with a short wait.

        Args:
            first: the ceiling of the first wait, seconds.
            maximum: the highest ceiling; may be below `first` if it is a setting.
            least: the shortest wait, by default half of `first`.
            rng: the source of jitter.

        Raises ValueError unless `first` and `maximum` are above 0.
        """
        if first <= 0 or maximum <= 0:
            raise ValueError(f"seconds must be above 0, not {first} and {maximum}")
        self._first = first = min(first, maximum)
        self._maximum = maximum
        self._least = first / 2 if least is None else least
        self._uniform = (rng or random).uniform
        self._tries = 0

    def next(self) -> float:
        """Return the seconds to wait before the next try."""
        ceiling = min(self._maximum, self._first * 2**self._tries)
        # Beyond the maximum the exponent would only grow into a float overflow.
        self._tries += ceiling < self._maximum
        return self._uniform(self._least, ceiling)

    def reset(self) -> None:
        """Start again with a short wait, after a success."""
        self._tries = 0
