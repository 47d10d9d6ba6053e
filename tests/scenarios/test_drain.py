"""Graceful shutdown: no new clients, a close code for each client, and an end in time."""

from __future__ import annotations

from collections import Counter

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from odin_ws.auth.grants import Grant
from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.handshake.request import HandshakeRequest
from odin_ws.testing.scenario import Scenario
from tests.scenarios.ops import ops_request
from tests.scenarios.wire import Op, RawClient, request, texts

RESTARTING = (1012, "the server is restarting")


async def test_drain_ends_readiness_at_once(odin_scenario: Scenario) -> None:
    """Load balancers see 503 before anything else happens; liveness and health continue."""
    assert (await ops_request(odin_scenario, "/health/ready")).status_code == 200
    odin_scenario.stop()
    await wait_all_tasks_blocked()
    assert (await ops_request(odin_scenario, "/health/ready")).status_code == 503
    assert (await ops_request(odin_scenario, "/health/live")).status_code == 200
    assert (await ops_request(odin_scenario, "/health")).json()["warnings"] == ["draining"]


@pytest.mark.odin_settings(ws_drain_delay_seconds=4)
async def test_clients_are_accepted_during_drain_delay_only(odin_scenario: Scenario) -> None:
    """Clients that a load balancer still sends are served as usual."""
    odin_scenario.stop()
    await trio.sleep(3.9)
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade"])
    odin_scenario.publish("BTC", "trade", "served")
    assert (await client.message())["data"]["data"] == "served"
    await trio.sleep(0.2)
    with pytest.raises(ConnectionRefusedError):
        await odin_scenario.dial()
    closed = await client.closed()
    assert (closed.code, closed.reason) == RESTARTING


async def test_drain_sends_pending_messages_before_close(odin_scenario: Scenario) -> None:
    """A slow reader too gets the records published before the close, then 1012."""
    clients = [await RawClient.open(odin_scenario, capacity=500) for _ in range(20)]
    for client in clients:
        await client.subscribe("*.trade")
    for number in range(50):
        odin_scenario.publish("BTC", "trade", number)
    await trio.sleep(1)

    async def read(client: RawClient) -> None:
        *messages, advice, last = await client.rest()
        assert [text["data"]["data"] for text in texts(messages)] == list(range(50))
        assert advice.json["type"] == "reconnect"
        assert last.close == RESTARTING

    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(read, client)
        nursery.start_soon(odin_scenario.drain)
    assert odin_scenario.service.server.stats.closed == {DisconnectReason.DRAINING: 20}


@pytest.mark.odin_settings(ws_drain_delay_seconds=2)
async def test_records_are_delivered_during_drain(odin_scenario: Scenario) -> None:
    """Clients still connected get records that arrive during the drain."""
    client = await RawClient.open(odin_scenario)
    await client.subscribe("*.trade")
    odin_scenario.stop()
    for number in range(19):
        odin_scenario.publish("BTC", "trade", number)
        await trio.sleep(0.1)
    *messages, advice, last = await client.rest()
    assert [text["data"]["data"] for text in texts(messages)] == list(range(19))
    assert advice.json["type"] == "reconnect"
    assert last.close == RESTARTING


@pytest.mark.odin_settings(ws_drain_delay_seconds=1, ws_drain_timeout_seconds=20)
async def test_drain_spreads_closes_over_timeout(odin_scenario: Scenario) -> None:
    """Clients must not all reconnect to the other instances at the same moment."""
    clients = [await RawClient.open(odin_scenario) for _ in range(150)]
    started = trio.current_time()
    times: list[float] = []

    async def wait_for_close(client: RawClient) -> None:
        assert (await client.next_but_pings()).json["type"] == "reconnect"
        assert (await client.next()).close == RESTARTING
        times.append(trio.current_time() - started)
        await client.send(Op.CLOSE, b"\x03\xf4")

    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(wait_for_close, client)
        odin_scenario.stop()
    assert len(set(times)) == 150
    assert min(times) >= 1
    assert max(times) < 21


@pytest.mark.odin_settings(ws_drain_delay_seconds=1, ws_drain_timeout_seconds=3)
async def test_drain_ends_within_timeout_if_client_does_not_read(
    odin_scenario: Scenario,
) -> None:
    """WS_DRAIN_TIMEOUT_SECONDS bounds it."""
    stuck = await RawClient.open(odin_scenario, capacity=300)
    await stuck.subscribe("BTC.trade")
    for _ in range(20):
        odin_scenario.publish("BTC", "trade")
    await RawClient.dial(odin_scenario, b"GET /ws HT")
    await trio.sleep(0.5)
    started = trio.current_time()
    await odin_scenario.drain()
    assert trio.current_time() - started == pytest.approx(4)
    assert odin_scenario.service.server.stats.closed == {DisconnectReason.DRAINING: 1}
    assert len(await stuck.rest_bytes()) <= 300


@pytest.mark.odin_settings(ws_drain_delay_seconds=30)
async def test_drain_without_clients_takes_only_the_delay(odin_scenario: Scenario) -> None:
    """It does not wait for WS_DRAIN_TIMEOUT_SECONDS."""
    started = trio.current_time()
    await odin_scenario.drain()
    assert trio.current_time() - started == pytest.approx(30)


async def test_head_completed_after_drain_delay_is_answered_503(odin_scenario: Scenario) -> None:
    """The connection was accepted before the end of the delay."""
    late = await RawClient.dial(odin_scenario, request()[:50])
    odin_scenario.stop()
    await trio.sleep(1.5)
    await late.stream.send_all(request()[50:])
    head = await late.head()
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: " in head
    assert odin_scenario.service.server.admission.rejections == Counter({"draining": 1})


@pytest.mark.parametrize("target", ["/ws", "/sse?channels=BTC.trade"])
async def test_client_authenticated_after_drain_delay_is_answered_503(
    odin_scenario: Scenario, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    """It was admitted before; the drain neither waits for it nor cuts it off."""
    authenticator = odin_scenario.service.server.authenticator
    authenticate = authenticator.authenticate

    async def wait_for_keys(of: HandshakeRequest) -> Grant:
        await trio.sleep(2)
        return await authenticate(of)

    monkeypatch.setattr(authenticator, "authenticate", wait_for_keys)
    late = await RawClient.dial(odin_scenario, request(target))
    await trio.sleep(0.1)
    started = trio.current_time()
    await odin_scenario.drain()
    assert trio.current_time() - started < 4
    head = await late.head()
    assert head.startswith(b"HTTP/1.1 503 ")
    assert odin_scenario.service.server.admission.rejections == Counter({"draining": 1})


@pytest.mark.odin_settings(
    ws_drain_delay_seconds=0,
    ws_drain_timeout_seconds=15,
    ws_ping_interval_seconds=1,
    ws_positions_interval_seconds=1,
)
async def test_clients_that_wait_for_their_close_are_kept_alive(odin_scenario: Scenario) -> None:
    """A proxy would close silent ones, and they would return before their time."""
    clients = [await RawClient.open(odin_scenario) for _ in range(100)]
    pings: Counter[int] = Counter()

    async def wait_for_close(number: int, client: RawClient) -> None:
        while (frame := await client.next()).op is not Op.CLOSE:
            pings[number] += frame.op is Op.PING
        await client.send(Op.CLOSE, b"\x03\xf4")

    async with trio.open_nursery() as nursery:
        for number, client in enumerate(clients):
            nursery.start_soon(wait_for_close, number, client)
        odin_scenario.stop()
    assert max(pings.values()) >= 9


async def test_second_signal_closes_all_at_once_with_1012(odin_scenario: Scenario) -> None:
    """Nothing is awaited; clients that cannot receive the close frame are aborted."""
    reading = await RawClient.open(odin_scenario)
    stuck = await RawClient.open(odin_scenario, capacity=300)
    await stuck.subscribe("BTC.trade")
    for _ in range(20):
        odin_scenario.publish("BTC", "trade")
    await trio.sleep(0.5)
    odin_scenario.stop()
    await trio.sleep(0.5)
    started = trio.current_time()
    odin_scenario.cancel()
    await odin_scenario.drain()
    assert trio.current_time() == started
    assert await reading.close_frame() == RESTARTING
    assert len(await stuck.rest_bytes()) <= 300
    assert odin_scenario.service.server.stats.closed == {DisconnectReason.DRAINING: 2}
    assert odin_scenario.service.server.connections == set()


async def test_drain_does_not_change_reason_of_closing_connection(odin_scenario: Scenario) -> None:
    """It is counted once."""
    client = await RawClient.open(odin_scenario)
    await client.send(Op.BINARY, b"x")
    await trio.sleep(0.1)
    await odin_scenario.drain()
    (last,) = await client.rest()
    assert last.close[0] == 1003
    assert odin_scenario.service.server.stats.closed == {DisconnectReason.BINARY: 1}
