"""Waits grow up to the longest, with jitter, and start anew after a success."""

from __future__ import annotations

import itertools
import statistics

from hypothesis import given
from hypothesis import strategies as st

from odin_ws.backoff import Backoff


@given(st.floats(0.01, 1), st.floats(1, 60), st.integers(1, 2000))
def test_a_wait_is_never_longer_than_the_longest(first: float, most: float, tries: int) -> None:
    """Nor too short to be one, however often it was tried: it goes on for ever."""
    backoff = Backoff(first, most)
    for number in range(tries):
        ceiling = min(most, first * 2 ** min(number, 20))
        assert first / 2 <= backoff.next() <= ceiling


def test_waits_grow() -> None:
    """The first are short, and later ones longer on average."""
    runs = []
    for _ in range(200):
        backoff = Backoff(1, 64)
        runs.append([backoff.next() for _ in range(9)])
    means = [statistics.mean(column) for column in zip(*runs, strict=True)]
    assert all(later > 1.3 * earlier for earlier, later in itertools.pairwise(means[:7]))
    assert 20 < means[7] < 45
    assert 20 < means[8] < 45


def test_waits_differ() -> None:
    """Instances that lost the same broker do not all come back at once."""
    assert len({Backoff().next() for _ in range(20)}) == 20


def test_a_success_makes_the_next_wait_a_short_one() -> None:
    """It starts anew."""
    backoff = Backoff(0.1, 100)
    for _ in range(20):
        backoff.next()
    backoff.reset()
    assert backoff.next() <= 0.1
