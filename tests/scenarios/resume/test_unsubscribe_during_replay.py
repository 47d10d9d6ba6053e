"""An unsubscribe during a replay ends it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from odin_ws.settings import Settings
from odin_ws.testing.assertions import offsets_of
from odin_ws.testing.follower import key_of
from odin_ws.testing.scenario import Scenario
from tests.scenarios.resume.following import after, all_messages, following, publish, send
from tests.scenarios.wire import Op, RawClient, frame, texts


def after_ack(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the items after the unsubscription_ack."""
    kinds = [item["type"] for item in items]
    return items[kinds.index("unsubscription_ack") + 1 :]


def messages(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return only the messages."""
    return [item for item in items if "seq" in item]


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_unsubscribe_before_ack_of_resume_ends_it(odin_scenario: Scenario) -> None:
    """Neither missed nor later records are delivered."""
    records = await publish(odin_scenario, 5)
    client = await odin_scenario.connect()
    odin_scenario.log_reader.hold()
    await send(client, "resume", positions=after(records[0]), channels=["BTC.trade"])
    await trio.sleep(1)
    ack = await client.unsubscribe(channels=["BTC.trade"])
    assert (ack["unsubscribed"], ack["count"]) == (["BTC.trade"], 0)
    odin_scenario.log_reader.release()
    assert (await client.response())["count"] == 0
    await publish(odin_scenario, 2)
    assert await client.silence(30)


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_resume_and_unsubscribe_in_one_packet_deliver_nothing_after_ack(
    odin_scenario: Scenario,
) -> None:
    """Whichever task runs first."""
    records = await publish(odin_scenario, 5)
    commands = [
        {"type": "resume", "data": {"positions": after(records[0]), "channels": ["BTC.trade"]}},
        {"type": "unsubscribe", "data": {"channels": ["BTC.trade"]}},
    ]
    both = b"".join(frame(Op.TEXT, json.dumps(command).encode()) for command in commands)
    for _ in range(20):
        client = await RawClient.open(odin_scenario)
        await client.stream.send_all(both)
        await trio.sleep(1)
        odin_scenario.publish("BTC", "trade")
        await trio.sleep(1)
        await client.send(Op.CLOSE, b"\x03\xe8")
        items = texts(await client.rest())
        (ack,) = (item for item in items if item["type"] == "unsubscription_ack")
        assert ack["unsubscribed"] == ["BTC.trade"]
        assert not messages(after_ack(items))


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_unsubscribe_removes_channel_of_waiting_subscribe(odin_scenario: Scenario) -> None:
    """It is acknowledged at once; the subscribe does not take effect later."""
    records = await publish(odin_scenario, 5)
    client = await odin_scenario.connect()
    odin_scenario.log_reader.hold()
    await send(client, "resume", positions=after(records[0]), channels=["BTC.trade"])
    await send(client, "subscribe", channels=["ETH.trade"])
    await send(client, "unsubscribe", channels=["ETH.trade"])
    await trio.sleep(1)
    odin_scenario.log_reader.release()
    responses = [await client.response() for _ in range(3)]
    assert [response["type"] for response in responses] == [
        "unsubscription_ack",
        "resume_ack",
        "subscription_ack",
    ]
    assert (responses[0]["unsubscribed"], responses[0]["count"]) == (["ETH.trade"], 1)
    assert (responses[2]["subscribed"], responses[2]["count"]) == ([], 1)
    await client.messages(4)
    await publish(odin_scenario, 1, "ETH")
    assert await client.silence(30)


@pytest.mark.parametrize(
    "odin_settings", [Settings(), Settings(ws_history_bytes=0)], ids=["history", "log"]
)
async def test_unsubscribe_during_messages_ends_replay_with_its_count(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """Pending messages are sent before the ack, and only `replay_complete` after it."""
    for number in range(50):
        odin_scenario.publish("BTC", "trade", [number, "x" * 10_000])
    await trio.sleep(1)
    follower = following([odin_scenario.publish("BTC", "trade")], "BTC.trade")
    follower.pause = 0.1
    await follower.connect(nursery, odin_scenario, capacity=2000)
    await trio.sleep(0.5)
    await follower.send("unsubscribe", channels=["BTC.trade"])
    await trio.sleep(60)
    await publish(odin_scenario, 3)
    count = len(follower.messages)
    assert 0 < count < 50
    (ended,) = after_ack(follower.items)
    assert ended == {"type": "replay_complete", "count": count}


async def test_unsubscribe_from_one_channel_keeps_rest_of_replay(odin_scenario: Scenario) -> None:
    """The other channel is live afterwards."""
    odin_scenario.log_reader.hold()
    one, other = await publish(odin_scenario, 5), await publish(odin_scenario, 5, "ETH")
    client = await odin_scenario.connect()
    await send(client, "subscribe", channels=["BTC.trade", "ETH.trade"], since_ms=0)
    await trio.sleep(1)
    assert (await client.unsubscribe(channels=["BTC.trade"]))["count"] == 1
    odin_scenario.log_reader.release()
    await publish(odin_scenario, 1)
    await publish(odin_scenario, 1, "ETH")
    assert offsets_of(await all_messages(client)) == {key_of(other[0]): [0, 1, 2, 3, 4, 5]}
    assert key_of(one[0]) != key_of(other[0])


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_unsubscribe_from_live_channel_is_covered_by_wider_replay(
    odin_scenario: Scenario,
) -> None:
    """Records that the replay omitted because they were live are neither missing nor repeated."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade"])
    records = await publish(odin_scenario, 3)
    odin_scenario.log_reader.hold()
    await send(client, "resume", positions=after(records[0], less=1), channels=["*.trade"])
    await publish(odin_scenario, 2)
    await client.unsubscribe(channels=["BTC.trade"])
    await publish(odin_scenario, 2)
    odin_scenario.log_reader.release()
    await publish(odin_scenario, 2)
    found = offsets_of(await all_messages(client))
    assert found == {key_of(records[0]): list(range(9))}
