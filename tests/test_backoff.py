"""Delays grow up to the maximum, with jitter, and start again after a success."""

from __future__ import annotations

import itertools
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.backoff import Backoff


@given(st.floats(0.01, 60), st.floats(0.01, 60), st.integers(1, 2000))
def test_delay_is_never_over_the_maximum(first: float, maximum: float, tries: int) -> None:
    """It has a lower bound too; `maximum` may be less than `first`."""
    backoff = Backoff(first, maximum)
    for number in range(tries):
        ceiling = min(maximum, first * 2 ** min(number, 20))
        assert min(first, maximum) / 2 <= backoff.next() <= ceiling


def test_delays_grow() -> None:
    """The first delays are short, and later ones longer on average."""
    runs = []
    for _ in range(200):
        backoff = Backoff(1, 64)
        runs.append([backoff.next() for _ in range(9)])
    means = [statistics.mean(column) for column in zip(*runs, strict=True)]
    assert all(later > 1.3 * earlier for earlier, later in itertools.pairwise(means[:7]))
    assert 20 < means[7] < 45
    assert 20 < means[8] < 45


def test_delays_differ() -> None:
    """Instances that lost the same broker do not reconnect at the same time."""
    assert len({Backoff().next() for _ in range(20)}) == 20


def test_success_resets_the_delay() -> None:
    """The next delay is the first again."""
    backoff = Backoff(0.1, 100)
    for _ in range(20):
        backoff.next()
    backoff.reset()
    assert backoff.next() <= 0.1


def test_jitter_is_full_without_a_lower_bound() -> None:
    """Without a lower bound, clients that lost the same server reconnect evenly over the time."""
    rng = random.Random(1)  # noqa: S311 -- jitter
    waits = sorted(Backoff(10, 10, least=0, rng=rng).next() for _ in range(1000))
    assert waits[99] < 1.5
    assert waits[899] > 8.5


def test_jitter_is_reproducible() -> None:
    """The caller provides the random numbers."""
    several = [Backoff(1, 60, rng=random.Random(7)) for _ in range(2)]  # noqa: S311 -- jitter
    for _ in range(9):
        assert len({one.next() for one in several}) == 1


@pytest.mark.parametrize(("first", "maximum"), [(0, 1), (-1, 1), (1, 0)])
def test_invalid_range_raises(first: float, maximum: float) -> None:
    """A delay of zero would be a busy loop."""
    with pytest.raises(ValueError, match="seconds must be above 0"):
        Backoff(first, maximum)
