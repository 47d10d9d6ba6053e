"""The rate limiter counts addresses, and forgets them when their count no longer matters."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from ipaddress import IPv6Address, IPv6Network

import pytest
import structlog
import trio
from hypothesis import assume, given
from hypothesis import strategies as st
from trio.testing import MockClock

from odin_ws.handshake.forwarded import ClientAddress, is_public, limit_key
from odin_ws.handshake.rate_limiter import PerAddressLimit, RateLimiter, RateLimits
from odin_ws.handshake.request import HTTPRejection


def allowed_attempts(limits: RateLimiter, address: str, count: int) -> int:
    """How many of so many attempts are let pass."""
    passed = 0
    for _ in range(count):
        try:
            limits.check_rate(ClientAddress(address))
        except HTTPRejection:
            continue
        passed += 1
    return passed


async def test_number_of_addresses_is_bounded(autojump_clock: MockClock) -> None:
    """The latest addresses keep their rate limit."""
    limits = RateLimiter(RateLimits(rate_per_address=PerAddressLimit(1)))
    for number in range(40_000):
        limits.check_rate(ClientAddress(f"192.0.{number // 256}.{number % 256}"))
    assert len(limits) == 16_384
    assert allowed_attempts(limits, f"192.0.{39_999 // 256}.{39_999 % 256}", 10) == 4


async def test_active_address_keeps_its_count(autojump_clock: MockClock) -> None:
    """It has its rate and no more, whichever addresses come and go."""
    limits = RateLimiter(RateLimits(rate_per_address=PerAddressLimit(2)))
    passed = 0
    for second in range(100):
        passed += allowed_attempts(limits, "203.0.113.5", 10)
        allowed_attempts(limits, f"198.51.100.{second}", 1)
        await trio.sleep(1)
    assert 200 <= passed <= 210
    assert len(limits) < 20


async def test_ended_connection_releases_its_place(autojump_clock: MockClock) -> None:
    """After any kind of end; an address without connections is forgotten."""
    limits = RateLimiter(RateLimits(connections_per_address=PerAddressLimit(2)))
    with ExitStack() as inside:
        for _ in range(2):
            inside.enter_context(limits.count_connection(ClientAddress("203.0.113.5")))
        with (
            pytest.raises(HTTPRejection) as caught,
            limits.count_connection(ClientAddress("203.0.113.5")),
        ):
            pass
        assert caught.value.label == "max_connections_per_ip"
        assert len(limits) == 1
    with pytest.raises(ZeroDivisionError), limits.count_connection(ClientAddress("203.0.113.5")):
        raise ZeroDivisionError
    assert len(limits) == 0


async def test_exceeded_limit_is_logged_once(
    autojump_clock: MockClock,
) -> None:
    """The line names the setting and the address: it may be a proxy's that sends no header."""
    limits = RateLimiter(RateLimits(rate_per_address=PerAddressLimit(1)))
    with structlog.testing.capture_logs() as lines:
        for _ in range(7):
            allowed_attempts(limits, "203.0.113.5", 20)
            await trio.sleep(5)
    assert len(lines) == 2
    assert lines[0]["log_level"] == "warning"
    assert (lines[0]["setting"], lines[0]["address"]) == ("WS_CONNECT_RATE_PER_IP", "203.0.113.5")


async def test_retry_after_varies(autojump_clock: MockClock) -> None:
    """Retry-After is not the same for all."""
    limits = RateLimiter(RateLimits(rate=1))
    waits = set()
    for _ in range(100):
        try:
            limits.check_rate(ClientAddress("203.0.113.5"))
        except HTTPRejection as rejection:
            waits.add(dict(rejection.headers)["Retry-After"])
    assert {int(wait) for wait in waits} <= set(range(2, 11))
    assert len(waits) > 1


# ---- limits that nobody has set

DEFAULTS = RateLimits(
    rate_per_address=PerAddressLimit.of(None, 2),
    connections_per_address=PerAddressLimit.of(None, 3),
)
PUBLIC = ["8.8.8.8", "2606:4700:0:1::1", "1.1.1.1", "2001:4860:4860::8888"]
OTHERS = ["127.0.0.1", "10.0.0.1", "192.168.1.1", "100.64.0.1", "169.254.1.1", "203.0.113.5"]
OTHERS += ["::1", "fd00::1", "fe80::1", "2001:db8::1", "::ffff:10.0.0.1", "", "unix", "memory"]


@pytest.mark.parametrize("address", OTHERS)
async def test_default_limits_public_addresses_only(
    autojump_clock: MockClock, address: str
) -> None:
    """Loopback, private networks and unknown addresses have no limit and use no memory."""
    limits = RateLimiter(DEFAULTS)
    assert allowed_attempts(limits, address, 100) == 100
    with ExitStack() as inside:
        for _ in range(100):
            inside.enter_context(limits.count_connection(ClientAddress(address)))
        assert len(limits) == 0


# Each has 8.8.8.8 within: as the kernel shows it, NAT64, 6to4, Teredo.
WITHIN = ["::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1", "2001:0:102:304::f7f7:f7f7"]
# No address of these should be there, and none is without a limit for that.
PRIVATE_WITHIN = ["64:ff9b::10.0.0.1", "2002:a00:1::1", "2001:0:a00:1::f5ff:fffe"]


@pytest.mark.parametrize("address", [*PUBLIC, *WITHIN, *PRIVATE_WITHIN])
async def test_default_limits_each_public_address(autojump_clock: MockClock, address: str) -> None:
    """IPv4, IPv4 inside IPv6, and IPv6."""
    limits = RateLimiter(DEFAULTS)
    assert allowed_attempts(limits, address, 100) == 10
    with ExitStack() as inside:
        for _ in range(3):
            inside.enter_context(limits.count_connection(ClientAddress(address)))
        with pytest.raises(HTTPRejection), limits.count_connection(ClientAddress(address)):
            pass


async def test_ipv6_addresses_that_embed_one_ipv4_address_share_its_limit(
    autojump_clock: MockClock,
) -> None:
    """With 6to4 alone it has 65,536 /64 networks."""
    limits = RateLimiter(DEFAULTS)
    assert (
        sum(allowed_attempts(limits, f"2002:808:808:{number:x}::1", 1) for number in range(100))
        == 10
    )
    for address in WITHIN:
        assert allowed_attempts(limits, address, 1) == 0
    assert allowed_attempts(limits, "2002:808:809::1", 1) == 1


@pytest.mark.parametrize("address", [*PUBLIC, *OTHERS])
async def test_proxy_without_a_client_address_has_the_public_limit(
    autojump_clock: MockClock, address: str
) -> None:
    """Whatever its own address: its clients are unknown."""
    limits = RateLimiter(DEFAULTS)
    client_address = ClientAddress(address, named=False)
    with ExitStack() as inside:
        for _ in range(3):
            limits.check_rate(client_address)
            inside.enter_context(limits.count_connection(client_address))
        with pytest.raises(HTTPRejection), limits.count_connection(client_address):
            pass
    for _ in range(7):
        limits.check_rate(client_address)
    with pytest.raises(HTTPRejection):
        limits.check_rate(client_address)


@pytest.mark.parametrize("address", [*PUBLIC, *OTHERS])
@pytest.mark.parametrize("maximum", [0, 1])
async def test_configured_limit_applies_to_every_address(
    autojump_clock: MockClock, address: str, maximum: int
) -> None:
    """Public or private; 0 is no limit for all."""
    limit = PerAddressLimit.of(maximum, 2)
    limits = RateLimiter(RateLimits(rate_per_address=limit, connections_per_address=limit))
    assert allowed_attempts(limits, address, 20) == (5 if maximum else 20)
    rejected = pytest.raises(HTTPRejection) if maximum else nullcontext()
    with (
        limits.count_connection(ClientAddress(address)),
        rejected,
        limits.count_connection(ClientAddress(address)),
    ):
        pass


async def test_log_line_of_an_address_limit_mentions_proxies(autojump_clock: MockClock) -> None:
    """The line of the total rate does not."""
    with structlog.testing.capture_logs() as lines:
        allowed_attempts(RateLimiter(DEFAULTS), "8.8.8.8", 20)
        allowed_attempts(RateLimiter(RateLimits(rate=1)), "8.8.8.8", 20)
    assert [line["setting"] for line in lines] == ["WS_CONNECT_RATE_PER_IP", "WS_CONNECT_RATE"]
    assert ["WS_TRUSTED_PROXIES" in line.get("hint", "") for line in lines] == [True, False]


@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from(PUBLIC + OTHERS)), max_size=60),
    st.one_of(st.none(), st.integers(0, 4)),
)
def test_place_is_granted_iff_one_is_free(
    calls: list[tuple[bool, str]], maximum: int | None
) -> None:
    """In any order of connects and ends; nothing is left after the last end."""

    async def come_and_go() -> None:
        limit = PerAddressLimit.of(maximum, 2)
        limits = RateLimiter(RateLimits(connections_per_address=limit))
        held: dict[str, list[ExitStack]] = {}
        for comes, address in calls:
            inside = held.setdefault(limit_key(address), [])
            allowed = (2 if address in PUBLIC else 0) if maximum is None else maximum
            if not comes:
                if inside:
                    inside.pop().close()
            elif allowed and len(inside) >= allowed:
                with pytest.raises(HTTPRejection), limits.count_connection(ClientAddress(address)):
                    pass
            else:
                inside.append(ExitStack())
                inside[-1].enter_context(limits.count_connection(ClientAddress(address)))
        for place in (place for inside in held.values() for place in inside):
            place.close()
        assert len(limits) == 0

    trio.run(come_and_go)


@given(st.ip_addresses(v=6), st.integers(0, (1 << 64) - 1))
def test_whole_network_of_an_owner_is_public_or_private(address: IPv6Address, other: int) -> None:
    """No lower half of an address avoids the limit of a public /64."""
    # What a translator makes of IPv4 addresses is as many owners'.
    assume(address not in IPv6Network("64:ff9b::/64") and address not in IPv6Network("2002::/16"))
    # In the registry for protocols there are single addresses of each kind, and no hosts.
    assume(int(address) >> 64 and address not in IPv6Network("2001::/23"))
    neighbour = IPv6Address(int(address) >> 64 << 64 | other)
    assert is_public(str(address)) == is_public(str(neighbour))
