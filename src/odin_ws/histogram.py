"""Histograms for metrics: counts by bucket, cheap enough for the hot path."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

__all__ = ["Histogram"]


class Histogram:
    """Counts of values by bucket. `bounds`: ascending upper bounds, inclusive."""

    __slots__ = ("bounds", "counts", "maximum", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0
        self.maximum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count `value`, `times` times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times
        self.maximum = max(self.maximum, value)

    @property
    def samples(self) -> int:
        """The number of counted values."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """The mean of the values; 0 without any."""
        return self.total / max(1, self.samples)

    def quantile(self, share: float) -> float:
        """Return the upper bound of the quantile's bucket; the maximum for the last bucket."""
        rank = share * self.samples
        seen = 0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            seen += count
            if count and seen >= rank:
                return min(bound, self.maximum)
        return self.maximum
