"""How long to wait before the next attempt."""

from __future__ import annotations

import random

__all__ = ["Backoff"]


class Backoff:
    """Full jitter: anything up to a ceiling that doubles from `base` to `cap` seconds.

    Nothing else spreads clients that lost the same server as well: AWS Architecture Blog,
    "Exponential Backoff And Jitter".
    """

    def __init__(self, base: float, cap: float, rng: random.Random) -> None:
        if not 0 < base <= cap:
            raise ValueError(f"0 < base <= cap is needed, not {base} and {cap}")
        self._base = base
        self._cap = cap
        self._rng = rng
        self._tries = 0

    def next(self) -> float:
        """Seconds to wait before the next attempt."""
        ceiling = min(self._cap, self._base * 2**self._tries)
        # Beyond the ceiling the exponent would only grow into a float overflow.
        self._tries += ceiling < self._cap
        return self._rng.uniform(0, ceiling)

    def reset(self) -> None:
        """It worked: the next wait is a short one again."""
        self._tries = 0
