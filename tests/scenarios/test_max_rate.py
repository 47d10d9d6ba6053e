"""`max_rate` through the whole server: commands, positions, resume and drain."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.testing.scenario import Scenario, ScenarioClient


async def prices(scenario: Scenario, count: int, *tokens: str) -> None:
    """Publish `count` records of each token, 50 a second."""
    for number in range(count):
        for token in tokens:
            scenario.publish(token, "analytics", number)
        await trio.sleep(0.02)


def numbers(messages: list[dict[str, Any]]) -> list[object]:
    """Return the published data of each message."""
    return [message["data"]["data"] for message in messages]


async def rest(client: ScenarioClient, seconds: float = 3) -> list[dict[str, Any]]:
    """Return the messages of the next seconds."""
    found = []
    with trio.move_on_after(seconds):
        while True:
            found.append(await client.message())
    return found


async def test_max_rate_applies_to_its_subscription_only(odin_scenario: Scenario) -> None:
    """Sequence numbers and skipped messages add up over both subscriptions."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["*.trade"])
    await client.subscribe(channels=["*.analytics"], max_rate=2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(prices, odin_scenario, 100, "BTC", "ETH")
        for number in range(20):
            odin_scenario.publish("BTC", "trade", number)
            await trio.sleep(0.1)
    messages = await rest(client)
    trades = [message for message in messages if message["channel"] == "BTC.trade"]
    assert numbers(trades) == list(range(20))
    for channel in ("BTC.analytics", "ETH.analytics"):
        found = [message for message in messages if message["channel"] == channel]
        # 2 messages a second for 2 s, and the first one.
        assert 4 <= len(found) <= 6
        assert numbers(found)[-1] == 99
    assert sum(int(message.get("skipped", 0)) for message in messages) + len(messages) == 220
    assert messages[-1]["seq"] == 220
    # The topics have separate partitions, so no message overtakes another of its partition.
    assert not any("ahead" in message for message in messages)


@pytest.mark.odin_settings(ws_positions_interval_seconds=1)
async def test_positions_notice_stays_before_held_message(odin_scenario: Scenario) -> None:
    """A notice never has a position at or after a message that `max_rate` still holds back."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade"], max_rate=0.1, positions=True)
    odin_scenario.publish("BTC", "trade", 0)
    first = await client.message()
    partition = str(first["pos"]).partition("-")[0]
    odin_scenario.publish("BTC", "trade", 1)
    await trio.sleep(2)
    notices = [await client.response() for _ in range(2)]
    assert [notice["type"] for notice in notices] == ["positions"] * 2
    assert notices[-1]["positions"]["odin.trades"][partition] == 0
    assert numbers([await client.message()]) == [1]
    await trio.sleep(2)
    while (notice := await client.response())["positions"]["odin.trades"][partition] == 0:
        pass
    assert notice["positions"]["odin.trades"][partition] == 1


async def test_resume_replays_held_messages(odin_scenario: Scenario) -> None:
    """The replay ignores the rate; live messages afterwards have it."""
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


async def test_snapshot_ignores_max_rate_and_live_messages_have_it(
    odin_scenario: Scenario,
) -> None:
    """The snapshot is sent at once."""
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


async def test_unsubscribe_sends_held_message_first(odin_scenario: Scenario) -> None:
    """After the ack no message follows."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade"], max_rate=0.1)
    for number in range(3):
        odin_scenario.publish("BTC", "trade", number)
        await trio.sleep(0.2)
    await client.unsubscribe(channels=["BTC.trade"])
    odin_scenario.publish("BTC", "trade", 3)
    assert numbers(await rest(client, 20)) == [0, 2]


async def test_drain_sends_held_message(odin_scenario: Scenario) -> None:
    """It is sent before the reconnect advice, so the client's position includes it."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade"], max_rate=0.1)
    for number in range(3):
        odin_scenario.publish("BTC", "trade", number)
        await trio.sleep(0.2)
    odin_scenario.stop()
    assert numbers(await client.messages(2)) == [0, 2]
    assert (await client.response())["type"] == "reconnect"
    assert (await client.closed()).code == 1012


async def test_recreated_topic_sends_held_message_before_feed_notice(
    odin_scenario: Scenario,
) -> None:
    """A held message of the old topic must not follow the notice of the new one."""
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
    kinds = [item["type"] for item in found if item["type"] in ("message", "feed")]
    assert kinds == ["message", "message", "feed"]


async def test_slow_client_with_max_rate_is_closed(
    odin_scenario: Scenario,
) -> None:
    """The send queue is bounded as for other clients."""
    client = await odin_scenario.connect(capacity=200)
    await client.subscribe(channels=["*.trade"], max_rate=20)
    for number in range(2000):
        odin_scenario.publish(f"T{number % 100}", "trade", "x" * 2000)
        await trio.sleep(0.01)
    assert odin_scenario.service.server.stats.closed == {DisconnectReason.SLOW: 1}
