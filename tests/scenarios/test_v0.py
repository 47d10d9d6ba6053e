"""The earlier server's dialect at /ws?v=0, whose fields its clients parse."""

from __future__ import annotations

import json

from odin_ws.testing.scenario import Scenario
from tests.scenarios.wire import Op, RawClient

VALUE = b'{"type":"TRADE_EXECUTED","timestamp":1,"data":{"price":1.50}}'


async def test_v0_message_has_envelope_of_earlier_server(odin_scenario: Scenario) -> None:
    """Exactly these keys in this order, its `type` and `priority`, and the value unchanged."""
    client = await RawClient.open(odin_scenario, "/ws?v=0")
    await client.command("subscribe", channels=["BTC.trade"])
    await client.next()
    for _ in range(2):
        odin_scenario.log.append("odin.trades", b"BTC", VALUE, timestamp=1767609600123)
    for seq in (b"1", b"2"):
        assert (await client.next()).payload == (
            b'{"seq":%b,"ts":1767609600123,"type":"price:update","priority":1,"data":%b}'
            % (seq, VALUE)
        )


async def test_v0_acks_have_fields_of_earlier_server(odin_scenario: Scenario) -> None:
    """They have no other field, except `rejected` if a name was rejected."""
    client = await RawClient.open(odin_scenario, "/ws?v=0")
    await client.command("subscribe", channels=["BTC.trade", "BTC.social"])
    assert (await client.next()).json == {
        "type": "subscription_ack",
        "subscribed": ["BTC.trade", "BTC.social"],
        "count": 2,
    }
    await client.command("unsubscribe", channels=["BTC.trade"])
    assert (await client.next()).json == {
        "type": "unsubscription_ack",
        "unsubscribed": ["BTC.trade"],
        "count": 1,
    }
    await client.command("subscribe", channels=["nonsense"])
    (rejection,) = (await client.next()).json["rejected"]
    assert rejection["name"] == "nonsense"


async def test_v0_heartbeat_and_error_are_those_of_v1(odin_scenario: Scenario) -> None:
    """`pong` and the error codes."""
    client = await RawClient.open(odin_scenario, "/ws?v=0")
    await client.command("heartbeat")
    assert (await client.next()).json["type"] == "pong"
    await client.send(Op.TEXT, b"?")
    assert (await client.next()).json["code"] == "INVALID_JSON"


async def test_subscribers_of_both_dialects_get_the_same_record(odin_scenario: Scenario) -> None:
    """Each gets it in the envelope of its dialect."""
    old, new = [await RawClient.open(odin_scenario, target) for target in ("/ws?v=0", "/ws?v=1")]
    for client in (old, new):
        await client.command("subscribe", channels=["*.trade"])
        await client.next()
    odin_scenario.publish("BTC", "trade", {"n": 1})
    old_message, new_message = (await old.next()).json, (await new.next()).json
    assert list(old_message) == ["seq", "ts", "type", "priority", "data"]
    assert list(new_message) == ["seq", "ts", "type", "channel", "pos", "data"]
    assert json.dumps(old_message["data"]) == json.dumps(new_message["data"])
