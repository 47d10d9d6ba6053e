"""An EventSource that is rejected for its rate: it is told when to come back, and comes.

A browser never reconnects after a status other than 200, so it must not get a 429 before its
request was read.
"""

from __future__ import annotations

import pytest
import trio

from odin_ws.testing.scenario import Scenario
from tests.http_api.event_source import EventSource, sse_request
from tests.scenarios.ops import metric
from tests.scenarios.test_forwarded import PROXIES, PROXY, proxy_header
from tests.scenarios.wire import RawClient, request

PEER = "203.0.113.5"
QUERY = "channels=*.trade"
OF_A_BROWSER = {"Accept": "text/event-stream", "Origin": "https://app.example.com"}
ITS_REQUEST = sse_request(QUERY, OF_A_BROWSER)

# A burst of one.
ONE_PER_ADDRESS = pytest.mark.odin_settings(ws_connect_rate_per_ip=0.2)


async def use_up(scenario: Scenario, peer: str = PEER) -> None:
    """Connect as often as the rate allows: once."""
    client = await RawClient.dial(scenario, request("/healthz"), peer=peer)
    assert b" 200 " in await client.head()


async def rejections(scenario: Scenario, label: str = "connect_rate_per_ip") -> float:
    """How many were rejected for their rate."""
    return await metric(scenario, "ws_connections_failed_total", reason=label)


@ONE_PER_ADDRESS
async def test_rejected_event_source_gets_a_reconnect_time(odin_scenario: Scenario) -> None:
    """As an event of a stream that ends; after that time it is served."""
    await use_up(odin_scenario)
    source = await EventSource.open(odin_scenario, QUERY, headers=OF_A_BROWSER, peer=PEER)
    assert (source.status, source.headers["content-type"]) == (200, "text/event-stream")
    assert source.headers["access-control-allow-origin"] == OF_A_BROWSER["Origin"]
    (error,) = await source.rest()
    assert (error.name, error.json["code"]) == ("error", "NOT_AVAILABLE")
    assert source.parser.retry_ms is not None
    assert 2000 <= source.parser.retry_ms <= 11_000
    assert await rejections(odin_scenario) == 1
    await trio.sleep(max(5, source.parser.retry_ms / 1000))
    again = await EventSource.open(odin_scenario, QUERY, headers=OF_A_BROWSER, peer=PEER)
    assert (await again.event()).name == "subscription_ack"


@pytest.mark.odin_settings(ws_connect_rate=0.2)
async def test_event_source_is_rejected_by_the_rate_of_all_in_the_same_way(
    odin_scenario: Scenario,
) -> None:
    """WS_CONNECT_RATE too is checked before the request is read."""
    await use_up(odin_scenario)
    source = await EventSource.open(odin_scenario, QUERY, headers=OF_A_BROWSER, peer=PEER)
    assert [one.name for one in await source.rest()] == ["error"]
    assert await rejections(odin_scenario, "connect_rate") == 1


@ONE_PER_ADDRESS
async def test_programs_and_websockets_get_the_status(odin_scenario: Scenario) -> None:
    """They see it, and a Retry-After."""
    await use_up(odin_scenario)
    for first in (sse_request(QUERY), request(), b"GET /sse HTTP/1.1\r\nbad\r\n\r\n"):
        client = await RawClient.dial(odin_scenario, first, peer=PEER)
        head = await client.head()
        assert b" 429 " in head
        assert b"\r\nRetry-After: " in head
    assert await rejections(odin_scenario) == 3


@ONE_PER_ADDRESS
async def test_request_of_a_rejected_client_may_arrive_after_its_connection(
    odin_scenario: Scenario,
) -> None:
    """Over a network it always does."""
    await use_up(odin_scenario)
    client = await RawClient.dial(odin_scenario, ITS_REQUEST[:20], peer=PEER)
    await trio.sleep(0.5)
    await client.stream.send_all(ITS_REQUEST[20:])
    assert b" 200 " in await client.head()


@ONE_PER_ADDRESS
async def test_rejected_clients_cannot_keep_the_server_waiting(odin_scenario: Scenario) -> None:
    """One that sends nothing, or a byte now and then, is answered after a second."""
    await use_up(odin_scenario)

    async def trickle(client: RawClient) -> None:
        for byte in ITS_REQUEST:
            await client.stream.send_all(bytes([byte]))
            await trio.sleep(0.3)

    for trickles in (False, True):
        begun = trio.current_time()
        client = await RawClient.dial(odin_scenario, b"", peer=PEER)
        async with trio.open_nursery() as nursery:
            if trickles:
                nursery.start_soon(trickle, client)
            assert b" 429 " in await client.head()
            assert 0.9 < trio.current_time() - begun < 1.1
            nursery.cancel_scope.cancel()


@ONE_PER_ADDRESS
async def test_rejected_client_that_leaves_is_counted(odin_scenario: Scenario) -> None:
    """A flood of connections that are cut at once shows in the metrics."""
    await use_up(odin_scenario)
    for _ in range(3):
        client = await RawClient.dial(odin_scenario, b"", peer=PEER)
        await client.stream.aclose()
    await trio.sleep(3)
    assert await rejections(odin_scenario) == 3
    assert odin_scenario.service.server.stats.errors == 0


@pytest.mark.odin_settings(ws_connect_rate_per_ip=0.2, ws_max_pending_handshakes=5)
async def test_flood_of_rejected_clients_drops_only_rejected_clients(
    odin_scenario: Scenario,
) -> None:
    """A slow handshake of another address completes; the oldest rejected get their 429."""
    await use_up(odin_scenario)
    slow = await RawClient.dial(odin_scenario, ITS_REQUEST[:20], peer="203.0.113.6")
    flood = [await RawClient.dial(odin_scenario, b"", peer=PEER) for _ in range(100)]
    await trio.sleep(0.01)
    assert len(odin_scenario.service.server.handshaker.lingering) == 64
    with trio.fail_after(0.1):
        assert b" 429 " in await flood[0].head()
    await slow.stream.send_all(ITS_REQUEST[20:])
    assert b" 200 " in await slow.head()


@pytest.mark.odin_settings(
    ws_connect_rate_per_ip=0.2, ws_max_pending_handshakes=5, ws_trusted_proxies=PROXIES
)
async def test_flood_behind_a_proxy_drops_only_rejected_clients(odin_scenario: Scenario) -> None:
    """The proxy names the client over its rate in a header; it does not close after its 429."""
    named = {"X-Forwarded-For": PEER}
    first = await RawClient.dial(odin_scenario, request("/healthz", headers=named), peer=PROXY)
    assert b" 200 " in await first.head()
    slow = await RawClient.dial(odin_scenario, ITS_REQUEST[:20], peer="203.0.113.6")
    flood = [
        await RawClient.dial(odin_scenario, request(headers=named), peer=PROXY) for _ in range(100)
    ]
    for client in flood:
        assert b" 429 " in await client.head()
    await slow.stream.send_all(ITS_REQUEST[20:])
    assert b" 200 " in await slow.head()


@pytest.mark.odin_settings(ws_connect_rate_per_ip=0.2, ws_trusted_proxies=PROXIES)
async def test_event_source_behind_a_proxy_gets_a_reconnect_time(odin_scenario: Scenario) -> None:
    """The proxy names its client in a header: the rate is checked after the request."""
    headers = {**OF_A_BROWSER, "X-Forwarded-For": PEER}
    client = await RawClient.dial(
        odin_scenario, request("/healthz", headers={"X-Forwarded-For": PEER}), peer=PROXY
    )
    assert b" 200 " in await client.head()
    source = await EventSource.open(odin_scenario, QUERY, headers=headers, peer=PROXY)
    assert (source.status, [one.name for one in await source.rest()]) == (200, ["error"])


@pytest.mark.odin_settings(
    ws_connect_rate_per_ip=0.2, ws_trusted_proxies=PROXIES, ws_proxy_protocol="required"
)
async def test_event_source_behind_a_tcp_proxy_gets_a_reconnect_time(
    odin_scenario: Scenario,
) -> None:
    """The PROXY header names its client: the rate is checked before the request."""
    header = proxy_header(PEER)
    first = await RawClient.dial(odin_scenario, header + request("/healthz"), peer=PROXY)
    assert b" 200 " in await first.head()
    client = await RawClient.dial(odin_scenario, header + ITS_REQUEST, peer=PROXY)
    assert b" 200 " in await client.head()
    silent = await RawClient.dial(odin_scenario, header, peer=PROXY)
    assert b" 429 " in await silent.head()
