"""Client addresses behind proxies, and the limits of one address."""

from __future__ import annotations

import struct
from collections import Counter
from ipaddress import ip_address, ip_network

import pytest
import trio

from odin_ws.testing.scenario import Scenario
from tests.scenarios.ops import metric, ops_request
from tests.scenarios.wire import RawClient, request

PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
PROXY = "10.0.0.1"


def proxy_header(source: str, *, command: int = 0x21, extra: bytes = b"") -> bytes:
    """Return a header of the PROXY protocol, version 2."""
    address = ip_address(source)
    family = 0x11 if address.version == 4 else 0x21
    rest = address.packed * 2 + struct.pack("!HH", 1234, 3002) + extra
    return b"\r\n\r\n\x00\r\nQUIT\n" + struct.pack("!BBH", command, family, len(rest)) + rest


async def status(scenario: Scenario, peer: str, first: bytes | None = None) -> int:
    """Connect from an address; return the HTTP status. The connection stays open."""
    client = await RawClient.dial(scenario, request() if first is None else first, peer=peer)
    head = await client.head()
    if head.startswith(b"HTTP/1.1 429 "):
        assert b"\r\nRetry-After: " in head
    return int(head.split()[1])


def forwarded(*, name: str = "X-Forwarded-For", value: str) -> bytes:
    """Return an upgrade request with a header in which a proxy names its client."""
    return request(headers={name: value})


async def peers(scenario: Scenario) -> list[str]:
    """Return the client addresses that operators see."""
    return sorted(
        client["peer"] for client in (await ops_request(scenario, "/clients")).json()["clients"]
    )


# ---- trusted proxies


@pytest.mark.odin_settings(ws_max_connections_per_ip=2)
@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
async def test_failing_20_forwarded_header_of_untrusted_peer_is_ignored(
    odin_scenario: Scenario, name: str
) -> None:
    """With `X-Forwarded-For: 127.0.0.1` too, the third connection of an address is rejected."""
    values = ["127.0.0.1", "198.51.100.1", "for=127.0.0.1", "localhost", "::1"]
    responses = [
        await status(odin_scenario, "203.0.113.5", forwarded(name=name, value=value))
        for value in values
    ]
    assert responses == [101, 101, 429, 429, 429]
    assert await peers(odin_scenario) == ["203.0.113.5"] * 2


@pytest.mark.odin_settings(ws_max_connections_per_ip=1, ws_trusted_proxies=PROXIES)
async def test_client_address_of_trusted_proxy_is_used(odin_scenario: Scenario) -> None:
    """Limits apply to each client behind it, and operators see the clients' addresses."""
    for number in range(3):
        head = forwarded(value=f"203.0.113.{number}")
        assert await status(odin_scenario, PROXY, head) == 101
        assert await status(odin_scenario, PROXY, head) == 429
    assert await peers(odin_scenario) == [f"203.0.113.{number}" for number in range(3)]


@pytest.mark.odin_settings(ws_max_connections_per_ip=1, ws_trusted_proxies=PROXIES)
async def test_failing_20_only_last_address_of_forwarded_header_is_used(
    odin_scenario: Scenario,
) -> None:
    """The proxy appends its client's address to the values that the client invented."""
    assert await status(odin_scenario, PROXY, forwarded(value="203.0.113.5")) == 101
    for invented in ("127.0.0.1", "10.0.0.9", "198.51.100.1, 10.0.0.9", "unknown", "x" * 50):
        head = forwarded(value=f"{invented}, 203.0.113.5")
        assert await status(odin_scenario, PROXY, head) == 429


@pytest.mark.odin_settings(ws_max_connections_per_ip=1, ws_trusted_proxies=PROXIES)
async def test_trusted_proxy_without_forwarded_header_has_its_own_limit(
    odin_scenario: Scenario,
) -> None:
    """The response names the limit and the proxy's address."""
    assert await status(odin_scenario, PROXY) == 101
    rejected = await RawClient.dial(odin_scenario, request(), peer=PROXY)
    assert b" 429 " in await rejected.head()
    assert await rejected.rest_bytes() == (
        b"too many connections: WS_MAX_CONNECTIONS_PER_IP is 1, and this is 10.0.0.1\n"
    )


@pytest.mark.odin_settings(
    ws_max_connections_per_ip=1, ws_trusted_proxies=PROXIES, ws_forwarded_header="Forwarded"
)
async def test_forwarded_header_is_a_setting(odin_scenario: Scenario) -> None:
    """With WS_FORWARDED_HEADER=Forwarded other headers do not count."""
    for number in range(3):
        client = {"Forwarded": f"for=203.0.113.{number};proto=https"}
        for spoofed, response in (("8.8.8.8", 101), ("9.9.9.9", 429)):
            head = request(headers=client | {"X-Forwarded-For": spoofed})
            assert await status(odin_scenario, PROXY, head) == response
    assert await peers(odin_scenario) == [f"203.0.113.{number}" for number in range(3)]


# Headers with which a client behind a proxy that writes X-Forwarded-For may try to hide.
SPOOFED = {
    "another header that disagrees": {"Forwarded": "for=9.9.9.9"},
    "another header that names the proxy": {"Forwarded": f"for={PROXY}"},
    "another header that is garbage": {"Forwarded": "for=\x22,;=\xff"},
    "another header that hides": {"Forwarded": "for=unknown"},
}


@pytest.mark.odin_settings(ws_max_connections=40, ws_trusted_proxies=PROXIES)
@pytest.mark.parametrize("case", SPOOFED)
async def test_header_other_than_the_configured_one_bypasses_no_limit(
    odin_scenario: Scenario, case: str
) -> None:
    """20 of 40 connections are accepted: the half that a public address may have by default."""
    head = request(headers={"X-Forwarded-For": "8.8.8.8"} | SPOOFED[case])
    assert await responses(odin_scenario, PROXY, 40, head) == {101: 20, 429: 20}


@pytest.mark.odin_settings(ws_max_connections=40, ws_trusted_proxies=PROXIES)
@pytest.mark.parametrize(
    "value", [None, "", "unknown", "10.0.0.7", "fd00::7, 10.0.0.7", ",,,", "x" * 50, "8.8.8.8, _x"]
)
async def test_proxy_that_names_no_client_has_a_limit_by_default(
    odin_scenario: Scenario, value: str | None
) -> None:
    """Its own address is private, but a missing or invalid header lifts no limit."""
    head = request() if value is None else forwarded(value=value)
    assert await responses(odin_scenario, PROXY, 40, head) == {101: 20, 429: 20}


@pytest.mark.odin_settings(
    ws_max_connections=40, ws_trusted_proxies=PROXIES, ws_proxy_protocol="required"
)
@pytest.mark.parametrize("spoofed", [None, "127.0.0.1", "8.8.8.8"])
async def test_proxy_header_without_an_address_lifts_no_limit(
    odin_scenario: Scenario, spoofed: str | None
) -> None:
    """A proxy that forwards TCP did not write the HTTP headers."""
    head = request() if spoofed is None else forwarded(value=spoofed)
    first = proxy_header("203.0.113.5", command=0x20) + head
    assert await responses(odin_scenario, PROXY, 40, first) == {101: 20, 429: 20}


@pytest.mark.odin_settings(ws_max_connections=40)
async def test_ipv6_addresses_of_one_ipv4_address_share_its_limit(odin_scenario: Scenario) -> None:
    """6to4, Teredo and NAT64 addresses contain an IPv4 address."""
    peers = [f"2002:808:808:{number:x}::1" for number in range(38)]
    peers += ["64:ff9b::808:808", "2001:0:102:304::f7f7:f7f7"]
    found = Counter([await status(odin_scenario, peer) for peer in peers])
    assert found == {101: 20, 429: 20}
    assert await status(odin_scenario, "8.8.8.8") == 429


@pytest.mark.odin_settings(ws_trusted_proxies=PROXIES, ws_proxy_protocol="required")
@pytest.mark.parametrize("client", ["203.0.113.5", "2001:db8::5"])
@pytest.mark.parametrize("extra", [b"", b"\x04\x00\x01x" * 50])
async def test_client_address_of_proxy_header_is_used(
    odin_scenario: Scenario, client: str, extra: bytes
) -> None:
    """Further fields of the PROXY header are skipped, and the request after it is read."""
    assert await status(odin_scenario, PROXY, proxy_header(client, extra=extra) + request()) == 101
    assert await peers(odin_scenario) == [client]


@pytest.mark.odin_settings(ws_trusted_proxies=PROXIES, ws_proxy_protocol="required")
async def test_proxy_header_with_command_local_uses_address_of_proxy(
    odin_scenario: Scenario,
) -> None:
    """Health checks of proxies send it."""
    first = proxy_header("203.0.113.5", command=0x20) + request()
    assert await status(odin_scenario, PROXY, first) == 101
    assert await peers(odin_scenario) == [PROXY]


@pytest.mark.odin_settings(ws_trusted_proxies=PROXIES, ws_proxy_protocol="required")
@pytest.mark.parametrize(
    ("peer", "first"),
    [
        ("203.0.113.5", proxy_header("203.0.113.9") + request()),
        ("203.0.113.5", request()),
        (PROXY, request()),
        (PROXY, b"PROXY TCP4 203.0.113.9 203.0.113.10 1 2\r\n" + request()),
        (PROXY, proxy_header("203.0.113.9", command=0x31) + request()),
        (PROXY, proxy_header("203.0.113.9", command=0x22) + request()),
        (PROXY, proxy_header("203.0.113.9", extra=b"x" * 5000) + request()),
        (PROXY, proxy_header("203.0.113.9")[:14] + b"\x00\x04abcd" + request()),
        (PROXY, proxy_header("203.0.113.9")[:20]),
        (PROXY, b""),
    ],
    ids=[
        "of a stranger",
        "a stranger without",
        "none",
        "version 1",
        "version 3",
        "no such command",
        "too long",
        "too short",
        "cut",
        "silence",
    ],
)
async def test_missing_or_invalid_proxy_header_is_rejected(
    odin_scenario: Scenario, peer: str, first: bytes
) -> None:
    """With a fallback, a client could choose its address."""
    assert await status(odin_scenario, peer, first) == 400
    labels = {"reason": "bad_proxy_header"}
    assert await metric(odin_scenario, "ws_connections_failed_total", **labels) == 1


async def test_proxy_header_without_the_setting_is_rejected(odin_scenario: Scenario) -> None:
    """It is an invalid request, whoever sends it."""
    assert await status(odin_scenario, PROXY, proxy_header("203.0.113.5") + request()) == 400


# ---- limits


@pytest.mark.odin_settings(ws_max_connections_per_ip=2)
async def test_connections_over_max_connections_per_ip_are_rejected(
    odin_scenario: Scenario,
) -> None:
    """The third gets 429 and is counted; other addresses, and the next after a close, do not."""
    first = await RawClient.dial(odin_scenario, request(), peer="203.0.113.5")
    await first.head()
    assert await status(odin_scenario, "203.0.113.5") == 101
    assert await status(odin_scenario, "203.0.113.5") == 429
    assert await status(odin_scenario, "203.0.113.6") == 101
    labels = {"reason": "max_connections_per_ip"}
    assert await metric(odin_scenario, "ws_connections_failed_total", **labels) == 1
    await first.stream.aclose()
    await trio.sleep(1)
    assert await status(odin_scenario, "203.0.113.5") == 101


@pytest.mark.odin_settings(ws_max_connections_per_ip=2)
async def test_ipv6_addresses_of_one_64_share_a_limit(odin_scenario: Scenario) -> None:
    """A /64 belongs to one owner."""
    responses = [
        await status(odin_scenario, f"2001:db8:0:{net}::{n}") for net in "12" for n in "abc"
    ]
    assert responses == [101, 101, 429] * 2


@pytest.mark.odin_settings(ws_connect_rate_per_ip=2)
async def test_connections_over_connect_rate_per_ip_are_rejected(odin_scenario: Scenario) -> None:
    """The burst is five seconds' worth; other addresses are not affected."""
    many = [await status(odin_scenario, "203.0.113.5") for _ in range(13)]
    assert many == [101] * 10 + [429] * 3
    assert await status(odin_scenario, "203.0.113.6") == 101
    labels = {"reason": "connect_rate_per_ip"}
    assert await metric(odin_scenario, "ws_connections_failed_total", **labels) == 3
    await trio.sleep(1)
    assert [await status(odin_scenario, "203.0.113.5") for _ in range(3)] == [101, 101, 429]


@pytest.mark.odin_settings(ws_connect_rate_per_ip=1, ws_connect_rate=2)
async def test_connections_over_connect_rate_are_rejected(odin_scenario: Scenario) -> None:
    """The burst is ten of all addresses; connections over their own rate do not count."""
    flood = [await status(odin_scenario, "203.0.113.5") for _ in range(50)]
    assert flood == [101] * 5 + [429] * 45
    others = [await status(odin_scenario, f"198.51.100.{n}") for n in range(6)]
    assert others == [101] * 5 + [429]
    labels = {"reason": "connect_rate"}
    assert await metric(odin_scenario, "ws_connections_failed_total", **labels) == 1


@pytest.mark.odin_settings(ws_connect_rate_per_ip=1)
async def test_connect_rate_applies_before_the_head_is_read(odin_scenario: Scenario) -> None:
    """Each attempt counts, whatever it requests."""
    for _ in range(5):
        assert await status(odin_scenario, "203.0.113.5", request("/elsewhere")) == 404
    assert await status(odin_scenario, "203.0.113.5", b"") == 429


@pytest.mark.odin_settings(ws_connect_rate_per_ip=1, ws_max_connections_per_ip=5)
async def test_failing_18_rate_limiter_forgets_idle_addresses(odin_scenario: Scenario) -> None:
    """An address is removed as soon as its burst is full again."""
    addresses = odin_scenario.service.server.handshaker.rate_limiter
    for number in range(500):
        client = await RawClient.dial(
            odin_scenario, request(), peer=f"198.18.{number % 250}.{number // 250}"
        )
        await client.head()
        await client.stream.aclose()
        await trio.sleep(0.1)
        assert len(addresses) < 20
    await trio.sleep(10)
    await status(odin_scenario, "203.0.113.5")
    assert len(addresses) == 1


# ---- by default


async def responses(
    scenario: Scenario, peer: str, count: int, first: bytes | None = None
) -> dict[int, int]:
    """Connect `count` times from an address; return the number of each status. All stay open."""
    return Counter([await status(scenario, peer, first) for _ in range(count)])


async def rejections(scenario: Scenario, label: str) -> float:
    """Return the number of rejections for a reason."""
    return await metric(scenario, "ws_connections_failed_total", reason=label)


@pytest.mark.parametrize("peer", ["8.8.8.8", "2606:4700::8", "::ffff:8.8.8.8"])
async def test_public_address_has_default_limits(odin_scenario: Scenario, peer: str) -> None:
    """100 connections a second, a burst of 500, and 1,000 in total."""
    assert (await responses(odin_scenario, peer, 520))[101] == pytest.approx(500, abs=5)
    assert await rejections(odin_scenario, "connect_rate_per_ip") == pytest.approx(20, abs=5)
    await trio.sleep(6)
    await responses(odin_scenario, peer, 490)
    await trio.sleep(6)
    await responses(odin_scenario, peer, 50)
    assert await metric(odin_scenario, "ws_connections_active") == 1000
    assert await rejections(odin_scenario, "max_connections_per_ip") > 0
    assert await status(odin_scenario, "1.1.1.1") == 101


@pytest.mark.odin_settings(ws_max_connections=100)
async def test_public_address_has_at_most_half_of_max_connections_by_default(
    odin_scenario: Scenario,
) -> None:
    """With WS_MAX_CONNECTIONS below 2,000 another address is still accepted."""
    assert await responses(odin_scenario, "8.8.8.8", 100) == {101: 50, 429: 50}
    assert await status(odin_scenario, "1.1.1.1") == 101


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "10.0.0.1", "fd00::1", "memory"])
async def test_private_address_has_no_limit_by_default(odin_scenario: Scenario, peer: str) -> None:
    """It may be a proxy that is not in WS_TRUSTED_PROXIES, with all clients behind it."""
    assert await responses(odin_scenario, peer, 1100) == {101: 1100}


@pytest.mark.odin_settings(ws_trusted_proxies=(ip_network("8.8.0.0/16"),))
async def test_clients_of_trusted_proxy_do_not_share_its_default_limit(
    odin_scenario: Scenario,
) -> None:
    """The proxy's own limit applies to connections without a client address."""
    for number in range(600):
        head = forwarded(value=f"1.1.{number // 250}.{number % 250}")
        assert await status(odin_scenario, "8.8.8.8", head) == 101
    assert (await responses(odin_scenario, "8.8.8.8", 520))[101] == pytest.approx(500, abs=5)


@pytest.mark.odin_settings(ws_max_connections_per_ip=0, ws_connect_rate_per_ip=0)
async def test_limits_of_0_are_no_limits_for_public_addresses(odin_scenario: Scenario) -> None:
    """WS_MAX_CONNECTIONS_PER_IP=0 and WS_CONNECT_RATE_PER_IP=0."""
    assert await responses(odin_scenario, "8.8.8.8", 1100) == {101: 1100}
