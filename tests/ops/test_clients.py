"""`/clients` lists slow clients, the largest backlog first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import trio

from odin_ws.ops.clients import InvalidQuery, read_limit
from odin_ws.testing.scenario import Scenario
from tests.scenarios.ops import ops_request
from tests.scenarios.wire import RawClient


async def page(scenario: Scenario, query: str = "") -> dict[str, Any]:
    """Return the content of `/clients`."""
    response = await ops_request(scenario, f"/clients{query}")
    assert response.status_code == 200
    found: dict[str, Any] = response.json()
    return found


async def slow_client(scenario: Scenario, *channels: str, **data: Any) -> RawClient:
    """A subscriber that reads nothing, on a network that holds 4 KiB."""
    client = await RawClient.open(scenario, capacity=4096)
    await client.command("subscribe", channels=channels, **data)
    await client.next()
    return client


async def test_clients_page_without_clients_is_empty(odin_scenario: Scenario) -> None:
    """The totals are 0 and the list is empty."""
    assert await page(odin_scenario) == {
        "totals": dict.fromkeys(
            ["connections", "backlogged", "backlog_bytes", "replaying", "latest"], 0
        ),
        "clients": [],
    }


async def test_client_row_has_subscriptions_counts_and_ages(odin_scenario: Scenario) -> None:
    """Subscriptions, messages sent, age, time of the last received byte."""
    client = await odin_scenario.connect()
    await trio.sleep(2)
    await client.subscribe(channels=["BTC.trade", "ETH.*"])
    for _ in range(3):
        odin_scenario.publish("BTC", "trade")
    await client.messages(3)
    await trio.sleep(5)
    found = await page(odin_scenario)
    assert found["totals"] == {
        "connections": 1,
        "backlogged": 0,
        "backlog_bytes": 0,
        "replaying": 0,
        "latest": 0,
    }
    (one,) = found["clients"]
    received, connected = one.pop("idle_seconds"), one.pop("connected_seconds")
    assert one == {
        "peer": "memory",
        "user": None,
        "transport": "websocket",
        "backlog_bytes": 0,
        "waiting_seconds": 0,
        "seq": 3,
        "patterns": 2,
        "first_patterns": ["BTC.trade", "ETH.*"],
        "delivery": "all",
        "held_messages": 0,
        "replaying": False,
    }
    # It may have answered a ping since.
    assert 0 <= received <= connected - 2
    assert connected == pytest.approx(7, abs=0.5)


async def test_slow_client_row_has_backlog_and_its_age(odin_scenario: Scenario) -> None:
    """The bytes that wait, and since when."""
    await slow_client(odin_scenario, "BTC.trade")
    await trio.sleep(5)
    odin_scenario.publish("BTC", "trade", "x" * 10_000)
    await trio.sleep(3)
    odin_scenario.publish("BTC", "trade", "x" * 10_000)
    await trio.sleep(4)
    found = await page(odin_scenario)
    (one,) = found["clients"]
    assert 2 * 10_000 - 4096 < one["backlog_bytes"] < 2 * 10_200
    assert one["waiting_seconds"] == pytest.approx(7, abs=0.1)
    assert one["seq"] == 2
    assert found["totals"]["backlogged"] == 1
    assert found["totals"]["backlog_bytes"] == one["backlog_bytes"]


async def test_clients_are_sorted_by_backlog(odin_scenario: Scenario) -> None:
    """Equal backlogs are sorted by age; the totals count all clients, listed or not."""
    clients = {}
    for token in ("A", "B", "C", "D"):
        clients[token] = await slow_client(odin_scenario, f"{token}.trade")
        await trio.sleep(1)
    for token, size in (("B", 20_000), ("C", 30_000)):
        odin_scenario.publish(token, "trade", "x" * size)
    await trio.sleep(1)
    found = await page(odin_scenario)
    ages = [round(client["connected_seconds"]) for client in found["clients"]]
    assert ages == [3, 4, 5, 2]
    shorter = await page(odin_scenario, "?limit=1")
    assert [round(client["connected_seconds"]) for client in shorter["clients"]] == [3]
    assert shorter["totals"] == found["totals"]


async def test_default_limit_is_twenty(odin_scenario: Scenario) -> None:
    """`?limit=` lists more."""
    for _ in range(25):
        await RawClient.open(odin_scenario)
    assert len((await page(odin_scenario))["clients"]) == 20
    assert len((await page(odin_scenario, "?limit=1000"))["clients"]) == 25


@pytest.mark.odin_settings(ws_conflation_threshold_bytes=1000)
async def test_conflated_client_row_has_held_messages(odin_scenario: Scenario) -> None:
    """A client with `delivery: latest`: the number of messages held back."""
    await slow_client(odin_scenario, "*.trade", delivery="latest")
    odin_scenario.publish("BTC", "trade", "x" * 10_000)
    await trio.sleep(1)
    for token in ("BTC", "ETH", "BTC"):
        odin_scenario.publish(token, "trade")
    await trio.sleep(1)
    found = await page(odin_scenario)
    (one,) = found["clients"]
    assert (one["delivery"], one["held_messages"]) == ("latest", 2)
    assert found["totals"]["latest"] == 1


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_replaying_client_is_marked_until_live(odin_scenario: Scenario) -> None:
    """From the command to the end of its replay."""
    record = odin_scenario.publish("BTC", "trade")
    await trio.sleep(1)
    client = await RawClient.open(odin_scenario)
    odin_scenario.log_reader.hold()
    positions = {record.topic: {record.partition: -1}}
    await client.command("resume", channels=["BTC.trade"], positions=positions)
    await trio.sleep(1)
    seen = [await page(odin_scenario)]
    odin_scenario.log_reader.release()
    await trio.sleep(1)
    seen.append(await page(odin_scenario))
    assert (await client.next_but_pings()).json["replayed"] == 1
    assert [one["totals"]["replaying"] for one in seen] == [1, 0]
    assert [one["clients"][0]["replaying"] for one in seen] == [True, False]


@pytest.mark.parametrize(
    ("query", "limit"), [({}, 20), ({"limit": "1"}, 1), ({"limit": "1000"}, 1000)]
)
def test_valid_limits_are_1_to_1000(query: Mapping[str, str], limit: int) -> None:
    """Without `limit` it is 20."""
    assert read_limit(query) == limit


@pytest.mark.parametrize("text", ["0", "1001", "-1", "", "ten", "1.5", "٣", "²", "9" * 5000])
def test_invalid_limit_names_the_allowed_values(text: str) -> None:
    """The line has the range."""
    with pytest.raises(InvalidQuery, match=r"^limit=.*: must be an integer, 1 to 1000$"):
        read_limit({"limit": text})


async def test_invalid_clients_query_gets_400(odin_scenario: Scenario) -> None:
    """The line names the error, also for a misspelt parameter."""
    response = await ops_request(odin_scenario, "/clients?limit=all")
    assert (response.status_code, response.text) == (
        400,
        "limit=all: must be an integer, 1 to 1000\n",
    )
    response = await ops_request(odin_scenario, "/clients?limt=5")
    assert (response.status_code, response.text) == (
        400,
        "unknown parameter limt; allowed: limit\n",
    )
