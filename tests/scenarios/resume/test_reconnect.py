"""`reconnect`, the SDK's form of `resume`."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from odin_ws.settings import Settings
from odin_ws.testing.assertions import offsets_of
from odin_ws.testing.follower import key_of
from odin_ws.testing.scenario import Scenario, open_scenario
from tests.scenarios.resume.following import all_messages, publish, send


def pos(record: Any) -> str:
    """Return the record's position as messages have it."""
    return f"{record.partition}-{record.offset}"


@pytest.mark.parametrize(
    "odin_settings", [Settings(), Settings(ws_history_bytes=0)], ids=["history", "log"]
)
async def test_reconnect_replays_each_channel_after_its_position(odin_scenario: Scenario) -> None:
    """Also if two channels share a partition."""
    btc = await publish(odin_scenario, 5)
    same = [
        odin_scenario.log.append(record.topic, b"ETH", b"{}", partition=record.partition)
        for record in btc
    ]
    await trio.sleep(1)
    client = await odin_scenario.connect()
    ack = await client.command(
        "reconnect",
        client_id="me",
        last_pos={"BTC.trade": pos(btc[1]), "ETH.trade": pos(same[3])},
    )
    assert ack == {
        "type": "reconnect_ack",
        "status": "completed",
        "messages_replayed": 4,
        "message": "all missed messages follow",
    }
    await publish(odin_scenario, 1)
    assert offsets_of(await all_messages(client)) == {key_of(btc[0]): [2, 3, 4, 9, 10]}


async def test_reconnect_with_empty_last_pos_subscribes_to_nothing(odin_scenario: Scenario) -> None:
    """The ack has no replayed messages."""
    client = await odin_scenario.connect()
    ack = await client.command("reconnect", client_id="me", last_pos={})
    assert (ack["status"], ack["messages_replayed"]) == ("completed", 0)
    await publish(odin_scenario, 1)
    assert await client.silence(5)


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_reconnect_ack_has_lost_range(odin_scenario: Scenario) -> None:
    """The status is `incomplete`."""
    records = await publish(odin_scenario, 5)
    odin_scenario.log.delete_before(records[0].topic, records[0].partition, 3)
    client = await odin_scenario.connect()
    ack = await client.command("reconnect", last_pos={"BTC.trade": pos(records[0])})
    assert (ack["status"], ack["messages_replayed"]) == ("incomplete", 2)
    assert (ack["message"], ack["reason"]) == ("messages are lost: expired", "expired")
    assert ack["lost"] == {records[0].topic: {str(records[0].partition): [1, 2]}}


@pytest.mark.parametrize("dialect", ["/ws", "/ws?v=0"])
async def test_last_offset_of_topic_with_one_partition_is_accepted(
    odin_scenario: Scenario, dialect: str
) -> None:
    """All records of the topic after it are replayed."""
    async with open_scenario(partitions=1) as scenario:
        for number in range(6):
            scenario.publish(f"T{number % 2}", "trade", number)
        await trio.sleep(1)
        client = await scenario.connect(dialect)
        ack = await client.command("reconnect", last_offset={"odin.trades": 2})
        assert (ack["type"], ack["messages_replayed"]) == ("reconnect_ack", 3)
        scenario.publish("T9", "trade", 6)
        assert [message["data"]["data"] for message in await client.messages(4)] == [3, 4, 5, 6]
    assert odin_scenario.service.server.connections == set()


async def test_last_offset_of_topic_with_12_partitions_is_rejected(odin_scenario: Scenario) -> None:
    """One offset cannot be the position in 12 partitions (failing 3)."""
    client = await odin_scenario.connect("/ws?v=0")
    await client.send(
        '{"type":"reconnect","id":"r1","data":{"client_id":"x","last_offset":{"odin.trades":2}}}'
    )
    error = await client.response()
    assert (error["type"], error["id"], error["code"]) == (
        "reconnect_error",
        "r1",
        "invalid_request",
    )
    assert "12" in error["message"]


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({}, "data.last_pos"),
        ({"last_pos": ["BTC.trade"]}, "data.last_pos"),
        ({"last_pos": {"BTC": "2-3"}}, "data.last_pos.BTC"),
        ({"last_pos": {".trade": "2-3"}}, "data.last_pos..trade"),
        ({"last_pos": {"*.trade": "2-3"}}, "data.last_pos.*.trade"),
        ({"last_pos": {"x" * 129 + ".trade": "2-3"}}, "data.last_pos."),
        ({"last_pos": {"BTC.nothing": "2-3"}}, "data.last_pos.BTC.nothing"),
        ({"last_pos": {"BTC.trade": "2"}}, "data.last_pos.BTC.trade"),
        ({"last_pos": {"BTC.trade": 23}}, "data.last_pos.BTC.trade"),
        ({"last_pos": {"BTC.trade": "2--1"}}, "data.last_pos.BTC.trade"),
        ({"last_pos": {"BTC.trade": f"2-{1 << 63}"}}, "data.last_pos.BTC.trade"),
        ({"last_offset": {"odin.trades": "3"}}, "data.last_offset.odin.trades"),
        ({"last_offset": {"trades": 3}}, "data.last_offset.trades"),
        ({"client_id": 5, "last_pos": {}}, "data.client_id"),
    ],
)
async def test_invalid_reconnect_is_rejected_with_field(
    odin_scenario: Scenario, data: dict[str, Any], named: str
) -> None:
    """The error is a `reconnect_error`."""
    client = await odin_scenario.connect()
    error = await client.command("reconnect", **data)
    assert (error["type"], error["code"]) == ("reconnect_error", "invalid_request")
    assert error["message"].startswith(named)


@pytest.mark.odin_settings(ws_max_subscriptions=2)
async def test_reconnect_over_max_subscriptions_is_rejected(odin_scenario: Scenario) -> None:
    """It is rejected as a whole: half of it would lose records silently."""
    client = await odin_scenario.connect()
    last_pos = {f"T{number}.trade": "0-1" for number in range(3)}
    error = await client.command("reconnect", last_pos=last_pos)
    assert (error["type"], error["code"]) == ("reconnect_error", "invalid_request")
    await publish(odin_scenario, 1, "T0")
    assert await client.silence(5)


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_waiting_reconnect_can_be_unsubscribed(odin_scenario: Scenario) -> None:
    """The reconnect waits for another replay; the unsubscribe does not."""
    records = await publish(odin_scenario, 3)
    odin_scenario.log_reader.hold()
    client = await odin_scenario.connect()
    await send(client, "subscribe", channels=["ETH.trade"], since_ms=0)
    await send(client, "reconnect", last_pos={"BTC.trade": pos(records[0])})
    await send(client, "unsubscribe", channels=["BTC.trade"])
    await trio.sleep(1)
    odin_scenario.log_reader.release()
    await trio.sleep(1)
    await publish(odin_scenario, 1)
    responses = [await client.response() for _ in range(3)]
    assert [response["type"] for response in responses] == [
        "unsubscription_ack",
        "subscription_ack",
        "reconnect_ack",
    ]
    assert responses[0]["unsubscribed"] == ["BTC.trade"]
    assert responses[2]["status"] == "completed"
    assert await client.silence(5)
