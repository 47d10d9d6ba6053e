"""`max_rate` through the whole server: commands, positions, resume, drain."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.testing.scenario import Scenario, ScenarioClient


async def prices(scenario: Scenario, count: int, *tokens: str) -> None:
    """Publish so many of each token, fifty a second."""
    for number in range(count):
        for token in tokens:
            scenario.publish(token, "analytics", number)
        await trio.sleep(0.02)


def numbers(messages: list[dict[str, Any]]) -> list[object]:
    """What was published with each message."""
    return [one["data"]["data"] for one in messages]


async def rest(client: ScenarioClient, seconds: float = 3) -> list[dict[str, Any]]:
    """The messages of the next seconds."""
    found = []
    with trio.move_on_after(seconds):
        while True:
            found.append(await client.message())
    return found


async def test_prices_come_slowly_while_trades_come_whole(odin_scenario: Scenario) -> None:
    """A rate belongs to a subscription; numbers and skipped ones add up over both."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["*.trade"])
    await client.subscribe(channels=["*.analytics"], max_rate=2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(prices, odin_scenario, 100, "BTC", "ETH")
        for number in range(20):
            odin_scenario.publish("BTC", "trade", number)
            await trio.sleep(0.1)
    messages = await rest(client)
    trades = [one for one in messages if one["channel"] == "BTC.trade"]
    assert numbers(trades) == list(range(20))
    for channel in ("BTC.analytics", "ETH.analytics"):
        found = [one for one in messages if one["channel"] == channel]
        # Two seconds at two a second, and the first one.
        assert 4 <= len(found) <= 6
        assert numbers(found)[-1] == 99
    assert sum(int(one.get("skipped", 0)) for one in messages) + len(messages) == 220
    assert messages[-1]["seq"] == 220
    # Other topics are other partitions: nothing is ahead of anything.
    assert not any("ahead" in one for one in messages)


@pytest.mark.odin_settings(ws_positions_interval_seconds=1)
async def test_positions_stay_before_what_is_held_back(odin_scenario: Scenario) -> None:
    """A notice between two releases names no position behind a held message."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade"], max_rate=0.1, positions=True)
    odin_scenario.publish("BTC", "trade", 0)
    first = await client.message()
    partition = str(first["pos"]).partition("-")[0]
    odin_scenario.publish("BTC", "trade", 1)
    await trio.sleep(2)
    notices = [await client.answer() for _ in range(2)]
    assert [one["type"] for one in notices] == ["positions"] * 2
    assert notices[-1]["positions"]["odin.trades"][partition] == 0
    assert numbers([await client.message()]) == [1]
    await trio.sleep(2)
    while (notice := await client.answer())["positions"]["odin.trades"][partition] == 0:
        pass
    assert notice["positions"]["odin.trades"][partition] == 1


async def test_who_resumes_gets_what_was_held_back(odin_scenario: Scenario) -> None:
    """It is after the client's position, whatever the rate; then the rate holds again."""
    client = await odin_scenario.connect()
    ack = await client.subscribe(channels=["BTC.trade"], max_rate=0.1, positions=True)
    odin_scenario.publish("BTC", "trade", 0)
    message = await client.message()
    odin_scenario.publish("BTC", "trade", 1)
    odin_scenario.publish("BTC", "trade", 2)
    await trio.sleep(1)
    client.stream.break_off()
    partition, _, offset = str(message["pos"]).partition("-")
    positions = {"odin.trades": {**ack["positions"]["odin.trades"], partition: int(offset)}}
    again = await odin_scenario.connect()
    resumed = await again.resume(positions, channels=["BTC.trade"], max_rate=0.1)
    assert resumed["replayed"] == 2
    assert numbers(await again.messages(2)) == [1, 2]
    for number in range(3, 6):
        odin_scenario.publish("BTC", "trade", number)
        await trio.sleep(0.2)
    assert numbers(await rest(again, 5)) == [3]
    assert numbers(await rest(again, 10)) == [5]


async def test_a_subscription_with_a_snapshot_has_its_rate_afterwards(
    odin_scenario: Scenario,
) -> None:
    """The snapshot comes whole, and what is new at the rate."""
    for token in ("BTC", "ETH"):
        odin_scenario.publish(token, "trade", token)
    await trio.sleep(1)
    client = await odin_scenario.connect()
    ack = await client.subscribe(channels=["*.trade"], snapshot=True, max_rate=1)
    assert ack["replayed"] == 2
    assert sorted(map(str, numbers(await client.messages(2)))) == ["BTC", "ETH"]
    for number in range(3):
        odin_scenario.publish("BTC", "trade", number)
        await trio.sleep(0.2)
    assert numbers(await rest(client)) == [0, 2]


async def test_what_is_held_back_comes_before_an_unsubscription(odin_scenario: Scenario) -> None:
    """And nothing after it."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade"], max_rate=0.1)
    for number in range(3):
        odin_scenario.publish("BTC", "trade", number)
        await trio.sleep(0.2)
    await client.unsubscribe(channels=["BTC.trade"])
    odin_scenario.publish("BTC", "trade", 3)
    assert numbers(await rest(client, 20)) == [0, 2]


async def test_a_drain_sends_what_is_held_back(odin_scenario: Scenario) -> None:
    """Before the advice to come back, so that the position is behind it."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade"], max_rate=0.1)
    for number in range(3):
        odin_scenario.publish("BTC", "trade", number)
        await trio.sleep(0.2)
    odin_scenario.stop()
    assert numbers(await client.messages(2)) == [0, 2]
    assert (await client.answer())["type"] == "reconnect"
    assert (await client.closed()).code == 1012


async def test_a_recreated_topic_does_not_mix_with_what_is_held_back(
    odin_scenario: Scenario,
) -> None:
    """What was held back of the old topic comes before the notice of the new one."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade"], max_rate=0.1, positions=True)
    for number in range(3):
        odin_scenario.publish("BTC", "trade", number)
        await trio.sleep(0.2)
    odin_scenario.log.recreate("odin.trades")
    found = []
    with trio.move_on_after(8):
        while True:
            found.append(json.loads(await client.websocket.get_message()))
    kinds = [one["type"] for one in found if one["type"] in ("message", "feed")]
    assert kinds == ["message", "message", "feed"]


async def test_a_slow_client_is_closed(
    odin_scenario: Scenario,
) -> None:
    """A rate is no excuse not to read: what waits on the wire is bounded as for others."""
    client = await odin_scenario.connect(capacity=200)
    await client.subscribe(channels=["*.trade"], max_rate=20)
    for number in range(2000):
        odin_scenario.publish(f"T{number % 100}", "trade", "x" * 2000)
        await trio.sleep(0.01)
    assert odin_scenario.service.server.stats.closed == {DisconnectReason.SLOW: 1}
