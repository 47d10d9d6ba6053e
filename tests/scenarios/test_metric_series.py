"""The number of time series of /metrics is bounded: no client's input becomes a label."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

import odin_ws
from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.testing.scenario import Scenario
from tests.scenarios.disconnects import end_connection, every_disconnect_reason
from tests.scenarios.ops import get, metrics, post
from tests.scenarios.test_upgrade import REJECTED
from tests.scenarios.wire import Op, RawClient, request

# With the default catalogue, buckets included; a new metric may raise it. The limit is to detect a
# label with as many values as there are clients, names or requests.
MAX_SERIES = 400

Series = set[tuple[str, frozenset[tuple[str, str]]]]


async def series(scenario: Scenario) -> Series:
    """Return all time series."""
    return set(await metrics(scenario))


@pytest.fixture(name="before")
async def series_at_start(odin_scenario: Scenario) -> Series:
    """The time series of a server that has read every topic and had no connection."""
    for topic in odin_scenario.service.hub.stream.topics:
        odin_scenario.log.append(topic, b"BTC", b"{}")
    await trio.sleep(1)
    return await series(odin_scenario)


async def test_number_of_series_is_bounded(before: Series) -> None:
    """All series exist from the start."""
    assert 150 < len(before) <= MAX_SERIES


async def test_upgrade_requests_add_no_series(odin_scenario: Scenario, before: Series) -> None:
    """Invalid requests, and any paths, origins and methods."""
    heads = [one for one, _, _ in REJECTED.values()]
    heads += [request(f"/{number}") for number in range(20)]
    heads += [request(headers={"Origin": f"https://{number}.example"}) for number in range(20)]
    heads += [request(method=f"METHOD{number}") for number in range(20)]
    for number, head in enumerate(heads):
        stream = await odin_scenario.dial(peer=f"192.0.2.{number % 250}")
        await stream.send_all(head)
        await stream.aclose()
    await trio.sleep(60)
    assert await series(odin_scenario) == before


async def test_commands_add_no_series(odin_scenario: Scenario, before: Series) -> None:
    """Unknown types, channels, topics and positions, and any ids."""
    clients = [await RawClient.open(odin_scenario) for _ in range(20)]
    for number, client in enumerate(clients):
        positions = {f"topic.{number}": {str(number): number}, "odin.trades": {"99999": 5}}
        await client.command(f"type{number}", id=f"id{number}")
        await client.command("subscribe", channels=[f"T{number}.trade", f"a.b.c.{number}", "*.*"])
        await client.command("subscribe", topics=[f"topic.{number}"], bundles=[f"b{number}"])
        await client.command("unsubscribe", channels=[f"T{number}.other"])
        await client.command("resume", channels=["*.*"], positions=positions)
        await client.command("auth", token=f"token{number}")
        await client.send(Op.TEXT, b"{" * number)
        odin_scenario.publish(f"T{number}", "trade", kind=f"KIND_{number}")
    odin_scenario.log.append("odin.trades", None, b"not JSON")
    await trio.sleep(5)
    assert await series(odin_scenario) == before


@every_disconnect_reason
async def test_disconnect_adds_no_series(
    odin_scenario: Scenario, before: Series, reason: DisconnectReason
) -> None:
    """The series of each reason exists from the start."""
    await end_connection(odin_scenario, reason)
    assert await series(odin_scenario) == before


async def test_ops_requests_add_no_series(odin_scenario: Scenario, before: Series) -> None:
    """Any host, page and method."""
    for number in range(50):
        await get(odin_scenario, f"/page{number}")
        await get(odin_scenario, f"/clients?limit={number}")
        await get(odin_scenario, f"/metrics?x={number}", headers={"Host": f"{number}.example"})
        await get(odin_scenario, "/health", headers={"Origin": f"https://{number}.example"})
        await post(odin_scenario, "/revocations", json={"user": f"user{number}"})
        await post(odin_scenario, "/metrics", json={})
    assert await series(odin_scenario) == before


def rejection_labels() -> Iterator[str]:
    """Yield the label of each HTTPRejection that the source raises with a constant label."""
    for file in Path(odin_ws.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "HTTPRejection":
                label = node.args[1]
                if isinstance(label, ast.Constant):
                    yield str(label.value)


async def test_each_rejection_reason_has_its_series_from_the_start(before: Series) -> None:
    """An alert on a rate needs a first zero: a new reason belongs in the metric's list."""
    counted = {
        dict(labels)["reason"] for name, labels in before if name == "ws_connections_failed_total"
    }
    found = set(rejection_labels())
    assert len(found) > 10
    assert found <= counted
