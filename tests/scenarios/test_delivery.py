"""Each published record is delivered once, in order, unchanged."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

import pytest
import trio

from odin_ws.protocol.json_text import load_json
from odin_ws.testing.scenario import Scenario, ScenarioClient, open_scenario
from tests.scenarios.protocol_tables import BUNDLES, EVENTS, TOPICS
from tests.scenarios.wire import RawClient

ALL_EVENTS = [(category, kind) for category, kinds in EVENTS.items() for kind in kinds]


def offsets_by_partition(messages: list[dict[str, Any]]) -> dict[int, list[int]]:
    """Return the received offsets by partition, in the order of arrival."""
    offsets = defaultdict(list)
    for message in messages:
        partition, offset = message["pos"].split("-")
        offsets[int(partition)].append(int(offset))
    return offsets


def test_tables_have_8_topics_and_24_event_types() -> None:
    """The tables on which these tests rely are complete."""
    assert (len(TOPICS), len(ALL_EVENTS)) == (8, 24)


@pytest.mark.parametrize(("category", "kind"), ALL_EVENTS)
async def test_each_event_type_is_delivered(
    odin_scenario: Scenario, category: str, kind: str
) -> None:
    """A subscriber to a category's channel gets each of its event types from its topic."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=[f"BTC.{category}"])
    record = odin_scenario.publish("BTC", category, {"n": 1}, kind=kind)
    message = await client.message()
    assert record.topic == TOPICS[category]
    assert message["channel"] == f"BTC.{category}"
    assert message["data"] == {"type": kind, "timestamp": 0, "data": {"n": 1}}
    assert odin_scenario.service.hub.stats.unknown_types == 0


async def test_subscriber_to_all_topics_gets_each_event_type_once(
    odin_scenario: Scenario,
) -> None:
    """The eight topics, selected by name, have 24 event types."""
    client = await odin_scenario.connect()
    ack = await client.subscribe(topics=list(TOPICS.values()))
    assert sorted(ack["subscribed"]) == sorted(TOPICS.values())
    for category, kind in ALL_EVENTS:
        odin_scenario.publish("BTC", category, kind=kind)
    received = [message["data"]["type"] for message in await client.messages(24)]
    assert sorted(received) == sorted(kind for _, kind in ALL_EVENTS)
    assert await client.silence(5)


@pytest.mark.parametrize("bundle", BUNDLES)
async def test_bundle_delivers_its_categories_and_no_other(
    odin_scenario: Scenario, bundle: str
) -> None:
    """A bundle narrowed to a token delivers exactly its categories of that token."""
    client = await odin_scenario.connect()
    await client.subscribe(bundles=[bundle], tokens=["BTC"])
    for category in EVENTS:
        odin_scenario.publish("BTC", category)
        odin_scenario.publish("ETH", category)
    channels = [message["channel"] for message in await client.messages(len(BUNDLES[bundle]))]
    assert sorted(channels) == sorted(f"BTC.{category}" for category in BUNDLES[bundle])
    assert await client.silence(5)


OVERLAPPING: dict[str, tuple[dict[str, list[str]], set[str]]] = {
    "all four forms": (
        {"channels": ["BTC.trade", "BTC.*", "*.trade", "*.*"]},
        {"BTC.trade", "ETH.social"},
    ),
    "a token's bundle": ({"channels": ["BTC.TRADING", "*.social"]}, {"BTC.trade", "ETH.social"}),
    "a bundle of all tokens": ({"channels": ["*.PRICE_ONLY"]}, {"BTC.trade"}),
    "a bundle and its topic": ({"channels": ["TRADING"], "topics": ["odin.trades"]}, {"BTC.trade"}),
    "a bundle and a token": (
        {"bundles": ["COMMUNITY"], "channels": ["BTC.*"]},
        {"BTC.trade", "ETH.social"},
    ),
    "narrowed topics": (
        {"topics": ["odin.social", "odin.trades"], "tokens": ["ETH"]},
        {"ETH.social"},
    ),
    "a token nobody writes": ({"channels": ["BTC.*", "DOGE.*"]}, {"BTC.trade"}),
}


@pytest.mark.parametrize("case", OVERLAPPING)
async def test_overlapping_names_deliver_each_record_once(
    odin_scenario: Scenario, case: str
) -> None:
    """A record that matches several patterns of a client is delivered once."""
    names, expected = OVERLAPPING[case]
    client = await odin_scenario.connect()
    await client.subscribe(**names)
    for token, category in (("BTC", "trade"), ("ETH", "social")):
        odin_scenario.publish(token, category)
    channels = [message["channel"] for message in await client.messages(len(expected))]
    assert sorted(channels) == sorted(expected)
    assert await client.silence(5)


async def test_records_of_a_token_are_delivered_in_order(
    odin_scenario: Scenario,
) -> None:
    """400 records of 8 tokens over 20 s: each token's in order, each once, without a gap."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["*.trade", "T1.*"])
    for number in range(400):
        odin_scenario.publish(f"T{number % 8}", "trade", number)
        await trio.sleep(0.05 if number % 7 else 0)
    messages = await client.messages(400)
    assert [message["seq"] for message in messages] == list(range(1, 401))
    for token in range(8):
        received = [
            message["data"]["data"]
            for message in messages
            if message["channel"] == f"T{token}.trade"
        ]
        assert received == list(range(token, 400, 8))


async def test_subscription_delivers_exactly_records_after_ack_positions(
    odin_scenario: Scenario,
) -> None:
    """Each client subscribes while records stream."""
    done = trio.Event()
    collected: list[tuple[dict[str, int], list[dict[str, Any]]]] = []

    async def publish() -> None:
        for number in range(600):
            odin_scenario.publish(f"T{number % 40}", "trade", number)
            await trio.sleep(0.007)
        done.set()

    async def subscribe_after(seconds: float) -> None:
        client = await odin_scenario.connect()
        await trio.sleep(seconds)
        ack = await client.subscribe(topics=["odin.trades"], positions=True)
        await done.wait()
        messages = []
        with trio.move_on_after(5):
            while True:
                messages.append(await client.message())
        collected.append((ack["positions"]["odin.trades"], messages))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish)
        for number in range(10):
            nursery.start_soon(subscribe_after, number * 0.331)
    ends = {
        key.partition: end
        for key, end in odin_scenario.log.ends().items()
        if key.topic == "odin.trades"
    }
    assert len(collected) == 10
    for positions, messages in collected:
        received = offsets_by_partition(messages)
        assert set(positions) == {str(number) for number in range(12)}
        for partition, last in positions.items():
            due = list(range(last + 1, ends[int(partition)]))
            assert received[int(partition)] == due


async def test_position_of_empty_partition_is_minus_1(
    odin_scenario: Scenario,
) -> None:
    """The next record has offset 0, and is delivered."""
    client = await odin_scenario.connect()
    ack = await client.subscribe(channels=["BTC.trade"], positions=True)
    assert set(ack["positions"]["odin.trades"].values()) == {-1}
    record = odin_scenario.publish("BTC", "trade")
    assert (await client.message())["pos"] == f"{record.partition}-0"


async def test_ack_has_positions_of_its_topics_only_if_requested(
    odin_scenario: Scenario,
) -> None:
    """An ack has the positions of the topics that it subscribes to."""
    client = await odin_scenario.connect()
    assert "positions" not in await client.subscribe(channels=["BTC.trade"])
    ack = await client.subscribe(bundles=["PRICE_ONLY"], positions=True)
    assert set(ack["positions"]) == {"odin.trades", "odin.analytics"}
    ack = await client.subscribe(channels=["BTC.*"], positions=True)
    assert set(ack["positions"]) == set(TOPICS.values())


async def test_value_is_delivered_byte_for_byte(odin_scenario: Scenario) -> None:
    """Spaces, escapes, number forms and key order stay as they were."""
    value = rb'{ "type":"TRADE_EXECUTED", "data":{"b":1.10,"a":1e3, "\u00e9":"\/"},"timestamp":7 }'
    client = await RawClient.open(odin_scenario)
    await client.subscribe("BTC.trade")
    odin_scenario.log.append("odin.trades", b"BTC", value, partition=5, timestamp=1767609600123)
    expected = (
        b'{"seq":1,"ts":1767609600123,"type":"message","channel":"BTC.trade","pos":"5-0","data":%b}'
    )
    assert (await client.next()).payload == expected % value


INVALID: dict[str, tuple[bytes | None, bytes | None, str]] = {
    "no key": (None, b"{}", "no_key"),
    "key is not UTF-8": (b"\xff", b"{}", "bad_key"),
    "empty key": (b"", b"{}", "bad_key"),
    "long key": (b"x" * 129, b"{}", "bad_key"),
    "key with a star": (b"B*", b"{}", "bad_key"),
    "key with a line end": (b"BTC\r\n", b"{}", "key_control_characters"),
    "key of JSON": (b'"BTC"', b"{}", "key_in_quotes"),
    "key of a schema": (b"\x00\x00\x00\x00\x01BTC", b"{}", "key_schema_prefix"),
    "value of a schema": (b"BTC", b"\x00\x00\x00\x00\x01{}", "value_schema_prefix"),
    "tombstone": (b"BTC", None, "tombstone"),
    "empty value": (b"BTC", b"", "not_json"),
    "broken JSON": (b"BTC", b"{", "not_json"),
    "value is not UTF-8": (b"BTC", b'{"type":"\xff"}', "not_json"),
    "100,000 brackets": (b"BTC", b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not_json"),
    "100,000 objects": (b"BTC", b'{"":' * 50_000 + b"1" + b"}" * 50_000, "not_json"),
    "half a pair in UTF-8": (b"BTC", b'{"x":"\xed\xa0\x80"}', "not_json"),
    "overlong UTF-8": (b"BTC", b'{"x":"\xc0\xaf"}', "not_json"),
    "NUL": (b"BTC", b'{"x":"\x00"}', "not_json"),
    "NaN": (b"BTC", b'{"x":NaN}', "not_json"),
    "Infinity": (b"BTC", b'{"x":-Infinity}', "not_json"),
    "two objects": (b"BTC", b'{},"seq":99,"x":{}', "not_json"),
    "JSON but no object": (b"BTC", b"[1]", "not_an_object"),
    "large value": (b"BTC", b'{"x":"' + b"x" * (256 << 10) + b'"}', "too_large"),
}


@pytest.mark.parametrize("case", INVALID)
async def test_invalid_record_is_counted_and_skipped(odin_scenario: Scenario, case: str) -> None:
    """The next record is delivered with the next sequence number."""
    key, value, reason = INVALID[case]
    client = await odin_scenario.connect()
    await client.subscribe(channels=["*.*"])
    odin_scenario.log.append("odin.trades", key, value)
    odin_scenario.publish("BTC", "trade", "good")
    message = await client.message()
    assert (message["seq"], message["data"]["data"]) == (1, "good")
    invalid_records = odin_scenario.service.hub.stats.invalid_records
    assert {str(why): count for why, count in invalid_records.items()} == {reason: 1}


@pytest.mark.parametrize(
    "value",
    [
        b'{"type":"A","type":"B","":1,"":2}',
        rb'{"type":"\u0000\ud83d\ude00"}',
        b'{"x":' + b"[" * 1000 + b"]" * 1000 + b"}",
        b'{"x":0.1000000000000000055511151231257827,"y":-0,"z":123456789012345678901234567890}',
        b'{\r\n\t"x" : 1\r\n}\r\n',
        rb'{"type":"TRADE_EXECUTED","text":"great \ud83d","\udfff":1}',
        b'{"type":"TRADE_EXECUTED","x":[1e400,-1E+999,' + b"9" * 5000 + b"]}",
    ],
    ids=["names-twice", "escapes", "deep", "digits", "spaces", "half-pairs", "huge"],
)
async def test_unusual_but_valid_record_is_delivered_unchanged(
    odin_scenario: Scenario, value: bytes
) -> None:
    """Any JSON object is valid, and breaks no frame."""
    client = await RawClient.open(odin_scenario)
    await client.subscribe("BTC.trade")
    odin_scenario.log.append("odin.trades", b"BTC", value)
    payload = (await client.next()).payload
    assert payload.endswith(b'"data":' + value + b"}")
    assert load_json(payload)["seq"] == 1


async def test_unknown_event_type_is_delivered_and_counted(odin_scenario: Scenario) -> None:
    """New publishers need no new server."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade"])
    odin_scenario.publish("BTC", "trade", kind="FLASH_LOAN")
    odin_scenario.log.append("odin.trades", b"BTC", b'{"no":"type"}')
    assert (await client.message())["data"]["type"] == "FLASH_LOAN"
    assert (await client.message())["data"] == {"no": "type"}
    assert odin_scenario.service.hub.stats.unknown_types == 2


async def test_any_token_gives_a_valid_message(odin_scenario: Scenario) -> None:
    """Quotes, spaces and other characters of a token are escaped in the channel's name."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["*.trade"])
    tokens = ['say "hi"', "a\\b", "né", "日本", " ", ".", "x" * 128]
    for token in tokens:
        odin_scenario.publish(token, "trade")
    channels = {message["channel"] for message in await client.messages(len(tokens))}
    assert channels == {f"{token}.trade" for token in tokens}


async def test_record_has_same_position_on_each_instance(odin_scenario: Scenario) -> None:
    """Two servers read one log; the second one starts later."""
    first = odin_scenario
    first.publish("BTC", "trade", "before the second")
    await trio.sleep(1)
    async with open_scenario(log=first.log) as second:
        clients: list[ScenarioClient] = [await first.connect(), await second.connect()]
        for client in clients:
            await client.subscribe(channels=["*.trade"])
        for number in range(30):
            first.publish(f"T{number}", "trade", number)
        one, other = [await client.messages(30) for client in clients]
    assert {message["data"]["data"]: message["pos"] for message in one} == {
        message["data"]["data"]: message["pos"] for message in other
    }
    assert all(a["seq"] + 1 == b["seq"] for a, b in pairwise(one))
