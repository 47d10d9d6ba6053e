"""Topics of Kafka Connect and of Confluent's serializers reach clients like Odin's own."""

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
    """Two topics of other publishers, and one like Odin's."""
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
    """One record for each topic of other publishers."""
    scenario.log.append("connect", b'"BTC"', b'{"type":"A","n":%d}' % number)
    scenario.log.append("confluent", PREFIX + b"BTC", PREFIX + b'{"type":"B","n":%d}' % number)


async def test_messages_have_the_token_and_the_json_behind_the_prefix(scenario: Scenario) -> None:
    """The channel has no quotes, the data no prefix, and the event type is found."""
    client = await scenario.connect()
    await client.subscribe(channels=["BTC.*"])
    publish(scenario, 1)
    messages = await client.messages(2)
    assert {one["channel"]: one["data"] for one in messages} == {
        "BTC.trade": {"type": "A", "n": 1},
        "BTC.social": {"type": "B", "n": 1},
    }
    assert scenario.service.hub.stats.unknown_types == 0
    assert not scenario.service.hub.stats.invalid_records


async def test_made_up_events_of_every_format_are_delivered(
    scenario: Scenario, catalogue: Catalogue
) -> None:
    """Each record of `odin-ws publish` becomes a message, whatever its topic's formats."""
    client = await scenario.connect()
    await client.subscribe(channels=["*.*"])
    events = EventGenerator(["BTC", "ODIN"], 1, catalogue)
    for number in range(20):
        scenario.log.append(*events.next(number))
    messages = await client.messages(20)
    assert {one["channel"].split(".")[0] for one in messages} == {"BTC", "ODIN"}
    assert {one["data"]["type"] for one in messages} == {"A", "B"}
    assert not scenario.service.hub.stats.invalid_records


async def test_the_past_that_is_kept_is_the_same(scenario: Scenario) -> None:
    """A snapshot has the last of each channel, and a beginning in the past all."""
    reader = await scenario.connect()
    await reader.subscribe(channels=["BTC.*"])
    for number in (1, 2):
        publish(scenario, number)
    await reader.messages(4)
    client = await scenario.connect()
    await client.subscribe(channels=["BTC.trade", "BTC.social"], snapshot=True)
    assert [one["data"]["n"] for one in await client.messages(2)] == [2, 2]
    client = await scenario.connect()
    await client.subscribe(channels=["BTC.trade", "BTC.social"], since_ms=0)
    assert sorted(one["data"]["n"] for one in await client.messages(4)) == [1, 1, 2, 2]


@pytest.mark.parametrize("kind", ["since_ms", "resume"])
async def test_the_past_that_only_the_log_has_is_the_same(
    catalogue: Catalogue, autojump_clock: MockClock, kind: str
) -> None:
    """A scan of the log finds the token of each record where its topic has it."""
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
        found = sorted((one["channel"], one["data"]["n"]) for one in await client.messages(4))
        assert found == [(name, number) for name in sorted(names) for number in (1, 2)]
        assert scenario.service.server.replays.from_log == 4


async def test_a_tombstone_ends_its_channel(scenario: Scenario) -> None:
    """Its key is written like the others of its topic."""
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


async def test_what_is_written_in_another_way_is_counted(scenario: Scenario) -> None:
    """By what is wrong with it; the good ones arrive."""
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
