"""Subscriptions that start at a time, with a snapshot, or at exact positions."""

from __future__ import annotations

import time

import pytest
import trio

from odin_ws.records import TopicPartition
from odin_ws.settings import Settings
from odin_ws.testing.assertions import offsets_of
from odin_ws.testing.follower import Follower, key_of, wanted
from odin_ws.testing.scenario import Scenario, open_scenario
from tests.scenarios.resume.following import after, all_messages, publish, send

RETAINED = [0, 5_200, 1 << 20]


def put(scenario: Scenario, token: str, timestamp: int, data: str = "") -> None:
    """Append a trade with this timestamp."""
    value = b'{"type":"TRADE_EXECUTED","timestamp":0,"data":"%b"}' % data.encode()
    scenario.log.append("odin.trades", token.encode(), value, timestamp=timestamp)


async def test_since_ms_without_leader_of_one_partition_loses_only_its_past(
    odin_scenario: Scenario,
) -> None:
    """The ack names its records; other partitions begin in the past, and all are live."""
    records = [*await publish(odin_scenario, 3, "BTC"), *await publish(odin_scenario, 2, "RUNE")]
    here, there = key_of(records[0]), key_of(records[3])
    assert here != there
    odin_scenario.log_reader.without_leader = {here}
    client = await odin_scenario.connect()
    ack = await client.subscribe(channels=["*.trade"], since_ms=0, positions=True)
    assert (ack["replayed"], ack["reason"]) == (2, "unavailable")
    assert ack["lost"] == {here.topic: {str(here.partition): [0, 2]}}
    assert ack["positions"][here.topic][str(here.partition)] == 2
    await publish(odin_scenario, 1, "BTC")
    assert offsets_of(await all_messages(client)) == {here: [3], there: [0, 1]}


async def test_since_ms_without_leader_of_empty_partition_loses_nothing(
    odin_scenario: Scenario,
) -> None:
    """There was no record before its first live one."""
    (record,) = await publish(odin_scenario, 1)
    others = odin_scenario.log.ends().keys() - {key_of(record)}
    odin_scenario.log_reader.without_leader = {key for key in others if key.topic == record.topic}
    client = await odin_scenario.connect()
    ack = await client.subscribe(channels=["*.trade"], since_ms=0)
    assert (ack["replayed"], "lost" in ack) == (1, False)


async def test_since_ms_without_leader_of_a_partition_that_is_not_read_yet_is_told(
    odin_scenario: Scenario,
) -> None:
    """It had no leader when the instance started: which records it has is unknown."""
    late = TopicPartition("odin.trades", 12)
    await publish(odin_scenario, 1)
    odin_scenario.source.lose_broker()
    await trio.sleep(1)
    odin_scenario.log.add_partitions("odin.trades", 1)
    odin_scenario.log_reader.without_leader = {late}
    client = await odin_scenario.connect()
    await client.send('{"type":"subscribe","data":{"channels":["*.trade"],"since_ms":0}}')
    while (ack := await client.response())["type"] != "subscription_ack":
        assert ack["type"] == "feed"
    assert (ack["replayed"], ack["reason"]) == (1, "unavailable")
    assert ack["lost"] == {late.topic: {"12": [0, -1]}}


async def test_since_ms_waits_for_a_partition_that_the_instance_does_not_read_yet(
    odin_scenario: Scenario,
) -> None:
    """It had no leader when the instance started, and is read from its first new record on."""
    late = TopicPartition("odin.trades", 12)
    await publish(odin_scenario, 3)
    odin_scenario.source.lose_broker()
    await trio.sleep(1)
    odin_scenario.log.add_partitions("odin.trades", 1)
    value = b'{"type":"TRADE_EXECUTED","timestamp":0,"data":0}'
    for _ in range(5):
        odin_scenario.log.append("odin.trades", b"late", value, partition=late.partition)
    odin_scenario.source.begin_at(late, 5)
    client = await odin_scenario.connect()
    await client.send('{"type":"subscribe","data":{"channels":["late.trade"],"since_ms":0}}')
    await trio.sleep(5)
    odin_scenario.source.find_broker()
    while (ack := await client.response())["type"] != "subscription_ack":
        assert ack["type"] == "feed"
    assert (ack["replayed"], "lost" in ack) == (5, False)
    odin_scenario.log.append("odin.trades", b"late", value, partition=late.partition)
    assert offsets_of(await all_messages(client)) == {late: [0, 1, 2, 3, 4, 5]}


@pytest.mark.parametrize("retained", RETAINED)
@pytest.mark.parametrize(
    ("since", "first"),
    [(0, 0), (1000, 0), (1001, 1), (1500, 5), (1501, 6), (1900, 9), (1901, 10), (10**13, 10)],
)
async def test_since_ms_replays_from_first_record_of_that_time(
    odin_scenario: Scenario, retained: int, since: int, first: int
) -> None:
    """Live messages follow."""
    settings = Settings(ws_history_bytes=retained)
    async with open_scenario(settings, log=odin_scenario.log) as scenario:
        for number in range(10):
            put(scenario, "BTC", 1000 + 100 * number)
            put(scenario, "ETH", 1000 + 100 * number)
        await trio.sleep(1)
        client = await scenario.connect()
        ack = await client.subscribe(channels=["BTC.trade"], since_ms=since)
        assert (ack["replayed"], "positions" in ack) == (10 - first, False)
        await publish(scenario, 2)
        messages = await all_messages(client)
        (found,) = offsets_of(messages).values()
        assert found == list(range(first, 12))
        assert [bool(message.get("replay")) for message in messages] == [True] * (10 - first) + [
            False
        ] * 2


async def test_since_ms_before_oldest_record_reports_no_loss(odin_scenario: Scenario) -> None:
    """The client requested no offsets, so the replay begins with the oldest record."""
    settings = Settings(ws_history_bytes=0)
    async with open_scenario(settings, log=odin_scenario.log) as scenario:
        records = await publish(scenario, 10)
        scenario.log.delete_before(records[0].topic, records[0].partition, 4)
        client = await scenario.connect()
        ack = await client.subscribe(channels=["BTC.trade"], since_ms=0)
        assert (ack["replayed"], "lost" in ack) == (6, False)
        assert offsets_of(await all_messages(client)) == {key_of(records[0]): [4, 5, 6, 7, 8, 9]}


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_since_ms_misses_no_record_published_during_look_up(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """Its answer has the log as it was when it was asked, before the records were published."""
    await publish(odin_scenario, 5)
    odin_scenario.log_reader.hold()
    follower = Follower("*.trade")
    await follower.connect(nursery, odin_scenario, since_ms=0)
    await trio.sleep(1)
    await publish(odin_scenario, 5)
    await publish(odin_scenario, 5, "ETH")
    odin_scenario.log_reader.release()
    await trio.sleep(1)
    await publish(odin_scenario, 1)
    follower.check(odin_scenario.log.records)
    starts = dict.fromkeys(odin_scenario.log.ends(), -1)
    records = odin_scenario.log.records
    assert offsets_of(follower.messages) == wanted(records, ["*.trade"], starts)


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_interrupted_since_ms_replay_is_resumed_from_ack_positions(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """The ack's positions are those at which the replay begins."""
    for number in range(200):
        odin_scenario.publish(f"T{number % 20}", "trade", "x" * 2000)
    await trio.sleep(2)
    follower = Follower("*.trade")
    follower.pause = 0.1
    await follower.connect(nursery, odin_scenario, capacity=2000, since_ms=0)
    await trio.sleep(5)
    follower.break_off()
    assert 0 < len(follower.messages) < 200
    await follower.connect(nursery, odin_scenario)
    await trio.sleep(60)
    follower.check(odin_scenario.log.records)
    assert len(follower.messages) == 200


async def test_snapshot_is_followed_by_live_messages(odin_scenario: Scenario) -> None:
    """The last message of each channel is marked as `replay`; no message comes twice."""
    for number in range(5):
        await publish(odin_scenario, 1, "BTC")
        await publish(odin_scenario, 1, f"T{number}")
    odin_scenario.publish("BTC", "social")
    await trio.sleep(1)
    client = await odin_scenario.connect()
    ack = await client.subscribe(channels=["*.trade"], snapshot=True, positions=True)
    assert ack["replayed"] == 6
    for _ in range(2):
        await publish(odin_scenario, 1, "BTC")
    messages = await all_messages(client)
    snapshot, live = messages[:6], messages[6:]
    assert all(message["replay"] for message in snapshot)
    assert {
        (message["channel"], message["pos"].split("-")[1])
        for message in snapshot
        if "BTC" in str(message)
    } == {("BTC.trade", "4")}
    assert len({message["channel"] for message in snapshot}) == 6
    assert [(message["channel"], "replay" in message) for message in live] == [
        ("BTC.trade", False)
    ] * 2


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        (["BTC.trade"], {"BTC.trade"}),
        (["BTC.*"], {"BTC.trade", "BTC.social"}),
        (["*.trade"], {"BTC.trade", "a.b.trade"}),
        (["*.*"], {"BTC.trade", "BTC.social", "a.b.trade", "ETH.social"}),
        (["*.trade", "BTC.*"], {"BTC.trade", "BTC.social", "a.b.trade"}),
        (["*.trade", "BTC.trade", "a.b.*"], {"BTC.trade", "a.b.trade"}),
        (["nobody.trade"], set()),
    ],
)
async def test_snapshot_has_each_matching_channel_once(
    odin_scenario: Scenario, channels: list[str], expected: set[str]
) -> None:
    """Also if several patterns match it."""
    for token, category in (
        ("BTC", "trade"),
        ("BTC", "trade"),
        ("BTC", "social"),
        ("a.b", "trade"),
        ("ETH", "social"),
    ):
        odin_scenario.publish(token, category)
    await trio.sleep(1)
    client = await odin_scenario.connect()
    ack = await client.subscribe(channels=channels, snapshot=True)
    found = [message["channel"] for message in await all_messages(client)]
    assert ack["replayed"] == len(found)
    assert sorted(found) == sorted(expected)


async def test_tombstone_removes_channel_until_its_next_record(odin_scenario: Scenario) -> None:
    """A deleted key has no last message."""
    await publish(odin_scenario, 2)
    await publish(odin_scenario, 2, "ETH")
    odin_scenario.log.append("odin.trades", b"BTC", None)
    await trio.sleep(1)
    client = await odin_scenario.connect()
    await client.subscribe(channels=["*.trade"], snapshot=True)
    assert {message["channel"] for message in await all_messages(client)} == {"ETH.trade"}
    await publish(odin_scenario, 1)
    client = await odin_scenario.connect()
    await client.subscribe(channels=["*.trade"], snapshot=True)
    assert {message["channel"] for message in await all_messages(client)} == {
        "BTC.trade",
        "ETH.trade",
    }


async def test_snapshot_includes_records_read_at_start(odin_scenario: Scenario) -> None:
    """An instance reads the recent records of the log when it starts."""
    await publish(odin_scenario, 3)
    odin_scenario.log.append("odin.trades", b"ETH", b"{}")
    odin_scenario.log.append("odin.trades", b"ETH", None)
    async with open_scenario(log=odin_scenario.log) as late:
        client = await late.connect()
        ack = await client.subscribe(channels=["*.trade"], snapshot=True)
        assert ack["replayed"] == 1
        assert (await client.message())["pos"].endswith("-2")


async def test_recreated_topic_is_not_in_snapshot(odin_scenario: Scenario) -> None:
    """Its channels have no last message."""
    (record,) = await publish(odin_scenario, 1)
    odin_scenario.publish("BTC", "social")
    odin_scenario.log.recreate(record.topic)
    await trio.sleep(1)
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.*"], snapshot=True)
    assert {message["channel"] for message in await all_messages(client)} == {"BTC.social"}


@pytest.mark.odin_settings(ws_snapshot_bytes=0)
async def test_snapshot_bytes_of_0_gives_empty_snapshot(odin_scenario: Scenario) -> None:
    """Live messages are delivered."""
    await publish(odin_scenario, 3)
    client = await odin_scenario.connect()
    assert (await client.subscribe(channels=["BTC.trade"], snapshot=True))["replayed"] == 0
    await publish(odin_scenario, 1)
    assert len(await all_messages(client)) == 1


async def test_first_live_message_follows_ack_positions(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """20 clients subscribe while records stream."""
    followers = [Follower("BTC.trade", "*.social") for _ in range(20)]
    for number in range(100):
        odin_scenario.publish("BTC", "trade", number)
        odin_scenario.publish(f"T{number % 5}", "social", number)
        if number % 5 == 0:
            await followers[number // 5].connect(nursery, odin_scenario)
        await trio.sleep(0.013)
    await trio.sleep(2)
    records = odin_scenario.log.records
    for follower in followers:
        follower.check(records)
    starts = [tuple(follower.interests[0].starts.values()) for follower in followers]
    # Two clients may subscribe in the same cycle.
    assert len(set(starts)) >= 15


async def test_ack_has_positions_and_categories_only_if_requested(odin_scenario: Scenario) -> None:
    """They are those of the subscribed topics."""
    client = await odin_scenario.connect()
    ack = await client.subscribe(channels=["BTC.trade"])
    assert "positions" not in ack
    assert "categories" not in ack
    ack = await client.subscribe(channels=["BTC.social"], positions=True)
    assert ack["positions"].keys() == {"odin.social"}
    assert ack["categories"] == {"social": "odin.social"}


async def test_since_ms_with_snapshot_is_rejected(odin_scenario: Scenario) -> None:
    """Each of them sets a start position."""
    client = await odin_scenario.connect()
    error = await client.subscribe(channels=["BTC.trade"], snapshot=True, since_ms=1)
    assert (error["code"], error["message"]) == (
        "INVALID_MESSAGE",
        "data.snapshot: must not be combined with since_ms",
    )


async def test_replaying_commands_repeat_no_live_message(odin_scenario: Scenario) -> None:
    """No message comes twice, whatever later commands request."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade"])
    records = await publish(odin_scenario, 3)
    for data in (
        {"channels": ["BTC.trade"], "since_ms": 0},
        {"channels": ["BTC.*"], "snapshot": True},
        {"channels": ["*.trade"], "since_ms": int(time.time() * 1000) - 60_000},
    ):
        await send(client, "subscribe", **data)
    await send(client, "resume", channels=["BTC.trade"], positions=after(records[0], less=1))
    await publish(odin_scenario, 1)
    assert offsets_of(await all_messages(client)) == {key_of(records[0]): [0, 1, 2, 3]}
