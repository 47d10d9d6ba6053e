"""The number of pending handshakes is limited, and silent connections keep no client out."""

from __future__ import annotations

import pytest
import trio

from odin_ws.testing.scenario import Scenario
from tests.scenarios.ops import metric
from tests.scenarios.wire import RawClient, request


@pytest.mark.odin_settings(ws_max_pending_handshakes=3)
async def test_oldest_pending_handshake_makes_room_for_new_one(odin_scenario: Scenario) -> None:
    """The fourth connection may continue; the first gets 503 with a Retry-After, and is counted."""
    first, *others = [await RawClient.dial(odin_scenario, b"GET /ws HT") for _ in range(4)]
    head = await first.head()
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: " in head
    await first.stream.aclose()
    await trio.sleep(1)
    assert await metric(odin_scenario, "ws_connections_pending") == 3
    labels = {"reason": "max_pending_handshakes"}
    assert await metric(odin_scenario, "ws_connections_failed_total", **labels) == 1
    assert await metric(odin_scenario, "ws_capacity_rejections_total", **labels) == 1
    for client in others:
        await client.stream.send_all(request()[len(b"GET /ws HT") :])
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
    assert await metric(odin_scenario, "ws_connections_pending") == 0


@pytest.mark.odin_settings(ws_max_pending_handshakes=3)
async def test_silent_connections_keep_no_client_out(odin_scenario: Scenario) -> None:
    """While 100 connections send nothing, a client that sends its head at once is accepted."""
    for _ in range(10):
        for _ in range(10):
            await RawClient.dial(odin_scenario, b"")
        await RawClient.open(odin_scenario)
        assert len(odin_scenario.service.server.handshaker.limiter) <= 3
    assert odin_scenario.service.server.admission.active == 10


@pytest.mark.odin_settings(ws_max_pending_handshakes=2)
@pytest.mark.parametrize("path", ["/elsewhere", "/healthz"])
async def test_answered_clients_that_stay_drop_no_handshake(
    odin_scenario: Scenario, path: str
) -> None:
    """Each gets its answer; beyond 64 the oldest is closed at once."""
    slow = await RawClient.dial(odin_scenario, request()[:20])
    clients = [await RawClient.dial(odin_scenario, request(path)) for _ in range(100)]
    await trio.sleep(0.01)
    assert len(odin_scenario.service.server.handshaker.lingering) == 64
    assert await metric(odin_scenario, "ws_connections_pending") == 65
    responses = [await client.head() for client in clients]
    assert {response.split()[1] for response in responses} <= {b"404", b"200"}
    await slow.stream.send_all(request()[20:])
    assert (await slow.head()).startswith(b"HTTP/1.1 101 ")
    await trio.sleep(2)
    assert await metric(odin_scenario, "ws_connections_pending") == 0
