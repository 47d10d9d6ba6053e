"""Each command is answered, and does what its response says."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
import trio

from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.testing.scenario import Closed, Scenario, ScenarioClient

# Commands that replay records, with the types of their responses.
_REPLAYING: Final = {
    "snapshot": (
        {"type": "subscribe", "data": {"channels": ["BTC.trade"], "snapshot": True}},
        "subscription_ack",
    ),
    "resume": (
        {"type": "resume", "data": {"channels": ["BTC.trade"], "positions": {}}},
        "resume_ack",
    ),
    "reconnect": ({"type": "reconnect", "data": {"last_pos": {}}}, "reconnect_ack"),
    "rejected reconnect": ({"type": "reconnect", "data": {}}, "reconnect_error"),
    "no partition": (
        {"type": "reconnect", "data": {"last_offset": {"odin.trades": 1}}},
        "reconnect_error",
    ),
    "replay": ({"type": "replay", "data": {"since": 0}}, "replay_complete"),
}


async def send_and_receive(client: ScenarioClient, **command: Any) -> dict[str, Any]:
    """Send a command as it is, and return its response."""
    await client.send(json.dumps(command))
    return await client.response()


@pytest.mark.parametrize("given", ["abc", "", "x" * 128, 0, 7, -1, 2**63 - 1])
@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ({"type": "subscribe", "data": {"channels": ["BTC.trade"]}}, "subscription_ack"),
        ({"type": "unsubscribe", "data": {"channels": ["BTC.trade"]}}, "unsubscription_ack"),
        ({"type": "heartbeat"}, "pong"),
        ({"type": "subscribe", "data": {}}, "error"),
        *_REPLAYING.values(),
        ({"type": "resume", "data": {}}, "error"),
        ({"type": "dance"}, "error"),
    ],
    ids=[
        "subscribe",
        "unsubscribe",
        "heartbeat",
        "no names",
        *_REPLAYING,
        "no positions",
        "unknown",
    ],
)
async def test_command_id_is_echoed(
    odin_scenario: Scenario, command: dict[str, Any], expected: str, given: str | int
) -> None:
    """The type of the id is kept; a command without an id gets none."""
    client = await odin_scenario.connect()
    response = await send_and_receive(client, **command, id=given)
    assert (response["type"], response["id"], type(response["id"])) == (
        expected,
        given,
        type(given),
    )
    assert "id" not in await send_and_receive(client, **command)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "INVALID_JSON"),
        ("{", "INVALID_JSON"),
        ('{"type":NaN}', "INVALID_JSON"),
        ("[]", "INVALID_MESSAGE"),
        ("null", "INVALID_MESSAGE"),
        ('{"type":"heartbeat","id":{}}', "INVALID_MESSAGE"),
        ('{"type":"heartbeat","id":true}', "INVALID_MESSAGE"),
        ('{"type":"heartbeat","extra":1}', "INVALID_MESSAGE"),
        ('{"type":"heartbeat","data":[]}', "INVALID_MESSAGE"),
        ('{"type":"subscribe","data":{"channels":"BTC.trade"}}', "INVALID_MESSAGE"),
        ('{"type":"subscribe","data":{"tokens":["BTC"]}}', "INVALID_MESSAGE"),
        ('{"type":"subscribe","data":{"channel":["BTC.trade"]}}', "INVALID_MESSAGE"),
        ("{}", "UNKNOWN_TYPE"),
        ('{"type":7}', "UNKNOWN_TYPE"),
        ('{"type":"Subscribe"}', "UNKNOWN_TYPE"),
        ("[" * 5000, "INVALID_JSON"),
    ],
    ids=range(16),
)
async def test_malformed_command_gets_error_and_connection_stays(
    odin_scenario: Scenario, text: str, code: str
) -> None:
    """The error has a code and a message; the next command works."""
    client = await odin_scenario.connect()
    await client.send(text)
    error = await client.response()
    assert (error["type"], error["code"], error["retry"]) == ("error", code, False)
    assert error["message"]
    assert (await client.command("heartbeat"))["type"] == "pong"


async def test_auth_command_is_rejected_without_authentication(odin_scenario: Scenario) -> None:
    """The error says that tokens are not used, and has no retry delay."""
    client = await odin_scenario.connect()
    error = await client.command("auth", token="any")  # noqa: S106 -- none
    assert (error["type"], error["data"]["code"]) == ("auth_error", "not_available")
    assert "retry_ms" not in error["data"]


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        ("resume", {"channels": ["BTC.trade"]}, ("error", "INVALID_MESSAGE")),
        ("resume", {"positions": {"odin.trades": {"0": 1}}}, ("error", "INVALID_MESSAGE")),
        (
            "resume",
            {"channels": ["BTC.trade"], "positions": {"odin.trades": {"0": "1"}}},
            ("error", "INVALID_MESSAGE"),
        ),
        ("reconnect", {"client_id": "me"}, ("reconnect_error", "invalid_request")),
        ("reconnect", {"last_pos": {"BTC.trade": 7}}, ("reconnect_error", "invalid_request")),
        ("replay", {"from": 0, "to": 5}, ("error", "INVALID_MESSAGE")),
        (
            "subscribe",
            {"channels": ["BTC.trade"], "snapshot": "yes"},
            ("error", "INVALID_MESSAGE"),
        ),
        ("subscribe", {"channels": ["BTC.trade"], "since_ms": -1}, ("error", "INVALID_MESSAGE")),
        (
            "subscribe",
            {"channels": ["BTC.trade"], "delivery": "newest"},
            ("error", "INVALID_MESSAGE"),
        ),
    ],
    ids=str,
)
async def test_invalid_replaying_command_subscribes_to_nothing(
    odin_scenario: Scenario, kind: str, data: dict[str, Any], expected: tuple[str, str]
) -> None:
    """It is rejected as a whole, instead of subscribing with defaults."""
    client = await odin_scenario.connect()
    response = await client.command(kind, **data)
    assert (response["type"], response["code"]) == expected
    assert response["message"].startswith("data")
    assert len(odin_scenario.service.hub.index) == 0
    assert (await client.command("heartbeat"))["type"] == "pong"


async def test_invalid_names_are_rejected_one_by_one(odin_scenario: Scenario) -> None:
    """Each has a code; the valid names of the command take effect."""
    client = await odin_scenario.connect()
    ack = await client.subscribe(
        channels=["BTC.trade", "BTC", ".trade", "B*.trade", "BTC.rumour"],
        topics=["odin.trade", "odin.social"],
        bundles=["NOTHING", "PRICE_ONLY"],
        tokens=["ETH"],
    )
    assert ack["subscribed"] == ["BTC.trade", "odin.social", "PRICE_ONLY"]
    assert ack["count"] == 4
    assert {rejection["name"]: rejection["code"] for rejection in ack["rejected"]} == {
        "BTC": "INVALID_CHANNEL",
        ".trade": "INVALID_CHANNEL",
        "B*.trade": "INVALID_CHANNEL",
        "BTC.rumour": "INVALID_CHANNEL",
        "odin.trade": "UNKNOWN_TOPIC",
        "NOTHING": "UNKNOWN_BUNDLE",
    }
    assert all(rejection["message"] for rejection in ack["rejected"])
    odin_scenario.publish("BTC", "trade")
    odin_scenario.publish("ETH", "social")
    assert len(await client.messages(2)) == 2


async def test_repeated_subscription_changes_nothing(odin_scenario: Scenario) -> None:
    """The second ack lists the name as subscribed; messages are delivered once."""
    client = await odin_scenario.connect()
    for _ in range(2):
        ack = await client.subscribe(channels=["BTC.trade"])
        assert (ack["subscribed"], ack["count"]) == (["BTC.trade"], 1)
    odin_scenario.publish("BTC", "trade")
    await client.message()
    assert await client.silence(5)


async def test_unsubscribing_unknown_name_is_rejected_with_not_subscribed(
    odin_scenario: Scenario,
) -> None:
    """The command's other names are unsubscribed."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade", "ETH.trade"])
    ack = await client.unsubscribe(channels=["BTC.trade", "DOGE.trade", "BTC.*", "nonsense"])
    assert (ack["type"], ack["unsubscribed"]) == ("unsubscription_ack", ["BTC.trade"])
    assert {rejection["name"]: rejection["code"] for rejection in ack["rejected"]} == {
        "DOGE.trade": "NOT_SUBSCRIBED",
        "BTC.*": "NOT_SUBSCRIBED",
        "nonsense": "INVALID_CHANNEL",
    }
    assert ack["count"] == 1


async def test_no_message_follows_unsubscription_ack(odin_scenario: Scenario) -> None:
    """Records stream meanwhile; pending messages are sent before the ack."""
    client = await odin_scenario.connect()
    kinds: list[str] = []

    async def publish() -> None:
        for number in range(400):
            odin_scenario.publish("BTC", "trade", number)
            odin_scenario.publish("ETH", "trade", number)
            await trio.sleep(0.01)

    async def receive() -> None:
        while True:
            item = json.loads(await client.websocket.get_message())
            kinds.append(item.get("channel", item["type"]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await client.send('{"type":"subscribe","data":{"channels":["BTC.trade","ETH.trade"]}}')
        nursery.start_soon(publish)
        await trio.sleep(2)
        await client.send('{"type":"unsubscribe","data":{"channels":["BTC.trade"]}}')
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    ack = kinds.index("unsubscription_ack")
    assert "BTC.trade" in kinds[:ack]
    assert set(kinds[ack + 1 :]) == {"ETH.trade"}
    assert kinds.count("ETH.trade") == 400


async def test_unsubscribing_pattern_keeps_its_channel(odin_scenario: Scenario) -> None:
    """Subscriptions are by pattern: unsubscribing `BTC.*` keeps `BTC.trade`."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade", "BTC.*"])
    await client.unsubscribe(channels=["BTC.*"])
    odin_scenario.publish("BTC", "social")
    odin_scenario.publish("BTC", "trade")
    assert (await client.message())["channel"] == "BTC.trade"
    assert await client.silence(5)


async def test_pong_has_epoch_milliseconds(odin_scenario: Scenario) -> None:
    """They do not go back."""
    client = await odin_scenario.connect()
    first = await client.command("heartbeat")
    second = await client.command("heartbeat")
    assert first.keys() == {"type", "ts"}
    assert 1_700_000_000_000 < first["ts"] <= second["ts"] < 10**13


async def test_commands_over_burst_and_rate_are_rejected(odin_scenario: Scenario) -> None:
    """100 at once, then 10 a second; a rejected command has no effect."""
    client = await odin_scenario.connect()
    for _ in range(100):
        assert (await client.command("heartbeat"))["type"] == "pong"
    rejected = await client.subscribe(channels=["BTC.trade"])
    assert (rejected["code"], rejected["retry"]) == ("RATE_LIMIT_EXCEEDED", True)
    assert len(odin_scenario.service.hub.index) == 0
    await trio.sleep(1)
    responses = [(await client.command("heartbeat"))["type"] for _ in range(12)]
    assert responses == ["pong"] * 10 + ["error"] * 2
    await trio.sleep(60)
    assert [(await client.command("heartbeat"))["type"] for _ in range(101)].count("pong") == 100


async def test_client_with_50_rejected_commands_in_a_row_is_closed(odin_scenario: Scenario) -> None:
    """The close is 1008 flooding; another client is not affected."""
    client, other = await odin_scenario.connect(), await odin_scenario.connect()
    kinds: list[str] = []

    async def flood() -> None:
        while True:
            response = await client.command("heartbeat")
            kinds.append(response["type"])

    with pytest.raises(Closed, match=r"^1008 flooding: "):
        await flood()
    assert kinds == ["pong"] * 100 + ["error"] * 50
    assert (await other.command("heartbeat"))["type"] == "pong"


async def test_client_with_50_invalid_commands_in_a_row_is_closed(odin_scenario: Scenario) -> None:
    """The close is 1008; a valid command in between resets the count."""
    client = await odin_scenario.connect()
    for _ in range(49):
        await client.send("?")
        await client.response()
    assert (await client.command("heartbeat"))["type"] == "pong"
    await trio.sleep(60)
    for _ in range(50):
        await client.send("?")
        assert (await client.response())["code"] == "INVALID_JSON"
    closed = await client.closed()
    assert (closed.code, closed.reason) == (1008, "too many bad messages in a row")
    await trio.sleep(2)  # The server reads for one more second after the close frame.
    assert odin_scenario.service.server.stats.closed == {DisconnectReason.BAD_COMMANDS: 1}
