"""Messages have the headers of their records: live, replayed, in snapshots and batches."""

from __future__ import annotations

from typing import Any

import trio

from odin_ws.records import RecordHeaders
from odin_ws.settings import Settings
from odin_ws.testing.scenario import Scenario, ScenarioClient, open_scenario

HEADERS: RecordHeaders = (("traceparent", b"00-4b-01"), ("raw", b"\xff\x00"), ("none", None))
SENT = {"traceparent": "00-4b-01", "raw": {"base64": "/wA="}, "none": None}


def publish(scenario: Scenario, headers: RecordHeaders = HEADERS) -> None:
    """Publish a trade with these headers."""
    value = b'{"type":"TRADE_EXECUTED","data":1}'
    scenario.log.append("odin.trades", b"BTC", value, headers=headers)


async def next_message(client: ScenarioClient) -> dict[str, Any]:
    """Return the next message; assert that its fields are in the documented order."""
    message = await client.message()
    fields = ["seq", "replay", "ts", "type", "channel", "pos", "headers", "data"]
    assert list(message) == [name for name in fields if name in message]
    return message


async def test_live_replayed_and_snapshot_messages_have_headers(
    odin_scenario: Scenario,
) -> None:
    """A record without headers gives a message without the field."""
    client = await odin_scenario.connect()
    ack = await client.subscribe(channels=["BTC.trade"], positions=True)
    publish(odin_scenario)
    assert (await next_message(client))["headers"] == SENT
    publish(odin_scenario, ())
    assert "headers" not in await next_message(client)
    publish(odin_scenario)
    await next_message(client)
    again = await odin_scenario.connect()
    await again.resume(ack["positions"], channels=["BTC.trade"])
    replayed = [await next_message(again) for _ in range(3)]
    assert [one.get("headers") for one in replayed] == [SENT, None, SENT]
    other = await odin_scenario.connect()
    await other.subscribe(channels=["BTC.trade"], snapshot=True)
    assert (await next_message(other))["headers"] == SENT


async def test_replay_from_kafka_has_headers(autojump_clock: object) -> None:  # noqa: ARG001
    """They are those of the live message."""
    async with open_scenario(Settings(ws_history_bytes=0)) as scenario:
        publish(scenario)
        await trio.sleep(1)
        client = await scenario.connect()
        await client.subscribe(channels=["BTC.trade"], since_ms=0)
        assert (await next_message(client))["headers"] == SENT


async def test_batch_has_headers_with_each_message(odin_scenario: Scenario) -> None:
    """They come before the data, as in single messages."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade"], frames="batch")
    publish(odin_scenario)
    publish(odin_scenario, ())
    found = list((await client.message())["messages"])
    while len(found) < 2:
        found += (await client.message())["messages"]
    assert list(found[0]) == ["channel", "pos", "ts", "headers", "data"]
    assert [one.get("headers") for one in found] == [SENT, None]


async def test_v0_message_has_no_headers(odin_scenario: Scenario) -> None:
    """Its envelope is that of the earlier server."""
    client = await odin_scenario.connect("/ws?v=0")
    await client.subscribe(channels=["BTC.trade"])
    publish(odin_scenario)
    assert list(await client.message()) == ["seq", "ts", "type", "priority", "data"]
