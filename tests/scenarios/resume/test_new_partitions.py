"""Partitions and topics that were created while a client was disconnected."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from odin_ws.catalogue import default_catalogue
from odin_ws.settings import Settings
from odin_ws.testing.assertions import offsets_of
from odin_ws.testing.follower import Follower, key_of
from odin_ws.testing.memory_log import MemoryLog
from odin_ws.testing.scenario import Scenario, open_scenario
from tests.scenarios.resume.following import after, all_messages, publish

TRADES = "odin.trades"
SOCIAL = "odin.social"


async def publish_to_all(scenario: Scenario, count: int) -> None:
    """Publish trades of many tokens, to all partitions."""
    for number in range(count):
        scenario.publish(f"T{number}", "trade", number)
    await trio.sleep(1)


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("retained", [0, 1 << 20])
async def test_resume_replays_partitions_that_were_added_meanwhile(
    odin_scenario: Scenario, nursery: trio.Nursery, retained: int, *, restarted: bool
) -> None:
    """From their first record, also on an instance that started after they were added."""
    log = odin_scenario.log
    async with open_scenario(Settings(ws_history_bytes=retained), log=log) as first:
        follower = Follower("*.trade")
        await follower.connect(nursery, first)
        await publish_to_all(first, 40)
        follower.break_off()
        log.add_partitions(TRADES, 12)
        await publish_to_all(first, 80)
        if restarted:
            async with open_scenario(Settings(ws_history_bytes=retained), log=log) as second:
                await follower.connect(nursery, second)
                await trio.sleep(2)
        else:
            await follower.connect(nursery, first)
            await trio.sleep(2)
    assert follower.responses[0]["recovered"]
    assert len(follower.messages) == 120
    follower.check(log.records)


@pytest.mark.parametrize("retained", [0, 1 << 20])
async def test_resume_replays_a_topic_that_was_created_meanwhile(
    autojump_clock: MockClock, nursery: trio.Nursery, retained: int
) -> None:
    """The client's positions have the topic as `{topic: {}}`: all its records are replayed."""
    topics = [topic for topic in default_catalogue().topics if topic != SOCIAL]
    log = MemoryLog(topics)
    async with open_scenario(Settings(ws_history_bytes=retained), log=log) as scenario:
        follower = Follower("BTC.*")
        await follower.connect(nursery, scenario)
        await trio.sleep(1)
        assert follower.items[0]["positions"][SOCIAL] == {}
        follower.break_off()
        log.add_partitions(SOCIAL, 3)
        for _ in range(5):
            scenario.publish("BTC", "social")
        await trio.sleep(1)
        await follower.connect(nursery, scenario)
        await trio.sleep(1)
        assert follower.responses[0]["recovered"]
        assert len(follower.messages) == 5


async def test_resume_reports_expired_beginning_of_new_partition(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """The remaining records are replayed."""
    async with open_scenario(Settings(ws_history_bytes=0), log=odin_scenario.log) as scenario:
        follower = Follower("*.trade")
        await follower.connect(nursery, scenario)
        await trio.sleep(1)
        follower.break_off()
        scenario.log.add_partitions(TRADES, 1)
        for _ in range(9):
            scenario.log.append(TRADES, b"BTC", b"{}", partition=12)
        await trio.sleep(1)
        scenario.log.delete_before(TRADES, 12, 4)
        await follower.connect(nursery, scenario)
        await trio.sleep(1)
        ack = follower.responses[0]
        assert (ack["recovered"], ack["reason"]) == (False, "expired")
        assert ack["lost"] == {TRADES: {"12": [0, 3]}}
        assert offsets_of(follower.messages) == {(TRADES, 12): [4, 5, 6, 7, 8]}


async def test_resume_reports_topic_without_position(odin_scenario: Scenario) -> None:
    """The topic's records so far are lost, later ones are delivered; an empty topic loses none."""
    records = await publish(odin_scenario, 3)
    social = odin_scenario.publish("BTC", "social")
    await trio.sleep(1)
    client = await odin_scenario.connect()
    names = ["BTC.trade", "BTC.social", "BTC.metadata"]
    ack = await client.resume(after(records[0]), channels=names)
    assert (ack["recovered"], ack["reason"], ack["replayed"]) == (False, "no_position", 2)
    assert ack["lost"] == {SOCIAL: {str(social.partition): [0, 0]}}
    assert ack["positions"][SOCIAL][str(social.partition)] == 0
    assert ack["positions"].keys() == {TRADES, SOCIAL, "odin.metadata"}


async def test_partition_added_during_replay_is_delivered_whole(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """A client whose replay is running gets all its records, as a connected client does."""
    async with open_scenario(Settings(ws_history_bytes=0), log=odin_scenario.log) as scenario:
        follower = Follower("*.trade")
        await follower.connect(nursery, scenario)
        await publish_to_all(scenario, 20)
        follower.break_off()
        await publish_to_all(scenario, 20)
        scenario.log_reader.hold()
        await follower.connect(nursery, scenario)
        await trio.sleep(1)
        scenario.log.add_partitions(TRADES, 12)
        await publish_to_all(scenario, 40)
        scenario.log_reader.release()
        await trio.sleep(2)
        assert follower.responses[0]["recovered"]
        assert len(follower.messages) == 80
        follower.check(scenario.log.records)


async def test_added_partition_is_delivered_to_connected_clients(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """From its first record; a later resume continues there."""
    follower = Follower("*.trade")
    await follower.connect(nursery, odin_scenario)
    await trio.sleep(1)
    odin_scenario.log.add_partitions(TRADES, 12)
    await publish_to_all(odin_scenario, 80)
    follower.break_off()
    await publish_to_all(odin_scenario, 80)
    await follower.connect(nursery, odin_scenario)
    await trio.sleep(1)
    assert follower.responses[0]["recovered"]
    assert len(follower.messages) == 160
    follower.check(odin_scenario.log.records)
    client = await odin_scenario.connect()
    await client.resume(after(*[]) | {TRADES: {}}, channels=["T1.trade"])
    (found,) = offsets_of(await all_messages(client)).values()
    assert found
    assert all(key_of(record).topic == TRADES for record in odin_scenario.log.records)
