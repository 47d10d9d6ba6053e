"""Addresses are counted as long as it matters, and forgotten then."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from contextlib import ExitStack

import pytest
import structlog
import trio
from trio.testing import MockClock

from odin_ws.connection.head import Refusal
from odin_ws.connection.limits import AddressLimits, ConnectLimits


def knocks(limits: ConnectLimits, address: str, count: int) -> int:
    """How many of so many attempts are let pass."""
    passed = 0
    for _ in range(count):
        try:
            limits.knock(address)
        except Refusal:
            continue
        passed += 1
    return passed


async def test_addresses_are_bounded(autojump_clock: MockClock) -> None:
    """However many come at once; those that came last are still held to their rate."""
    limits = ConnectLimits(AddressLimits(rate_per_address=1))
    for number in range(40_000):
        limits.knock(f"192.0.{number // 256}.{number % 256}")
    assert len(limits) == 16_384
    assert knocks(limits, f"192.0.{39_999 // 256}.{39_999 % 256}", 10) == 4


async def test_an_address_that_goes_on_is_not_forgotten(autojump_clock: MockClock) -> None:
    """It has its rate and no more, whatever others come and go meanwhile."""
    limits = ConnectLimits(AddressLimits(rate_per_address=2))
    passed = 0
    for second in range(100):
        passed += knocks(limits, "203.0.113.5", 10)
        knocks(limits, f"198.51.100.{second}", 1)
        await trio.sleep(1)
    assert 200 <= passed <= 210
    assert len(limits) < 20


async def test_places_are_given_back(autojump_clock: MockClock) -> None:
    """However a connection ends, and nothing is remembered of an address without any."""
    limits = ConnectLimits(AddressLimits(connections_per_address=2))
    with ExitStack() as inside:
        for _ in range(2):
            inside.enter_context(limits.hold("203.0.113.5"))
        with pytest.raises(Refusal) as caught, limits.hold("203.0.113.5"):
            pass
        assert caught.value.label == "max_connections_per_ip"
        assert len(limits) == 1
    with pytest.raises(ZeroDivisionError), limits.hold("203.0.113.5"):
        raise ZeroDivisionError
    assert len(limits) == 0


async def test_an_operator_hears_of_a_limit_that_bites_but_not_of_each_caller(
    autojump_clock: MockClock,
) -> None:
    """The line names the setting and the address: it may be a proxy's that names nobody."""
    limits = ConnectLimits(AddressLimits(rate_per_address=1))
    with structlog.testing.capture_logs() as lines:
        for _ in range(7):
            knocks(limits, "203.0.113.5", 20)
            await trio.sleep(5)
    assert len(lines) == 2
    assert lines[0]["log_level"] == "warning"
    assert (lines[0]["setting"], lines[0]["address"]) == ("WS_CONNECT_RATE_PER_IP", "203.0.113.5")


async def test_those_turned_away_come_back_spread(autojump_clock: MockClock) -> None:
    """Retry-After is not the same for all."""
    limits = ConnectLimits(AddressLimits(rate=1))
    waits = set()
    for _ in range(100):
        try:
            limits.knock("203.0.113.5")
        except Refusal as refusal:
            waits.add(dict(refusal.headers)["Retry-After"])
    assert {int(wait) for wait in waits} <= set(range(2, 11))
    assert len(waits) > 1
