"""Counts by bucket say of values what a sorted list of them says, as exactly as buckets can."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from odin_ws.distribution import Distribution

values = st.floats(0, 100) | st.integers(0, 20).map(float)
bounds = st.lists(values, min_size=1, max_size=8, unique=True).map(sorted)
observed = st.lists(st.tuples(values, st.integers(1, 5)), min_size=1, max_size=20)


def distribution(limits: list[float], samples: list[tuple[float, int]]) -> Distribution:
    """Values that were seen so many times."""
    made = Distribution(limits)
    for value, times in samples:
        made.observe(value, times)
    return made


@given(bounds, observed)
def test_a_value_falls_into_the_first_bucket_it_fits(
    limits: list[float], samples: list[tuple[float, int]]
) -> None:
    """Bounds are inclusive, as Prometheus has them; what fits none is counted behind the last."""
    plain = [value for value, times in samples for _ in range(times)]
    edges = [-math.inf, *limits, math.inf]
    assert distribution(limits, samples).counts == [
        sum(low < value <= high for value in plain) for low, high in itertools.pairwise(edges)
    ]


@given(bounds, observed)
def test_sums_and_extremes_are_exact(limits: list[float], samples: list[tuple[float, int]]) -> None:
    """Number, total, mean and maximum do not depend on the buckets."""
    plain = [value for value, times in samples for _ in range(times)]
    made = distribution(limits, samples)
    assert made.samples == len(plain)
    assert made.total == pytest.approx(sum(plain))
    assert made.mean == pytest.approx(sum(plain) / len(plain))
    assert made.maximum == max(plain)


@given(bounds, observed, st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]) | st.floats(0, 1))
@example([1.0, 2.0], [(1.0, 1), (2.0, 1)], 0.5)
@example([1.0, 2.0], [(2.0, 1)], 0.0)
def test_a_quantile_is_the_bound_of_the_bucket_it_is_in(
    limits: list[float], samples: list[tuple[float, int]], share: float
) -> None:
    """It is never less than the true one, and no further from it than its bucket is wide."""
    plain = sorted(value for value, times in samples for _ in range(times))
    true = plain[max(1, math.ceil(share * len(plain))) - 1]
    expected = min([limit for limit in limits if limit >= true], default=math.inf)
    assert distribution(limits, samples).quantile(share) == min(expected, plain[-1])


def test_without_values_everything_is_0() -> None:
    """A page that is read before the first value has numbers on it."""
    empty = Distribution([1, 2])
    assert (empty.samples, empty.total, empty.mean, empty.maximum) == (0, 0, 0, 0)
    assert empty.quantile(0.99) == 0
    assert empty.counts == [0, 0, 0]
