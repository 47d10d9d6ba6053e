"""What else happens at the moment of a resume: records, edges of the tail, other commands."""

from __future__ import annotations

from collections import Counter

import pytest
import trio

from odin_ws.settings import Settings
from odin_ws.testing.assertions import offsets_of
from odin_ws.testing.follower import Follower, key_of
from odin_ws.testing.scenario import Scenario, ScenarioClient, open_scenario
from tests.scenarios.resume.following import after, all_messages, publish, say

# A message of these tests takes about 1,000 bytes of the tail.
THREE_MESSAGES = 3_200


async def offsets(client: ScenarioClient, count: int) -> list[int]:
    """The offsets of the next messages, which have one token."""
    (found,) = offsets_of(await client.messages(count)).values()
    return found


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_records_that_come_meanwhile(odin_scenario: Scenario, nursery: trio.Nursery) -> None:
    """They come once, behind the replayed ones, and are no replay."""
    follower = Follower("*.trade")
    await follower.connect(nursery, odin_scenario)
    await publish(odin_scenario, 1)
    follower.break_off()
    await publish(odin_scenario, 5)
    odin_scenario.log_reader.hold()
    await follower.connect(nursery, odin_scenario)
    await trio.sleep(1)
    await publish(odin_scenario, 4)
    await publish(odin_scenario, 2, "ETH")
    odin_scenario.log_reader.release()
    await trio.sleep(1)
    await publish(odin_scenario, 1)
    follower.check(odin_scenario.log.records)
    ack, *messages = follower.items
    assert ack["replayed"] == sum(one.get("replay", False) for one in messages) == 11
    assert "replay" not in messages[-1]


async def test_records_that_come_between_chunks(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """A long replay from the tail is joined to what is published while the client takes it."""
    follower = Follower("*.trade")
    await follower.connect(nursery, odin_scenario)
    await publish(odin_scenario, 1)
    follower.break_off()
    for number in range(100):
        odin_scenario.publish(f"T{number}", "trade", "x" * 5_000)
    await trio.sleep(2)
    follower.pause = 0.02
    await follower.connect(nursery, odin_scenario, capacity=2000)
    for number in range(100):
        odin_scenario.publish(f"T{number}", "trade", "later")
        await trio.sleep(0.02)
    await trio.sleep(10)
    follower.check(odin_scenario.log.records)
    ack, *messages = follower.items
    assert ack["replayed"] == sum(one.get("replay", False) for one in messages)
    assert len(messages) == 200


@pytest.mark.parametrize("less", [-1, 0, 1])
@pytest.mark.odin_settings(ws_history_bytes=THREE_MESSAGES)
async def test_at_the_edge_of_the_tail(odin_scenario: Scenario, less: int) -> None:
    """One before the oldest kept message, at it, and one behind it: the log is asked if needed."""
    records = await publish(odin_scenario, 10)
    floor = odin_scenario.service.hub.history.floor(key_of(records[0]))
    assert floor == 6
    client = await odin_scenario.connect()
    ack = await client.resume(after(records[floor], less=less), channels=["BTC.trade"])
    assert ack["replayed"] == 3 + less
    assert await offsets(client, 3 + less) == list(range(floor - less + 1, 10))
    assert odin_scenario.service.server.replays.from_log == max(0, less)
    assert await client.silence(5)


async def test_with_nothing_missed(odin_scenario: Scenario) -> None:
    """Nothing is replayed, and the next record comes."""
    records = await publish(odin_scenario, 3)
    client = await odin_scenario.connect()
    ack = await client.resume(after(records[-1]), channels=["BTC.trade"])
    assert (ack["recovered"], ack["replayed"]) == (True, 0)
    await publish(odin_scenario, 1)
    assert await offsets(client, 1) == [3]


async def test_from_before_the_first_record(odin_scenario: Scenario) -> None:
    """-1 stands before it: all there is comes."""
    records = await publish(odin_scenario, 3)
    client = await odin_scenario.connect()
    await client.resume(after(records[0], less=1), channels=["BTC.trade"])
    assert await offsets(client, 3) == [0, 1, 2]


@pytest.mark.parametrize("retained", [0, 1 << 20])
async def test_partitions_that_are_not_named_begin_at_the_answer(
    odin_scenario: Scenario, retained: int
) -> None:
    """Behind the positions it is given for them a client gets everything, also during a replay."""
    async with open_scenario(
        Settings(ws_history_bytes=retained), log=odin_scenario.log
    ) as scenario:
        btc = [scenario.publish("BTC", "trade", "x" * 20_000) for _ in range(20)][-1]
        (eth, _) = await publish(scenario, 2, "ETH")
        assert btc.partition != eth.partition
        client = await scenario.connect(capacity=2000)
        ack = await client.resume(after(btc, less=20), channels=["*.trade"])
        begins = ack["positions"][eth.topic][str(eth.partition)]
        assert str(btc.partition) not in ack["positions"][btc.topic]
        await publish(scenario, 3, "ETH")
        found = offsets_of(await all_messages(client))
        await publish(scenario, 1, "ETH")
        found[key_of(eth)] += await offsets(client, 1)
        assert found == {
            key_of(btc): list(range(20)),
            key_of(eth): list(range(begins + 1, 6)),
        }


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_two_resumes_in_a_row(odin_scenario: Scenario) -> None:
    """The second waits for the first, and what both ask for comes once."""
    records = await publish(odin_scenario, 6)
    others = await publish(odin_scenario, 2, "ETH")
    client = await odin_scenario.connect()
    odin_scenario.log_reader.hold()
    positions = after(records[2], others[0])
    for names in (["BTC.trade"], ["BTC.trade", "ETH.trade"]):
        await say(client, "resume", positions=positions, channels=names)
    await publish(odin_scenario, 1)
    odin_scenario.log_reader.release()
    assert [(await client.answer())["replayed"] for _ in range(2)] == [4, 1]
    found = offsets_of(await all_messages(client))
    assert found == {key_of(records[0]): [3, 4, 5, 6], key_of(others[0]): [1]}


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_a_subscribe_waits_for_the_replay(odin_scenario: Scenario) -> None:
    """Its answer comes in its turn, and then it is live behind the positions it names."""
    records = await publish(odin_scenario, 6)
    client = await odin_scenario.connect()
    odin_scenario.log_reader.hold()
    await say(client, "resume", positions=after(records[2]), channels=["BTC.trade"])
    await say(client, "subscribe", channels=["ETH.trade"], positions=True)
    (other, *_) = await publish(odin_scenario, 3, "ETH")
    odin_scenario.log_reader.release()
    assert (await client.answer())["type"] == "resume_ack"
    ack = await client.answer()
    assert (ack["subscribed"], ack["count"]) == (["ETH.trade"], 2)
    assert ack["positions"][other.topic][str(other.partition)] == 2
    await publish(odin_scenario, 2, "ETH")
    found = offsets_of(await all_messages(client))
    assert found == {key_of(records[0]): [3, 4, 5], key_of(other): [3, 4]}


@pytest.mark.odin_settings(ws_history_bytes=0, ws_command_burst=1000)
async def test_only_so_many_commands_wait(odin_scenario: Scenario) -> None:
    """More than 100 behind one replay are rejected, to be sent again, and nothing else changes."""
    records = await publish(odin_scenario, 2)
    client = await odin_scenario.connect()
    odin_scenario.log_reader.hold()
    for _ in range(103):
        await say(client, "resume", positions=after(records[0]), channels=["BTC.trade"])
    rejected = [await client.answer() for _ in range(2)]
    assert {(one["code"], one["retry"]) for one in rejected} == {("RATE_LIMIT_EXCEEDED", True)}
    odin_scenario.log_reader.release()
    answers = [await client.answer() for _ in range(201)]
    assert Counter(one["type"] for one in answers) == {"resume_ack": 101, "replay_complete": 100}
    assert await offsets(client, 1) == [1]
    assert await client.silence(5)
