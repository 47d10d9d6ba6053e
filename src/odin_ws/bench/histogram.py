"""Latencies in logarithmic bins: an error below 1% from a microsecond to a day, in 28 KB."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from odin_ws.bench.compiled import compiled

__all__ = ["BINS", "bin_of", "quantiles", "upper_bounds"]

# 128 bins per doubling: a bin is at most 1/128 of its value wide.
_SHIFT: Final = 7
_PER_DOUBLING: Final = 1 << _SHIFT

# Up to 2^36 microseconds, 19 hours.
_DOUBLINGS: Final = 29
BINS: Final = (_DOUBLINGS + 1) * _PER_DOUBLING


@compiled
def bin_of(microseconds: int) -> int:
    """Return the bin of a value; negative values count as 0, large ones fall into the last bin."""
    value = max(microseconds, 0)
    shift = 0
    while (value >> shift) >= 2 * _PER_DOUBLING:
        shift += 1
    return min(shift * _PER_DOUBLING + (value >> shift), BINS - 1)


def upper_bounds() -> NDArray[np.int64]:
    """Return the largest value of each bin, in microseconds."""
    number = np.arange(BINS, dtype=np.int64)
    shift = np.maximum(number // _PER_DOUBLING - 1, 0)
    bounds: NDArray[np.int64] = ((number - shift * _PER_DOUBLING + 1) << shift) - 1
    return bounds


def quantiles(counts: NDArray[np.int64], shares: Sequence[float]) -> list[float]:
    """Return quantiles in milliseconds; [] without values."""
    total = int(counts.sum())
    if not total:
        return []
    ranks = np.ceil(np.asarray(shares) * total)
    bins = np.searchsorted(np.cumsum(counts), np.maximum(ranks, 1))
    return [float(bound) / 1000 for bound in upper_bounds()[bins]]
