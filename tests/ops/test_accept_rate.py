"""Accept rates of the ops port: per address, and for all addresses."""

from __future__ import annotations

from odin_ws.ops.accept_rate import AcceptRate


def admitted(rate: AcceptRate, address: str, count: int, now: float) -> int:
    """Return how many of some connections are within the rates."""
    return sum(rate.admit(address, now) for _ in range(count))


def test_flood_of_one_address_leaves_the_rate_of_others() -> None:
    """Connections over an address's own rate do not use up the rate of all."""
    rate = AcceptRate(200, 100, burst=64)
    assert admitted(rate, "192.0.2.1", 500, 0) == 64
    flood = others = 0
    for tick in range(1, 101):
        now = tick / 10
        flood += admitted(rate, "192.0.2.1", 50, now)
        others += admitted(rate, "192.0.2.2", 5, now)
    assert 990 <= flood <= 1010
    assert others == 500


def test_all_addresses_together_have_a_rate() -> None:
    """A flood from many addresses is limited by the rate of all."""
    rate = AcceptRate(200, 100, burst=64)
    admitted(rate, "192.0.2.1", 100, 0)
    assert sum(admitted(rate, f"192.0.2.{n}", 10, 1.0) for n in range(1, 250)) == 64
    assert sum(admitted(rate, f"192.0.2.{n}", 10, 1.1) for n in range(1, 250)) == 20


def test_ipv6_network_shares_one_rate() -> None:
    """One client can use every address of its /64."""
    rate = AcceptRate(200, 100, burst=10)
    found = [rate.admit(f"2001:db8::{n:x}", 0) for n in range(1, 21)]
    assert found == [True] * 10 + [False] * 10


def test_least_recent_address_is_forgotten() -> None:
    """Memory is bounded: the address without connections for longest loses its record."""
    rate = AcceptRate(1e9, 1, burst=1)
    assert rate.admit("10.0.0.1", 0)
    assert not rate.admit("10.0.0.1", 0)
    for n in range(1024):
        assert rate.admit(f"10.1.{n // 256}.{n % 256}", 1000 + n)
    assert rate.admit("10.0.0.1", 3000)
