"""Large, deeply nested or unusual commands are answered, and the connection stays."""

from __future__ import annotations

import json
from itertools import islice, product
from string import ascii_lowercase

import pytest

from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.testing.scenario import Scenario

# More different names than fit into a command of 64 KiB.
NAMES = ["".join(letters) for letters in islice(product(ascii_lowercase, repeat=3), 10_000)]
POSITIONS = ",".join(f'"{number}":0' for number in range(7000))


def command(kind: str, data: str) -> str:
    """Return a command with an id and this JSON as its data."""
    return f'{{"type":"{kind}","id":7,"data":{data}}}'


ODD: dict[str, tuple[str, str, int | None]] = {
    "10,000 channels": (
        command("subscribe", json.dumps({"channels": NAMES}, separators=(",", ":"))),
        "INVALID_MESSAGE",
        7,
    ),
    "10,000 tokens": (
        command("subscribe", json.dumps({"topics": [], "tokens": NAMES}, separators=(",", ":"))),
        "INVALID_MESSAGE",
        7,
    ),
    "20,000 times the same": (
        command("unsubscribe", '{"channels":[' + ",".join(['""'] * 20_000) + "]}"),
        "INVALID_MESSAGE",
        7,
    ),
    "7,000 positions, the last a partition that cannot be": (
        command(
            "resume",
            '{"channels":["*.*"],"positions":{"odin.trades":{' + POSITIONS + ',"2147483648":0}}}',
        ),
        "INVALID_MESSAGE",
        7,
    ),
    "lists 30,000 deep": (
        command("subscribe", "[" * 30_000 + "]" * 30_000),
        "INVALID_JSON",
        None,
    ),
    "objects 10,000 deep": (
        command("subscribe", '{"a":' * 10_000 + "1" + "}" * 10_000),
        "INVALID_JSON",
        None,
    ),
    "a number of 60,000 digits": (
        command("replay", '{"since":' + "9" * 60_000 + "}"),
        "INVALID_MESSAGE",
        7,
    ),
    "a number beyond any double": (command("replay", '{"since":1e999}'), "INVALID_MESSAGE", 7),
    "a number that is none": (command("replay", '{"since":NaN}'), "INVALID_JSON", None),
    "a large number": (command("replay", '{"since":1e300}'), "INVALID_MESSAGE", 7),
    "an offset of 20 digits": (
        command(
            "resume",
            '{"channels":["A.trade"],"positions":{"odin.trades":{"0":10000000000000000000}}}',
        ),
        "INVALID_MESSAGE",
        7,
    ),
    "half a pair in a field": (command("subscribe", r'{"\udfff":1}'), "INVALID_MESSAGE", 7),
    "a NUL in a field": (command("subscribe", r'{"\u0000":1}'), "INVALID_MESSAGE", 7),
}


@pytest.mark.parametrize("case", ODD)
async def test_odd_command_gets_one_error_and_has_no_effect(
    odin_scenario: Scenario, case: str
) -> None:
    """Nothing is subscribed, and the next command works."""
    text, code, command_id = ODD[case]
    assert len(text) < 65_536
    client = await odin_scenario.connect()
    await client.send(text)
    error = await client.response()
    assert (error["type"], error["code"], error.get("id")) == ("error", code, command_id)
    assert len(error["message"]) < 1000
    assert len(odin_scenario.service.hub.index) == 0
    assert (await client.command("heartbeat"))["type"] == "pong"
    assert odin_scenario.service.server.stats.errors == 0


async def test_lone_surrogate_is_accepted_and_echoed(odin_scenario: Scenario) -> None:
    """In an id it is echoed; in a name only that name is rejected."""
    client = await odin_scenario.connect()
    await client.send(r'{"type":"heartbeat","id":"\ud83d","data":{"\ude00":1e999}}')
    pong = await client.response()
    assert (pong["type"], pong["id"]) == ("pong", "\ud83d")
    ack = await client.subscribe(channels=["\ud83d.trade", "BTC.trade"])
    assert ack["subscribed"] == ["BTC.trade"]
    assert [rejection["name"] for rejection in ack["rejected"]] == ["\ud83d.trade"]
    await client.send(r'{"type":"auth","id":8,"data":{"token":"e30.\ud83d.e30"}}')
    assert (await client.response())["type"] == "auth_error"
    await client.send(r'{"type":"reconnect","data":{"client_id":"\ud83d","last_pos":{}}}')
    assert (await client.response())["type"] == "reconnect_ack"
    assert odin_scenario.service.server.stats.errors == 0


async def test_1024_invalid_names_are_rejected_one_by_one(
    odin_scenario: Scenario,
) -> None:
    """The response is complete and smaller than 256 KiB."""
    client = await odin_scenario.connect()
    ack = await client.subscribe(channels=NAMES[:1024])
    assert [rejection["name"] for rejection in ack["rejected"]] == NAMES[:1024]
    assert ack["count"] == 0
    (connection,) = odin_scenario.service.server.connections
    assert connection.send_queue.bytes_sent < 256 << 10


async def test_command_larger_than_max_message_bytes_closes(odin_scenario: Scenario) -> None:
    """10,000 channels of usual names are too large."""
    client = await odin_scenario.connect()
    await client.send(
        json.dumps({"type": "subscribe", "data": {"channels": [f"{name}.trade" for name in NAMES]}})
    )
    assert (await client.closed()).code == DisconnectReason.TOO_LARGE.value.code
    assert len(odin_scenario.service.hub.index) == 0


@pytest.mark.parametrize("token", ["\0", "a\0b", "\r\n", "\x7f", "\x85"])
async def test_token_with_control_characters_is_rejected(
    odin_scenario: Scenario, token: str
) -> None:
    """A record with such a key is invalid too, so the channel cannot exist."""
    client = await odin_scenario.connect()
    ack = await client.subscribe(channels=[f"{token}.trade", "BTC.trade"])
    (rejected,) = ack["rejected"]
    assert (rejected["name"], rejected["code"]) == (f"{token}.trade", "INVALID_CHANNEL")
    assert "control characters" in rejected["message"]


@pytest.mark.parametrize("token", ["\u2028", "\uffff", "🜁", " ", "a.b"])
async def test_unusual_token_can_be_subscribed_to(odin_scenario: Scenario, token: str) -> None:
    """Similar tokens have other channels."""
    client = await odin_scenario.connect()
    ack = await client.subscribe(channels=[f"{token}.trade"])
    assert ack["subscribed"] == [f"{token}.trade"]
    for other in (f"{token}x", f"x{token}"):
        odin_scenario.publish(other, "trade", "other")
    odin_scenario.publish(token, "trade", "own")
    message = await client.message()
    assert (message["channel"], message["data"]["data"]) == (f"{token}.trade", "own")
    assert await client.silence(5)


async def test_pattern_for_all_channels_has_one_spelling(odin_scenario: Scenario) -> None:
    """It counts once, however often it is named, and delivers each message once."""
    client = await odin_scenario.connect()
    others = ["**", "*", "%.%", "**.trade", "B*.trade", "*.*.trade", "*.**"]
    ack = await client.subscribe(channels=["*.*", "*.*", "*.trade", "BTC.*", *others])
    assert ack["subscribed"] == ["*.*", "*.trade", "BTC.*"]
    assert [rejection["name"] for rejection in ack["rejected"]] == others
    odin_scenario.publish("BTC", "trade")
    assert (await client.message())["seq"] == 1
    assert await client.silence(5)
