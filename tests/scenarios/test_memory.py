"""Near the limit on memory nothing new begins, also for clients that are connected."""

from __future__ import annotations

from typing import Any

import pytest

from odin_ws.handshake.memory_budget import CONNECTION_BYTES
from odin_ws.testing.scenario import Scenario
from tests.scenarios.ops import metric
from tests.scenarios.wire import RawClient, request


def leave(scenario: Scenario, size: int) -> None:
    """Let so many bytes be left below the limit."""
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
    """With the time to try again; what the client has goes on, and it works once memory is back."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade"])
    leave(odin_scenario, 100)
    error = await client.command(kind, **data)
    assert (error["type"], error["code"]) == ("error", "NOT_AVAILABLE"), error
    assert error["retry"] is True
    assert 2000 <= error["retry_ms"] <= 10_000
    assert "memory" in error["message"]
    odin_scenario.publish("BTC", "trade")
    assert (await client.message())["channel"] == "BTC.trade"
    assert len(odin_scenario.service.hub.index) == 1
    # What takes no memory is carried out: the same again, less, a sign of life.
    await client.subscribe(channels=["BTC.trade"])
    assert (await client.command("heartbeat"))["type"] == "pong"
    leave(odin_scenario, 1 << 20)
    answer = await client.command(kind, **data)
    assert answer["type"] != "error", answer


async def test_near_the_memory_limit_a_reconnect_is_rejected(odin_scenario: Scenario) -> None:
    """In the form of the earlier server, which has errors of its own for it."""
    client = await odin_scenario.connect()
    leave(odin_scenario, 100)
    error = await client.command("reconnect", client_id="1", last_pos={"ETH.trade": "0-0"})
    assert error["type"] == "reconnect_error"
    assert "memory" in error["message"]


async def test_subscriptions_count_before_memory_is_measured(odin_scenario: Scenario) -> None:
    """Many clients at once do not take more than there is between two measurements."""
    clients = [await odin_scenario.connect() for _ in range(20)]
    leave(odin_scenario, 1 << 20)
    for number, client in enumerate(clients):
        names = [f"{number:03}-{one:03}-{'x' * 40}.trade" for one in range(200)]
        await client.command("subscribe", channels=names)
    assert 800 <= len(odin_scenario.service.hub.index) <= 1200


async def test_connections_count_before_memory_is_measured(odin_scenario: Scenario) -> None:
    """A crowd that comes within a second is not let in beyond the limit."""
    leave(odin_scenario, 10 * CONNECTION_BYTES)
    for _ in range(10):
        await odin_scenario.connect()
    head = await (await RawClient.dial(odin_scenario, request())).head()
    assert head.startswith(b"HTTP/1.1 503 ")
    rejected = await metric(odin_scenario, "ws_capacity_rejections_total", reason="memory")
    assert rejected == 1


@pytest.mark.odin_settings(ws_max_subscription_bytes=1024)
async def test_patterns_have_a_limit_of_bytes(odin_scenario: Scenario) -> None:
    """All together, in UTF-8; each name past it is rejected, and one that fits is not."""
    client = await odin_scenario.connect()
    names = [f"{one}{'é' * 48}.trade" for one in range(10)]
    answer = await client.command("subscribe", channels=names)
    assert answer["subscribed"] == names[:9]
    (rejected,) = answer["rejected"]
    assert rejected["code"] == "TOO_MANY_SUBSCRIPTIONS"
    assert "1024 bytes" in rejected["message"]
    await client.subscribe(channels=["BTC.trade"])
    # What it has already takes nothing more.
    await client.subscribe(channels=names[:9])
    await client.command("unsubscribe", channels=names[:1])
    await client.subscribe(channels=names[9:])


@pytest.mark.odin_settings(ws_max_subscription_bytes=1024)
async def test_a_reconnect_has_the_same_limit_of_bytes(odin_scenario: Scenario) -> None:
    """It is rejected as a whole, as with too many patterns."""
    client = await odin_scenario.connect()
    starts = {f"{one}{'x' * 100}.trade": "0-0" for one in range(10)}
    error = await client.command("reconnect", client_id="1", last_pos=starts)
    assert error["type"] == "reconnect_error"
    assert "1024 bytes" in error["message"]
