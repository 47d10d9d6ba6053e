"""A rebalance closes the connections of clients whose topics lost partitions."""

from __future__ import annotations

import trio

from odin_ws.testing.scenario import Scenario
from tests.scenarios.wire import RawClient

TRADES = frozenset({"odin.trades"})


async def test_subscribers_of_revoked_topic_are_closed_with_advice(
    odin_scenario: Scenario,
) -> None:
    """They get reconnect advice and close 1012 `rebalanced`; other clients stay connected."""
    leaving = await RawClient.open(odin_scenario)
    await leaving.subscribe("BTC.trade")
    staying = await RawClient.open(odin_scenario)
    await staying.subscribe("BTC.liquidity")

    odin_scenario.service.hub.stream.revoked_topics.value = TRADES

    advice = (await leaving.next_but_pings()).json
    assert advice["type"] == "reconnect"
    assert advice["data"]["reason"] == "rebalanced"
    assert 0 <= advice["data"]["after_ms"] <= 1000
    assert (await leaving.next_but_pings()).close == (
        1012,
        "partitions have moved to another instance",
    )
    odin_scenario.publish("BTC", "liquidity")
    assert (await staying.next_but_pings()).json["type"] == "message"


async def test_client_whose_replay_runs_is_closed(odin_scenario: Scenario) -> None:
    """Its ack may have named a partition that is gone, and its subscription is not live yet."""
    odin_scenario.publish("BTC", "trade")
    odin_scenario.log_reader.hold()
    client = await RawClient.open(odin_scenario)
    await client.command("subscribe", channels=["*.trade"], since_ms=0)
    await trio.sleep(1)
    odin_scenario.service.hub.stream.revoked_topics.value = TRADES
    assert (await client.next_but_pings()).json["type"] == "reconnect"
    assert (await client.next_but_pings()).close[0] == 1012


async def test_second_rebalance_closes_connections_too(odin_scenario: Scenario) -> None:
    """A topic that was revoked before can be revoked again."""
    for _ in range(2):
        client = await RawClient.open(odin_scenario)
        await client.subscribe("*.trade")
        odin_scenario.service.hub.stream.revoked_topics.value = TRADES
        assert (await client.next_but_pings()).json["type"] == "reconnect"
