"""Histogram of latencies."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.bench.histogram import BINS, bin_of, quantiles, upper_bounds

# Compiles or loads the function before Hypothesis measures the time of an example.
bin_of(0)


@given(st.integers(0, 2**36 - 1))
def test_bin_contains_value_and_is_less_than_1_percent_wide(value: int) -> None:
    """The value is above the previous bin's bound."""
    bounds = upper_bounds()
    number = bin_of(value)

    assert value <= bounds[number]
    assert number == 0 or bounds[number - 1] < value
    assert bounds[number] <= value * 1.01


def test_values_out_of_range_count_in_first_and_last_bin() -> None:
    """Latencies are negative if a clock went back."""
    assert bin_of(-5) == 0
    assert bin_of(2**50) == BINS - 1


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=50), st.floats(0.01, 1))
def test_quantile_is_within_a_bin_of_the_exact_one(values: list[int], share: float) -> None:
    """The exact quantile is computed from the sorted values."""
    counts = np.zeros(BINS, np.int64)
    for value in values:
        counts[bin_of(value)] += 1
    exact = sorted(values)[max(0, int(np.ceil(share * len(values))) - 1)]

    (found,) = quantiles(counts, [share])

    assert exact / 1000 <= found <= exact * 1.01 / 1000


def test_quantiles_of_empty_histogram_are_empty() -> None:
    """A histogram without values has no quantiles."""
    assert quantiles(np.zeros(BINS, np.int64), [0.5]) == []
