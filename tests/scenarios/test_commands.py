"""Every command is answered, and does what its answer says."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
import trio

from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.testing.scenario import Closed, Scenario, ScenarioClient

# Commands that begin in the past, with what answers them.
_PAST: Final = {
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


async def ask(client: ScenarioClient, **command: Any) -> dict[str, Any]:
    """Send a command as it is, and wait for its answer."""
    await client.send(json.dumps(command))
    return await client.answer()


@pytest.mark.parametrize("given", ["abc", "", "x" * 128, 0, 7, -1, 2**63 - 1])
@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ({"type": "subscribe", "data": {"channels": ["BTC.trade"]}}, "subscription_ack"),
        ({"type": "unsubscribe", "data": {"channels": ["BTC.trade"]}}, "unsubscription_ack"),
        ({"type": "heartbeat"}, "pong"),
        ({"type": "subscribe", "data": {}}, "error"),
        *_PAST.values(),
        ({"type": "resume", "data": {}}, "error"),
        ({"type": "dance"}, "error"),
    ],
    ids=["subscribe", "unsubscribe", "heartbeat", "no names", *_PAST, "no positions", "unknown"],
)
async def test_an_id_is_echoed(
    odin_scenario: Scenario, command: dict[str, Any], answer: str, given: str | int
) -> None:
    """Every answer carries its command's id as it was; a command without one gets none."""
    client = await odin_scenario.connect()
    said = await ask(client, **command, id=given)
    assert (said["type"], said["id"], type(said["id"])) == (answer, given, type(given))
    assert "id" not in await ask(client, **command)


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
async def test_a_malformed_command_is_answered_and_the_connection_goes_on(
    odin_scenario: Scenario, text: str, code: str
) -> None:
    """An error with a code and words, never silence; the next command works."""
    client = await odin_scenario.connect()
    await client.send(text)
    error = await client.answer()
    assert (error["type"], error["code"], error["retry"]) == ("error", code, False)
    assert error["message"]
    assert (await client.command("heartbeat"))["type"] == "pong"


async def test_a_server_that_asks_nobody_takes_no_token(odin_scenario: Scenario) -> None:
    """It says so, rather than that the token is good or bad, and not to try again."""
    client = await odin_scenario.connect()
    error = await client.command("auth", token="any")  # noqa: S106 -- none
    assert (error["type"], error["data"]["code"]) == ("auth_error", "not_available")
    assert "retry_ms" not in error["data"]


@pytest.mark.parametrize(
    ("kind", "data", "answer"),
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
async def test_a_beginning_that_is_not_understood_begins_nothing(
    odin_scenario: Scenario, kind: str, data: dict[str, Any], answer: tuple[str, str]
) -> None:
    """It is rejected as a whole: nothing is subscribed to on other terms than asked for."""
    client = await odin_scenario.connect()
    said = await client.command(kind, **data)
    assert (said["type"], said["code"]) == answer
    assert said["message"].startswith("data")
    assert len(odin_scenario.service.hub.index) == 0
    assert (await client.command("heartbeat"))["type"] == "pong"


async def test_bad_names_are_rejected_one_by_one(odin_scenario: Scenario) -> None:
    """Each with its code; the good ones of the same command take effect."""
    client = await odin_scenario.connect()
    ack = await client.subscribe(
        channels=["BTC.trade", "BTC", ".trade", "B*.trade", "BTC.rumour"],
        topics=["odin.trade", "odin.social"],
        bundles=["NOTHING", "PRICE_ONLY"],
        tokens=["ETH"],
    )
    assert ack["subscribed"] == ["BTC.trade", "odin.social", "PRICE_ONLY"]
    assert ack["count"] == 4
    assert {one["name"]: one["code"] for one in ack["rejected"]} == {
        "BTC": "INVALID_CHANNEL",
        ".trade": "INVALID_CHANNEL",
        "B*.trade": "INVALID_CHANNEL",
        "BTC.rumour": "INVALID_CHANNEL",
        "odin.trade": "UNKNOWN_TOPIC",
        "NOTHING": "UNKNOWN_BUNDLE",
    }
    assert all(one["message"] for one in ack["rejected"])
    odin_scenario.publish("BTC", "trade")
    odin_scenario.publish("ETH", "social")
    assert len(await client.messages(2)) == 2


async def test_subscribing_twice_changes_nothing(odin_scenario: Scenario) -> None:
    """The ack says subscribed again, and messages still come once."""
    client = await odin_scenario.connect()
    for _ in range(2):
        ack = await client.subscribe(channels=["BTC.trade"])
        assert (ack["subscribed"], ack["count"]) == (["BTC.trade"], 1)
    odin_scenario.publish("BTC", "trade")
    await client.message()
    assert await client.silence(5)


async def test_unsubscribing_what_is_not_subscribed_says_so(odin_scenario: Scenario) -> None:
    """NOT_SUBSCRIBED by name, while the others of the command go."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade", "ETH.trade"])
    ack = await client.unsubscribe(channels=["BTC.trade", "DOGE.trade", "BTC.*", "nonsense"])
    assert (ack["type"], ack["unsubscribed"]) == ("unsubscription_ack", ["BTC.trade"])
    assert {one["name"]: one["code"] for one in ack["rejected"]} == {
        "DOGE.trade": "NOT_SUBSCRIBED",
        "BTC.*": "NOT_SUBSCRIBED",
        "nonsense": "INVALID_CHANNEL",
    }
    assert ack["count"] == 1


async def test_nothing_comes_after_an_unsubscription_ack(odin_scenario: Scenario) -> None:
    """With records streaming: what was due comes before the ack, and nothing of it after."""
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


async def test_an_exact_channel_stays_when_its_pattern_goes(odin_scenario: Scenario) -> None:
    """Subscriptions are by pattern: unsubscribing BTC.* leaves BTC.trade."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade", "BTC.*"])
    await client.unsubscribe(channels=["BTC.*"])
    odin_scenario.publish("BTC", "social")
    odin_scenario.publish("BTC", "trade")
    assert (await client.message())["channel"] == "BTC.trade"
    assert await client.silence(5)


async def test_a_heartbeat_gets_the_servers_time(odin_scenario: Scenario) -> None:
    """The pong's ts is epoch milliseconds, and does not go back."""
    client = await odin_scenario.connect()
    first = await client.command("heartbeat")
    second = await client.command("heartbeat")
    assert first.keys() == {"type", "ts"}
    assert 1_700_000_000_000 < first["ts"] <= second["ts"] < 10**13


async def test_commands_have_a_burst_and_a_rate(odin_scenario: Scenario) -> None:
    """100 at once, then 10 a second; what is over is rejected, told so, and without effect."""
    client = await odin_scenario.connect()
    for _ in range(100):
        assert (await client.command("heartbeat"))["type"] == "pong"
    rejected = await client.subscribe(channels=["BTC.trade"])
    assert (rejected["code"], rejected["retry"]) == ("RATE_LIMIT_EXCEEDED", True)
    assert len(odin_scenario.service.hub.index) == 0
    await trio.sleep(1)
    answers = [(await client.command("heartbeat"))["type"] for _ in range(12)]
    assert answers == ["pong"] * 10 + ["error"] * 2
    await trio.sleep(60)
    assert [(await client.command("heartbeat"))["type"] for _ in range(101)].count("pong") == 100


async def test_who_goes_on_flooding_is_closed(odin_scenario: Scenario) -> None:
    """After 50 rejections in a row: 1008 flooding; a steady client beside it is not touched."""
    client, other = await odin_scenario.connect(), await odin_scenario.connect()
    kinds: list[str] = []

    async def flood() -> None:
        while True:
            answer = await client.command("heartbeat")
            kinds.append(answer["type"])

    with pytest.raises(Closed, match=r"^1008 flooding: "):
        await flood()
    assert kinds == ["pong"] * 100 + ["error"] * 50
    assert (await other.command("heartbeat"))["type"] == "pong"


async def test_who_only_sends_nonsense_is_closed(odin_scenario: Scenario) -> None:
    """50 bad commands in a row: 1008; a good one in between starts the count again."""
    client = await odin_scenario.connect()
    for _ in range(49):
        await client.send("?")
        await client.answer()
    assert (await client.command("heartbeat"))["type"] == "pong"
    await trio.sleep(60)
    for _ in range(50):
        await client.send("?")
        assert (await client.answer())["code"] == "INVALID_JSON"
    closed = await client.closed()
    assert (closed.code, closed.reason) == (1008, "too many bad messages in a row")
    await trio.sleep(2)  # it lingers for a second
    assert odin_scenario.service.server.stats.closed == {DisconnectReason.BAD_COMMANDS: 1}
