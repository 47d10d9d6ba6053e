"""The busiest channels and the most subscribed patterns, computed from history and index."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import pytest
import trio

from odin_ws.ops.console.channels import busiest_channels, most_subscribed
from odin_ws.testing.scenario import Scenario, open_scenario


async def test_channels_are_ranked_by_messages_a_second(odin_scenario: Scenario) -> None:
    """The rate is of the last 10 s; a row counts the subscribers of all matching patterns."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade", "*.trade"])
    await trio.sleep(1)
    for _ in range(20):
        odin_scenario.publish("BTC", "trade", {"price": 1})
    odin_scenario.publish("ETH", "social", {"price": 1})
    await client.messages(20)
    found = busiest_channels(odin_scenario.service.hub)
    assert found["messages"] == 21
    first, second = found["rows"]
    assert (first["channel"], first["messages_per_second"]) == ("BTC.trade", 2)
    assert first["subscribers"] == 2
    assert first["bytes_per_second"] > second["bytes_per_second"] > 0
    assert (second["channel"], second["subscribers"]) == ("ETH.social", 0)
    await trio.sleep(11)
    assert busiest_channels(odin_scenario.service.hub)["rows"] == []


async def test_records_from_before_the_start_do_not_count_in_rates(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """History loads old records at once; their arrival is no rate."""
    async with open_scenario() as before:
        before.publish("BTC", "trade", {"price": 1})
        log = before.log
    async with open_scenario(log=log) as scenario:
        await trio.sleep(1)
        assert len(scenario.service.hub.history) == 1
        assert busiest_channels(scenario.service.hub)["rows"] == []


async def test_window_of_a_fast_feed_is_shorter(
    odin_scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most a fixed number of messages is counted, over the time in which they came."""
    monkeypatch.setattr("odin_ws.ops.console.channels._WINDOW_MESSAGES", 10)
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade"])
    for _ in range(20):
        odin_scenario.publish("BTC", "trade", {"price": 1})
        await client.message()
        await trio.sleep(0.1)
    found = busiest_channels(odin_scenario.service.hub)
    assert found["messages"] == 10
    assert found["seconds"] == pytest.approx(1, abs=0.2)
    assert found["rows"][0]["messages_per_second"] == pytest.approx(10, rel=0.2)


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_without_history_there_are_no_rates(odin_scenario: Scenario) -> None:
    """The page names the setting that turns history off."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade"])
    odin_scenario.publish("BTC", "trade", {"price": 1})
    await client.message()
    assert busiest_channels(odin_scenario.service.hub)["rows"] == []


async def test_patterns_are_ranked_by_subscribers(odin_scenario: Scenario) -> None:
    """Patterns of every form are ranked; patterns without subscribers are left out."""
    clients = [await odin_scenario.connect() for _ in range(3)]
    for client in clients:
        await client.subscribe(channels=["*.trade"])
    await clients[0].subscribe(channels=["BTC.*", "*.*", "BTC.trade"])
    await clients[1].subscribe(channels=["BTC.*"])
    await clients[0].unsubscribe(channels=["BTC.trade"])
    assert await most_subscribed(odin_scenario.service.hub) == [
        {"pattern": "*.trade", "subscribers": 3},
        {"pattern": "BTC.*", "subscribers": 2},
        {"pattern": "*.*", "subscribers": 1},
    ]


async def test_many_patterns_are_ranked_in_slices(
    odin_scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other tasks run between slices, and the ranking covers all slices."""
    monkeypatch.setattr("odin_ws.ops.console.channels._SLICE", 10)
    client, other = await odin_scenario.connect(), await odin_scenario.connect()
    await client.subscribe(channels=[f"T{number}.trade" for number in range(95)])
    await other.subscribe(channels=["T90.trade"])
    rows = await most_subscribed(odin_scenario.service.hub)
    assert len(rows) == 20
    assert rows[0] == {"pattern": "T90.trade", "subscribers": 2}
