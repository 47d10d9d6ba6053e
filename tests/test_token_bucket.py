"""A token bucket allows its burst at once and its rate in the long run, without rounding errors."""

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
def test_bucket_starts_full(rate: float, burst: float, start: float) -> None:
    """The burst is available at once, and at least one token."""
    assert TokenBucket(rate, burst, start).available(start) == max(1, int(burst + 1e-6))


@given(
    rates, bursts, starts, st.lists(st.tuples(st.floats(0, 10), st.integers(0, 100)), max_size=30)
)
def test_taken_tokens_stay_within_rate_and_burst(
    rate: float, burst: float, start: float, steps: list[tuple[float, int]]
) -> None:
    """Taking only what is available never exceeds burst + rate x time, however the caller waits."""
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
def test_reported_wait_is_long_enough(rate: float, burst: float, start: float, spent: int) -> None:
    """Also after a debt, and however times are rounded: no second wait is necessary."""
    bucket = TokenBucket(rate, burst, start)
    bucket.spend(spent)
    wait = bucket.seconds_until_full()
    assert wait > 0
    # The clock's next tick: the wait may be less than a float of this size can represent.
    later = start + wait + start * 1e-12
    assert bucket.available(later) == max(1, int(burst + 1e-6))


@pytest.mark.parametrize("rate", [0.1, 3, 7, 999.9])
def test_bucket_without_a_burst_allows_one_at_a_time(rate: float) -> None:
    """Without a burst, each token must be waited for."""
    bucket = TokenBucket(rate, 0, 0)
    now = 0.0
    for _ in range(50):
        assert bucket.available(now) == 1
        bucket.spend(1)
        assert bucket.available(now) == 0
        now += bucket.seconds_until_full()
    assert now == pytest.approx(50 / rate)


def test_debt_is_waited_for() -> None:
    """A debt is paid before anything is available again."""
    bucket = TokenBucket(10, 10, 0)
    bucket.spend(30)
    assert bucket.available(1) == 0
    assert bucket.available(2) == 0
    assert bucket.available(2.5) == 5
    assert bucket.seconds_until_full() == pytest.approx(0.5)


def test_full_bucket_does_not_grow() -> None:
    """A pause adds nothing beyond the burst, and there is nothing to wait for."""
    bucket = TokenBucket(10, 5, 0)
    assert bucket.available(1e6) == 5
    assert bucket.seconds_until_full() == 0
