"""Topics written by Kafka Connect and Confluent's serializers are delivered like Odin's own."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from odin_ws.catalogue import Catalogue, load_catalogue
from odin_ws.settings import Settings
from odin_ws.testing.events import EventGenerator
from odin_ws.testing.scenario import Scenario, open_scenario

CATALOGUE = """
[[topics]]
name = "connect"
category = "trade"
events = ["A"]
key = "json"

[[topics]]
name = "confluent"
category = "social"
events = ["B"]
key = "confluent"
value = "confluent-json"

[[topics]]
name = "plain"
category = "plain"
"""
PREFIX = b"\x00\x00\x00\x00\x07"


@pytest.fixture
def catalogue() -> Catalogue:
    """Two topics in other formats, and a plain one."""
    return load_catalogue(CATALOGUE)


@pytest.fixture
async def scenario(
    catalogue: Catalogue,
    autojump_clock: object,
) -> AsyncIterator[Scenario]:
    """A server with these topics."""
    async with open_scenario(catalogue=catalogue) as one:
        yield one


def publish(scenario: Scenario, number: int) -> None:
    """Publish one record to each topic in another format."""
    scenario.log.append("connect", b'"BTC"', b'{"type":"A","n":%d}' % number)
    scenario.log.append("confluent", PREFIX + b"BTC", PREFIX + b'{"type":"B","n":%d}' % number)


async def test_message_has_decoded_token_and_value_without_prefix(scenario: Scenario) -> None:
    """The channel has no quotes, the data no schema prefix, and the event type is found."""
    client = await scenario.connect()
    await client.subscribe(channels=["BTC.*"])
    publish(scenario, 1)
    messages = await client.messages(2)
    assert {message["channel"]: message["data"] for message in messages} == {
        "BTC.trade": {"type": "A", "n": 1},
        "BTC.social": {"type": "B", "n": 1},
    }
    assert scenario.service.hub.stats.unknown_types == 0
    assert not scenario.service.hub.stats.invalid_records


async def test_generated_events_of_each_format_are_delivered(
    scenario: Scenario, catalogue: Catalogue
) -> None:
    """`odin-ws publish` writes records in the formats of their topics."""
    client = await scenario.connect()
    await client.subscribe(channels=["*.*"])
    events = EventGenerator(["BTC", "ODIN"], 1, catalogue)
    for number in range(20):
        scenario.log.append(*events.next(number))
    messages = await client.messages(20)
    assert {message["channel"].split(".")[0] for message in messages} == {"BTC", "ODIN"}
    assert {message["data"]["type"] for message in messages} == {"A", "B"}
    assert not scenario.service.hub.stats.invalid_records


async def test_snapshot_and_history_decode_key_formats(scenario: Scenario) -> None:
    """A snapshot has the last message of each channel, `since_ms` all messages."""
    reader = await scenario.connect()
    await reader.subscribe(channels=["BTC.*"])
    for number in (1, 2):
        publish(scenario, number)
    await reader.messages(4)
    client = await scenario.connect()
    await client.subscribe(channels=["BTC.trade", "BTC.social"], snapshot=True)
    assert [message["data"]["n"] for message in await client.messages(2)] == [2, 2]
    client = await scenario.connect()
    await client.subscribe(channels=["BTC.trade", "BTC.social"], since_ms=0)
    assert sorted(message["data"]["n"] for message in await client.messages(4)) == [1, 1, 2, 2]


@pytest.mark.parametrize("kind", ["since_ms", "resume"])
async def test_replay_from_log_decodes_key_formats(
    catalogue: Catalogue, autojump_clock: MockClock, kind: str
) -> None:
    """A scan of the log decodes the token in the format of each topic."""
    async with open_scenario(Settings(ws_history_bytes=0), catalogue=catalogue) as scenario:
        publish(scenario, 1)
        publish(scenario, 2)
        await trio.sleep(1)
        client = await scenario.connect()
        names = ["BTC.trade", "BTC.social"]
        if kind == "resume":
            positions = {
                topic: {key.partition: -1 for key in scenario.log.ends() if key.topic == topic}
                for topic in ("connect", "confluent")
            }
            ack = await client.resume(positions, channels=names)
        else:
            ack = await client.subscribe(channels=names, since_ms=0)
        assert ack["replayed"] == 4
        found = sorted(
            (message["channel"], message["data"]["n"]) for message in await client.messages(4)
        )
        assert found == [(name, number) for name in sorted(names) for number in (1, 2)]
        assert scenario.service.server.replays.from_log == 4


async def test_tombstone_removes_channel_from_snapshot(scenario: Scenario) -> None:
    """Its key has the format of its topic."""
    reader = await scenario.connect()
    await reader.subscribe(channels=["*.*"])
    publish(scenario, 1)
    await reader.messages(2)
    scenario.log.append("connect", b'"BTC"', None)
    scenario.log.append("plain", b"last", b"{}")
    assert (await reader.message())["channel"] == "last.plain"
    client = await scenario.connect()
    await client.subscribe(channels=["BTC.*"], snapshot=True)
    assert (await client.message())["channel"] == "BTC.social"


async def test_records_in_other_formats_are_counted_by_reason(scenario: Scenario) -> None:
    """Valid records are delivered."""
    client = await scenario.connect()
    await client.subscribe(channels=["*.*"])
    for topic, key, value in [
        ("connect", b"BTC", b"{}"),
        ("connect", PREFIX + b'"BTC"', b"{}"),
        ("confluent", b"BTC", PREFIX + b"{}"),
        ("confluent", PREFIX + b"BTC", b"{}"),
        ("plain", b'"BTC"', b"{}"),
        ("plain", PREFIX + b"BTC", b"{}"),
        ("plain", b"BTC", PREFIX + b"{}"),
    ]:
        scenario.log.append(topic, key, value)
    publish(scenario, 1)
    await client.messages(2)
    assert scenario.service.hub.stats.invalid_records == {
        "key_not_json": 1,
        "key_schema_prefix": 2,
        "key_no_schema_prefix": 1,
        "value_no_schema_prefix": 1,
        "key_in_quotes": 1,
        "value_schema_prefix": 1,
    }
