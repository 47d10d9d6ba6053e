"""A bucket allows its rate in the long run and its burst at once, and loses nothing to rounding."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.token_bucket import TokenBucket

rates = st.floats(0.1, 1e6)
bursts = st.floats(0.0, 1e4)
# Clocks of machines that have been up for a moment or for years.
starts = st.floats(0, 1e9)


@given(rates, bursts, starts)
def test_a_bucket_starts_full(rate: float, burst: float, start: float) -> None:
    """The burst may happen at once, and one may always."""
    assert TokenBucket(rate, burst, start).available(start) == max(1, int(burst + 1e-6))


@given(
    rates, bursts, starts, st.lists(st.tuples(st.floats(0, 10), st.integers(0, 100)), max_size=30)
)
def test_no_more_happens_than_rate_and_burst_allow(
    rate: float, burst: float, start: float, steps: list[tuple[float, int]]
) -> None:
    """Whoever spends only what is available stays under burst + rate x time, however it waits."""
    bucket = TokenBucket(rate, burst, start)
    now, spent = start, 0
    for wait, wanted in steps:
        now += wait
        available = bucket.available(now)
        assert 0 <= available <= max(1.0, burst) + 1e-6
        count = min(wanted, available)
        bucket.spend(count)
        spent += count
        assert spent <= max(1.0, burst) + rate * (now - start) + 1e-3


@given(rates, bursts, starts, st.integers(1, 100_000))
def test_who_waits_as_long_as_it_is_told_finds_the_bucket_full(
    rate: float, burst: float, start: float, spent: int
) -> None:
    """Also when more was spent than there was, and however times are rounded: no second wait."""
    bucket = TokenBucket(rate, burst, start)
    bucket.spend(spent)
    wait = bucket.seconds_until_full()
    assert wait > 0
    # The clock's next tick: the time told may be less than a float of this size can show.
    later = start + wait + start * 1e-12
    assert bucket.available(later) == max(1, int(burst + 1e-6))


@pytest.mark.parametrize("rate", [0.1, 3, 7, 999.9])
def test_at_a_rate_of_its_own_a_bucket_allows_one_at_a_time(rate: float) -> None:
    """Without room for more, everything waits for its turn."""
    bucket = TokenBucket(rate, 0, 0)
    now = 0.0
    for _ in range(50):
        assert bucket.available(now) == 1
        bucket.spend(1)
        assert bucket.available(now) == 0
        now += bucket.seconds_until_full()
    assert now == pytest.approx(50 / rate)


def test_what_was_overspent_is_waited_for() -> None:
    """A debt is paid before anything is available again."""
    bucket = TokenBucket(10, 10, 0)
    bucket.spend(30)
    assert bucket.available(1) == 0
    assert bucket.available(2) == 0
    assert bucket.available(2.5) == 5
    assert bucket.seconds_until_full() == pytest.approx(0.5)


def test_a_full_bucket_does_not_grow() -> None:
    """A pause is not saved up beyond the burst, and there is nothing to wait for."""
    bucket = TokenBucket(10, 5, 0)
    assert bucket.available(1e6) == 5
    assert bucket.seconds_until_full() == 0
