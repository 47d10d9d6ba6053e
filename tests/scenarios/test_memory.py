"""Near the memory limit the server accepts neither connections nor new subscriptions."""

from __future__ import annotations

from typing import Any

import pytest

from odin_ws.handshake.memory_budget import CONNECTION_BYTES
from odin_ws.testing.scenario import Scenario
from tests.scenarios.ops import metric
from tests.scenarios.wire import RawClient, request


def set_free_memory(scenario: Scenario, size: int) -> None:
    """Set the bytes that are free below the limit."""
    scenario.service.resources.budget.measured(0, size)


GROWING: list[tuple[str, dict[str, Any]]] = [
    ("subscribe", {"channels": ["ETH.trade"]}),
    ("subscribe", {"channels": ["ETH.trade"], "since_ms": 0}),
    ("subscribe", {"channels": ["BTC.trade"], "snapshot": True}),
    ("resume", {"channels": ["ETH.trade"], "positions": {}}),
]


@pytest.mark.parametrize(("kind", "data"), GROWING)
async def test_near_the_memory_limit_new_subscriptions_get_not_available(
    odin_scenario: Scenario, kind: str, data: dict[str, Any]
) -> None:
    """The error has a retry delay; existing subscriptions continue, and the retry succeeds."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade"])
    set_free_memory(odin_scenario, 100)
    error = await client.command(kind, **data)
    assert (error["type"], error["code"]) == ("error", "NOT_AVAILABLE"), error
    assert error["retry"] is True
    assert 2000 <= error["retry_ms"] <= 10_000
    assert "memory" in error["message"]
    odin_scenario.publish("BTC", "trade")
    assert (await client.message())["channel"] == "BTC.trade"
    assert len(odin_scenario.service.hub.index) == 1
    # Commands that need no memory succeed: the same subscription again, a heartbeat.
    await client.subscribe(channels=["BTC.trade"])
    assert (await client.command("heartbeat"))["type"] == "pong"
    set_free_memory(odin_scenario, 1 << 20)
    response = await client.command(kind, **data)
    assert response["type"] != "error", response


async def test_near_the_memory_limit_reconnect_is_rejected(odin_scenario: Scenario) -> None:
    """The earlier server's dialect has its own error."""
    client = await odin_scenario.connect()
    set_free_memory(odin_scenario, 100)
    error = await client.command("reconnect", client_id="1", last_pos={"ETH.trade": "0-0"})
    assert error["type"] == "reconnect_error"
    assert "memory" in error["message"]


async def test_subscriptions_are_estimated_between_memory_samples(odin_scenario: Scenario) -> None:
    """Between two samples many clients together cannot take more than the free memory."""
    clients = [await odin_scenario.connect() for _ in range(20)]
    set_free_memory(odin_scenario, 1 << 20)
    for number, client in enumerate(clients):
        names = [f"{number:03}-{one:03}-{'x' * 40}.trade" for one in range(200)]
        await client.command("subscribe", channels=names)
    assert 800 <= len(odin_scenario.service.hub.index) <= 1200


async def test_connections_are_estimated_between_memory_samples(odin_scenario: Scenario) -> None:
    """Connections that arrive within a second are not accepted beyond the limit."""
    set_free_memory(odin_scenario, 10 * CONNECTION_BYTES)
    for _ in range(10):
        await odin_scenario.connect()
    head = await (await RawClient.dial(odin_scenario, request())).head()
    assert head.startswith(b"HTTP/1.1 503 ")
    rejected = await metric(odin_scenario, "ws_capacity_rejections_total", reason="memory")
    assert rejected == 1


@pytest.mark.odin_settings(ws_max_subscription_bytes=1024)
async def test_patterns_beyond_max_subscription_bytes_are_rejected(odin_scenario: Scenario) -> None:
    """The limit counts UTF-8 bytes of all patterns; names that still fit are accepted."""
    client = await odin_scenario.connect()
    names = [f"{number}{'é' * 48}.trade" for number in range(10)]
    response = await client.command("subscribe", channels=names)
    assert response["subscribed"] == names[:9]
    (rejected,) = response["rejected"]
    assert rejected["code"] == "TOO_MANY_SUBSCRIPTIONS"
    assert "1024 bytes" in rejected["message"]
    await client.subscribe(channels=["BTC.trade"])
    # Patterns that it already has need no further bytes.
    await client.subscribe(channels=names[:9])
    await client.command("unsubscribe", channels=names[:1])
    await client.subscribe(channels=names[9:])


@pytest.mark.odin_settings(ws_max_subscription_bytes=1024)
async def test_reconnect_beyond_max_subscription_bytes_is_rejected(odin_scenario: Scenario) -> None:
    """It is rejected as a whole, as with too many patterns."""
    client = await odin_scenario.connect()
    starts = {f"{number}{'x' * 100}.trade": "0-0" for number in range(10)}
    error = await client.command("reconnect", client_id="1", last_pos=starts)
    assert error["type"] == "reconnect_error"
    assert "1024 bytes" in error["message"]
