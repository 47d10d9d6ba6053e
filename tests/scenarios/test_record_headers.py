"""Messages carry the headers that records have kept: live, replayed, in snapshots and batches."""

from __future__ import annotations

from typing import Any

import trio

from odin_ws.records import RecordHeaders
from odin_ws.settings import Settings
from odin_ws.testing.scenario import Scenario, ScenarioClient, open_scenario

HEADERS: RecordHeaders = (("traceparent", b"00-4b-01"), ("raw", b"\xff\x00"), ("none", None))
SENT = {"traceparent": "00-4b-01", "raw": {"base64": "/wA="}, "none": None}


def publish(scenario: Scenario, headers: RecordHeaders = HEADERS) -> None:
    """A trade with these headers."""
    value = b'{"type":"TRADE_EXECUTED","data":1}'
    scenario.log.append("odin.trades", b"BTC", value, headers=headers)


async def first(client: ScenarioClient) -> dict[str, Any]:
    """The next message; its fields are in the documented order."""
    message = await client.message()
    fields = ["seq", "replay", "ts", "type", "channel", "pos", "headers", "data"]
    assert list(message) == [name for name in fields if name in message]
    return message


async def test_live_and_replayed_messages_and_snapshots_have_them(
    odin_scenario: Scenario,
) -> None:
    """The same object each time; a record without them has no field."""
    client = await odin_scenario.connect()
    ack = await client.subscribe(channels=["BTC.trade"], positions=True)
    publish(odin_scenario)
    assert (await first(client))["headers"] == SENT
    publish(odin_scenario, ())
    assert "headers" not in await first(client)
    publish(odin_scenario)
    await first(client)
    again = await odin_scenario.connect()
    await again.resume(ack["positions"], channels=["BTC.trade"])
    replayed = [await first(again) for _ in range(3)]
    assert [one.get("headers") for one in replayed] == [SENT, None, SENT]
    other = await odin_scenario.connect()
    await other.subscribe(channels=["BTC.trade"], snapshot=True)
    assert (await first(other))["headers"] == SENT


async def test_replays_from_kafka_have_them(autojump_clock: object) -> None:  # noqa: ARG001
    """As those from memory have."""
    async with open_scenario(Settings(ws_history_bytes=0)) as scenario:
        publish(scenario)
        await trio.sleep(1)
        client = await scenario.connect()
        await client.subscribe(channels=["BTC.trade"], since_ms=0)
        assert (await first(client))["headers"] == SENT


async def test_a_batch_has_them_with_each_message(odin_scenario: Scenario) -> None:
    """Before the data, as elsewhere."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade"], frames="batch")
    publish(odin_scenario)
    publish(odin_scenario, ())
    found = list((await client.message())["messages"])
    while len(found) < 2:
        found += (await client.message())["messages"]
    assert list(found[0]) == ["channel", "pos", "ts", "headers", "data"]
    assert [one.get("headers") for one in found] == [SENT, None]


async def test_version_0_has_none(odin_scenario: Scenario) -> None:
    """Its envelope is that of the original server."""
    client = await odin_scenario.connect("/ws?v=0")
    await client.subscribe(channels=["BTC.trade"])
    publish(odin_scenario)
    assert list(await client.message()) == ["seq", "ts", "type", "priority", "data"]
