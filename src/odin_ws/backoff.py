"""How long to wait before trying again."""

from __future__ import annotations

import random

__all__ = ["Backoff"]


class Backoff:
    """Exponential back-off with full jitter, from `first` to `most` seconds.

    Full jitter spreads instances that lost the same broker best: see the AWS Architecture Blog,
    "Exponential Backoff And Jitter".
    """

    def __init__(self, first: float = 0.25, most: float = 10.0) -> None:
        self._first = first
        self._most = most
        self._tries = 0

    def next(self) -> float:
        """Seconds to wait before the next try."""
        ceiling = min(self._most, self._first * 2**self._tries)
        # Beyond the ceiling the exponent would only grow into a float overflow.
        self._tries += ceiling < self._most
        return random.uniform(self._first / 2, ceiling)  # noqa: S311 -- jitter, not a secret

    def reset(self) -> None:
        """It worked: the next wait is a short one again."""
        self._tries = 0
