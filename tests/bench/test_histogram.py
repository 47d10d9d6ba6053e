"""Latencies in bins."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.bench.histogram import BINS, bin_of, quantiles, upper_bounds

# Compiled, or read from disk, before Hypothesis measures how long an example takes.
bin_of(0)


@given(st.integers(0, 2**36 - 1))
def test_bins(value: int) -> None:
    """A value is in the bin whose bounds are around it, and the bin is less than 1% wide."""
    bounds = upper_bounds()
    number = bin_of(value)

    assert value <= bounds[number]
    assert number == 0 or bounds[number - 1] < value
    assert bounds[number] <= value * 1.01


def test_values_out_of_range() -> None:
    """Clocks that went back count as 0, and what no bin holds is in the last one."""
    assert bin_of(-5) == 0
    assert bin_of(2**50) == BINS - 1


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=50), st.floats(0.01, 1))
def test_quantiles(values: list[int], share: float) -> None:
    """A quantile is that of the sorted values, within a bin."""
    counts = np.zeros(BINS, np.int64)
    for value in values:
        counts[bin_of(value)] += 1
    exact = sorted(values)[max(0, int(np.ceil(share * len(values))) - 1)]

    (found,) = quantiles(counts, [share])

    assert exact / 1000 <= found <= exact * 1.01 / 1000


def test_no_values() -> None:
    """Of nothing there is no quantile."""
    assert quantiles(np.zeros(BINS, np.int64), [0.5]) == []
