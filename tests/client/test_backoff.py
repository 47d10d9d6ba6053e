"""Waits are spread over all of a range that grows up to the longest, and start anew."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.client.backoff import Backoff
from tests.client.fake import Highest


@given(st.floats(0.01, 1), st.floats(1, 60), st.integers(1, 2000), st.integers())
def test_a_wait_is_within_its_ceiling(base: float, cap: float, tries: int, seed: int) -> None:
    """It doubles up to the longest, however often it was tried."""
    backoff = Backoff(base, cap, random.Random(seed))  # noqa: S311 -- jitter
    for number in range(tries):
        assert 0 <= backoff.next() <= min(cap, base * 2 ** min(number, 20))


def test_jitter_is_full() -> None:
    """Clients that lost the same server come back all over the time."""
    rng = random.Random(1)  # noqa: S311 -- jitter
    waits = sorted(Backoff(10, 10, rng).next() for _ in range(1000))
    assert waits[99] < 1.5
    assert waits[899] > 8.5


def test_a_success_makes_the_next_wait_a_short_one() -> None:
    """It starts anew."""
    backoff = Backoff(0.1, 100, Highest())
    for _ in range(20):
        backoff.next()
    assert backoff.next() == 100
    backoff.reset()
    assert backoff.next() == 0.1


@pytest.mark.parametrize(("base", "cap"), [(0, 1), (-1, 1), (2, 1)])
def test_a_range_makes_sense(base: float, cap: float) -> None:
    """Nothing to wait for would be a busy loop."""
    with pytest.raises(ValueError, match="base"):
        Backoff(base, cap, Highest())
