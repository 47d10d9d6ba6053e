"""Where callers come from: who is believed about that, and how many one address may have."""

from __future__ import annotations

import struct
from collections import Counter
from ipaddress import ip_address, ip_network

import pytest
import trio

from odin_ws.testing.scenario import Scenario
from tests.scenarios.ops import ask, metric
from tests.scenarios.wire import RawClient, request

PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
PROXY = "10.0.0.1"


def proxy_header(source: str, *, command: int = 0x21, extra: bytes = b"") -> bytes:
    """A PROXY header, version 2."""
    address = ip_address(source)
    family = 0x11 if address.version == 4 else 0x21
    rest = address.packed * 2 + struct.pack("!HH", 1234, 3002) + extra
    return b"\r\n\r\n\x00\r\nQUIT\n" + struct.pack("!BBH", command, family, len(rest)) + rest


async def status(scenario: Scenario, peer: str, first: bytes | None = None) -> int:
    """How a caller from an address is answered; it stays connected."""
    client = await RawClient.dial(scenario, request() if first is None else first, peer=peer)
    head = await client.head()
    if head.startswith(b"HTTP/1.1 429 "):
        assert b"\r\nRetry-After: " in head
    return int(head.split()[1])


def forwarded(*, name: str = "X-Forwarded-For", value: str) -> bytes:
    """An upgrade that came through a proxy, as it says."""
    return request(headers={name: value})


async def peers(scenario: Scenario) -> list[str]:
    """The addresses that operators see."""
    return sorted(one["peer"] for one in (await ask(scenario, "/clients")).json()["clients"])


# ---- who is believed


@pytest.mark.odin_settings(ws_max_connections_per_ip=2)
@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
async def test_failing_20_a_header_bypasses_no_limit_of_an_address(
    odin_scenario: Scenario, name: str
) -> None:
    """`X-Forwarded-For: 127.0.0.1` from a stranger is only a header: the third is rejected."""
    values = ["127.0.0.1", "198.51.100.1", "for=127.0.0.1", "localhost", "::1"]
    answers = [
        await status(odin_scenario, "203.0.113.5", forwarded(name=name, value=value))
        for value in values
    ]
    assert answers == [101, 101, 429, 429, 429]
    assert await peers(odin_scenario) == ["203.0.113.5"] * 2


@pytest.mark.odin_settings(ws_max_connections_per_ip=1, ws_trusted_proxies=PROXIES)
async def test_a_trusted_proxy_is_believed(odin_scenario: Scenario) -> None:
    """Each client behind it has a place, and operators see the clients' addresses."""
    for number in range(3):
        head = forwarded(value=f"203.0.113.{number}")
        assert await status(odin_scenario, PROXY, head) == 101
        assert await status(odin_scenario, PROXY, head) == 429
    assert await peers(odin_scenario) == [f"203.0.113.{number}" for number in range(3)]


@pytest.mark.odin_settings(ws_max_connections_per_ip=1, ws_trusted_proxies=PROXIES)
async def test_failing_20_what_a_client_tells_its_proxy_bypasses_no_limit(
    odin_scenario: Scenario,
) -> None:
    """The proxy adds its client's address behind what the client has invented."""
    assert await status(odin_scenario, PROXY, forwarded(value="203.0.113.5")) == 101
    for invented in ("127.0.0.1", "10.0.0.9", "198.51.100.1, 10.0.0.9", "unknown", "x" * 50):
        head = forwarded(value=f"{invented}, 203.0.113.5")
        assert await status(odin_scenario, PROXY, head) == 429


@pytest.mark.odin_settings(ws_max_connections_per_ip=1, ws_trusted_proxies=PROXIES)
async def test_a_proxy_that_names_nobody_is_an_address_as_any(odin_scenario: Scenario) -> None:
    """Its limit is not lifted, and the answer says which one it is."""
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
    """With `Forwarded` the proxies' clients are named there, whatever is in the other header."""
    for number in range(3):
        client = {"Forwarded": f"for=203.0.113.{number};proto=https"}
        for spoofed, answer in (("8.8.8.8", 101), ("9.9.9.9", 429)):
            head = request(headers=client | {"X-Forwarded-For": spoofed})
            assert await status(odin_scenario, PROXY, head) == answer
    assert await peers(odin_scenario) == [f"203.0.113.{number}" for number in range(3)]


# What a client behind a proxy that writes X-Forwarded-For may send to be counted as somebody else.
SPOOFS = {
    "another header that disagrees": {"Forwarded": "for=9.9.9.9"},
    "another header that names the proxy": {"Forwarded": f"for={PROXY}"},
    "another header that is garbage": {"Forwarded": "for=\x22,;=\xff"},
    "another header that hides": {"Forwarded": "for=unknown"},
}


@pytest.mark.odin_settings(ws_max_connections=40, ws_trusted_proxies=PROXIES)
@pytest.mark.parametrize("case", SPOOFS)
async def test_header_that_the_proxy_does_not_write_bypasses_no_limit(
    odin_scenario: Scenario, case: str
) -> None:
    """20 of 40 get in, the half that a public address may have by default."""
    head = request(headers={"X-Forwarded-For": "8.8.8.8"} | SPOOFS[case])
    assert await answers(odin_scenario, PROXY, 40, head) == {101: 20, 429: 20}


@pytest.mark.odin_settings(ws_max_connections=40, ws_trusted_proxies=PROXIES)
@pytest.mark.parametrize(
    "value", [None, "", "unknown", "10.0.0.7", "fd00::7, 10.0.0.7", ",,,", "x" * 50, "8.8.8.8, _x"]
)
async def test_proxy_that_names_no_client_has_a_limit_by_default(
    odin_scenario: Scenario, value: str | None
) -> None:
    """Though its own address is private: absence and garbage lift no limit."""
    head = request() if value is None else forwarded(value=value)
    assert await answers(odin_scenario, PROXY, 40, head) == {101: 20, 429: 20}


@pytest.mark.odin_settings(
    ws_max_connections=40, ws_trusted_proxies=PROXIES, ws_proxy_protocol="required"
)
@pytest.mark.parametrize("spoofed", [None, "127.0.0.1", "8.8.8.8"])
async def test_proxy_header_without_an_address_lifts_no_limit(
    odin_scenario: Scenario, spoofed: str | None
) -> None:
    """A proxy that passes TCP on has not written the headers that come with it."""
    head = request() if spoofed is None else forwarded(value=spoofed)
    first = proxy_header("203.0.113.5", command=0x20) + head
    assert await answers(odin_scenario, PROXY, 40, first) == {101: 20, 429: 20}


@pytest.mark.odin_settings(ws_max_connections=40)
async def test_addresses_made_of_one_ipv4_address_share_its_places(odin_scenario: Scenario) -> None:
    """Of 6to4, Teredo and NAT64."""
    peers = [f"2002:808:808:{number:x}::1" for number in range(38)]
    peers += ["64:ff9b::808:808", "2001:0:102:304::f7f7:f7f7"]
    found = Counter([await status(odin_scenario, peer) for peer in peers])
    assert found == {101: 20, 429: 20}
    assert await status(odin_scenario, "8.8.8.8") == 429


@pytest.mark.odin_settings(ws_trusted_proxies=PROXIES, ws_proxy_protocol="required")
@pytest.mark.parametrize("client", ["203.0.113.5", "2001:db8::5"])
@pytest.mark.parametrize("extra", [b"", b"\x04\x00\x01x" * 50])
async def test_a_proxy_header_says_who_it_is(
    odin_scenario: Scenario, client: str, extra: bytes
) -> None:
    """Before the head, with whatever else the proxy has to tell; nothing behind it is lost."""
    assert await status(odin_scenario, PROXY, proxy_header(client, extra=extra) + request()) == 101
    assert await peers(odin_scenario) == [client]


@pytest.mark.odin_settings(ws_trusted_proxies=PROXIES, ws_proxy_protocol="required")
async def test_a_proxy_may_ask_for_itself(odin_scenario: Scenario) -> None:
    """As its health check does."""
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
async def test_without_a_good_proxy_header_nobody_comes_in(
    odin_scenario: Scenario, peer: str, first: bytes
) -> None:
    """Guessing would let a stranger choose its address."""
    assert await status(odin_scenario, peer, first) == 400
    labels = {"reason": "bad_proxy_header"}
    assert await metric(odin_scenario, "ws_connections_failed_total", **labels) == 1


async def test_a_proxy_header_nobody_asked_for_is_no_head(odin_scenario: Scenario) -> None:
    """Without the setting it is garbage, whoever sends it."""
    assert await status(odin_scenario, PROXY, proxy_header("203.0.113.5") + request()) == 400


# ---- how many


@pytest.mark.odin_settings(ws_max_connections_per_ip=2)
async def test_connections_of_an_address_are_limited(odin_scenario: Scenario) -> None:
    """The third is answered 429 and counted; when one leaves another may come; others may too."""
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
async def test_an_ipv6_network_of_one_owner_is_one_address(odin_scenario: Scenario) -> None:
    """A /64 has more addresses than anybody could count; another /64 is another owner's."""
    answers = [await status(odin_scenario, f"2001:db8:0:{net}::{n}") for net in "12" for n in "abc"]
    assert answers == [101, 101, 429] * 2


@pytest.mark.odin_settings(ws_connect_rate_per_ip=2)
async def test_connections_a_second_of_an_address_are_limited(odin_scenario: Scenario) -> None:
    """Five seconds' worth at once, then two a second; other addresses are not held up by it."""
    many = [await status(odin_scenario, "203.0.113.5") for _ in range(13)]
    assert many == [101] * 10 + [429] * 3
    assert await status(odin_scenario, "203.0.113.6") == 101
    labels = {"reason": "connect_rate_per_ip"}
    assert await metric(odin_scenario, "ws_connections_failed_total", **labels) == 3
    await trio.sleep(1)
    assert [await status(odin_scenario, "203.0.113.5") for _ in range(3)] == [101, 101, 429]


@pytest.mark.odin_settings(ws_connect_rate_per_ip=1, ws_connect_rate=2)
async def test_connections_a_second_are_limited(odin_scenario: Scenario) -> None:
    """Ten at once of all together; those who are over their own rate use up nothing of it."""
    flood = [await status(odin_scenario, "203.0.113.5") for _ in range(50)]
    assert flood == [101] * 5 + [429] * 45
    others = [await status(odin_scenario, f"198.51.100.{n}") for n in range(6)]
    assert others == [101] * 5 + [429]
    labels = {"reason": "connect_rate"}
    assert await metric(odin_scenario, "ws_connections_failed_total", **labels) == 1


@pytest.mark.odin_settings(ws_connect_rate_per_ip=1)
async def test_a_rate_is_judged_before_the_head_has_come(odin_scenario: Scenario) -> None:
    """A flood is answered without a head being read; attempts count, whatever they ask for."""
    for _ in range(5):
        assert await status(odin_scenario, "203.0.113.5", request("/elsewhere")) == 404
    assert await status(odin_scenario, "203.0.113.5", b"") == 429


@pytest.mark.odin_settings(ws_connect_rate_per_ip=1, ws_max_connections_per_ip=5)
async def test_failing_18_an_address_that_has_left_is_forgotten(odin_scenario: Scenario) -> None:
    """Nothing is left of thousands of addresses once they could begin anew."""
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


async def answers(
    scenario: Scenario, peer: str, count: int, first: bytes | None = None
) -> dict[int, int]:
    """How so many callers from an address are answered; they stay connected."""
    return Counter([await status(scenario, peer, first) for _ in range(count)])


async def rejections(scenario: Scenario, label: str) -> float:
    """How many were rejected for a reason."""
    return await metric(scenario, "ws_connections_failed_total", reason=label)


@pytest.mark.parametrize("peer", ["8.8.8.8", "2606:4700::8", "::ffff:8.8.8.8"])
async def test_by_default_a_public_address_cannot_take_all_places(
    odin_scenario: Scenario, peer: str
) -> None:
    """It has 100 connections a second, five seconds' worth at once, and 1,000 in all."""
    assert (await answers(odin_scenario, peer, 520))[101] == pytest.approx(500, abs=5)
    assert await rejections(odin_scenario, "connect_rate_per_ip") == pytest.approx(20, abs=5)
    await trio.sleep(6)
    await answers(odin_scenario, peer, 490)
    await trio.sleep(6)
    await answers(odin_scenario, peer, 50)
    assert await metric(odin_scenario, "ws_connections_active") == 1000
    assert await rejections(odin_scenario, "max_connections_per_ip") > 0
    assert await status(odin_scenario, "1.1.1.1") == 101


@pytest.mark.odin_settings(ws_max_connections=100)
async def test_by_default_a_public_address_has_half_of_the_places_at_most(
    odin_scenario: Scenario,
) -> None:
    """Also of a server with fewer than 2,000: somebody else still gets in."""
    assert await answers(odin_scenario, "8.8.8.8", 100) == {101: 50, 429: 50}
    assert await status(odin_scenario, "1.1.1.1") == 101


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "10.0.0.1", "fd00::1", "memory"])
async def test_by_default_an_address_that_is_not_public_has_no_limit(
    odin_scenario: Scenario, peer: str
) -> None:
    """A proxy that nobody has declared may be there, with all clients behind it."""
    assert await answers(odin_scenario, peer, 1100) == {101: 1100}


@pytest.mark.odin_settings(ws_trusted_proxies=(ip_network("8.8.0.0/16"),))
async def test_by_default_clients_of_a_trusted_proxy_do_not_share_its_limit(
    odin_scenario: Scenario,
) -> None:
    """Each has its own; so has the proxy where it names nobody."""
    for number in range(600):
        head = forwarded(value=f"1.1.{number // 250}.{number % 250}")
        assert await status(odin_scenario, "8.8.8.8", head) == 101
    assert (await answers(odin_scenario, "8.8.8.8", 520))[101] == pytest.approx(500, abs=5)


@pytest.mark.odin_settings(ws_max_connections_per_ip=0, ws_connect_rate_per_ip=0)
async def test_a_limit_of_an_address_can_be_lifted(odin_scenario: Scenario) -> None:
    """0 is no limit for public addresses too."""
    assert await answers(odin_scenario, "8.8.8.8", 1100) == {101: 1100}
