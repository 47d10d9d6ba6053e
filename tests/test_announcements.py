"""Feed notices: all clients get those of the whole feed, subscribers those of their topics."""

from __future__ import annotations

from typing import Any

import trio

from odin_ws.kafka.source_status import SourceState
from odin_ws.testing.scenario import Scenario, ScenarioClient


async def notices(client: ScenarioClient) -> list[dict[str, Any]]:
    """The feed notices that a client received, without their times."""
    found = []
    await trio.sleep(0.1)
    await client.send('{"type":"heartbeat"}')
    while (response := await client.response())["type"] != "pong":
        found.append(response)
    return [
        {name: value for name, value in item.items() if name in {"status", "topics"}}
        for item in found
        if item["type"] == "feed"
    ]


async def test_stalled_topic_is_announced_to_its_subscribers_only(odin_scenario: Scenario) -> None:
    """They get one notice when the stall begins, and one when it ends."""
    trades, social = await odin_scenario.connect(), await odin_scenario.connect()
    everything = await odin_scenario.connect()
    await trades.subscribe(channels=["BTC.trade"])
    await social.subscribe(channels=["BTC.social"])
    await everything.subscribe(channels=["*.*"])
    source_status = odin_scenario.service.source_status
    source_status.stalled_topics.value = frozenset({"odin.trades"})
    stalled = [{"status": "stalled", "topics": ["odin.trades"]}]
    assert [await notices(one) for one in (trades, social, everything)] == [stalled, [], stalled]
    source_status.stalled_topics.value = frozenset({"odin.trades", "odin.social"})
    more = [{"status": "stalled", "topics": ["odin.social"]}]
    assert [await notices(one) for one in (trades, social, everything)] == [[], more, more]
    source_status.stalled_topics.value = frozenset({"odin.social"})
    live = [{"status": "live", "topics": ["odin.trades"]}]
    assert [await notices(one) for one in (trades, social, everything)] == [live, [], live]


async def test_topics_that_stall_together_are_announced_separately(odin_scenario: Scenario) -> None:
    """A client subscribed to one topic gets no notice of the other, not even of its end."""
    social, everything = await odin_scenario.connect(), await odin_scenario.connect()
    await social.subscribe(channels=["BTC.social"])
    await everything.subscribe(channels=["*.*"])
    source_status = odin_scenario.service.source_status
    for status, topics in ("stalled", {"odin.trades", "odin.social"}), ("live", set[str]()):
        source_status.stalled_topics.value = frozenset(topics)
        of_social = {"status": status, "topics": ["odin.social"]}
        of_trades = {"status": status, "topics": ["odin.trades"]}
        assert await notices(social) == [of_social]
        assert await notices(everything) == [of_social, of_trades]


async def test_new_clients_receive_current_stalls(odin_scenario: Scenario) -> None:
    """A new subscriber gets every stalled topic of its subscription."""
    source_status = odin_scenario.service.source_status
    source_status.stalled_topics.value = frozenset({"odin.trades", "odin.social"})
    await trio.sleep(0.1)
    client = await odin_scenario.connect()
    assert await notices(client) == [
        {"status": "stalled", "topics": ["odin.social", "odin.trades"]}
    ]
    source_status.stalled_topics.value = frozenset()
    await trio.sleep(0.1)
    assert await notices(await odin_scenario.connect()) == []


async def test_stalled_feed_is_announced_to_every_client(odin_scenario: Scenario) -> None:
    """The notice has no topics: nothing is live; new clients also get the stalled topics."""
    client = await odin_scenario.connect()
    source_status = odin_scenario.service.source_status
    source_status.stalled_topics.value = frozenset({"odin.trades"})
    source_status.transition(SourceState.STALLED, "no broker")
    assert await notices(client) == [{"status": "stalled"}]
    late = await odin_scenario.connect()
    assert sorted(await notices(late), key=len) == [
        {"status": "stalled"},
        {"status": "stalled", "topics": ["odin.trades"]},
    ]
    source_status.transition(SourceState.LIVE)
    assert await notices(client) == [{"status": "live"}]
