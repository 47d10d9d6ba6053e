"""Records, evictions and commands at the moment of a resume."""

from __future__ import annotations

from collections import Counter

import pytest
import trio

from odin_ws.settings import Settings
from odin_ws.testing.assertions import offsets_of
from odin_ws.testing.follower import Follower, key_of
from odin_ws.testing.scenario import Scenario, ScenarioClient, open_scenario
from tests.scenarios.resume.following import after, all_messages, publish, send

# A message of these tests takes about 1,000 bytes of the history.
THREE_MESSAGES = 3_200


async def offsets(client: ScenarioClient, count: int) -> list[int]:
    """Return the offsets of the next messages, which have one token."""
    (found,) = offsets_of(await client.messages(count)).values()
    return found


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_records_published_while_replay_waits_are_delivered_once(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """They follow the replayed ones."""
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
    assert ack["replayed"] == sum(message.get("replay", False) for message in messages) == 11
    assert "replay" not in messages[-1]


async def test_records_published_between_chunks_are_delivered_once(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """A slow client reads a long replay from the history meanwhile."""
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
    assert ack["replayed"] == sum(message.get("replay", False) for message in messages)
    assert len(messages) == 200


@pytest.mark.parametrize("less", [-1, 0, 1])
@pytest.mark.odin_settings(ws_history_bytes=THREE_MESSAGES)
async def test_resume_at_history_floor_reads_log_only_if_needed(
    odin_scenario: Scenario, less: int
) -> None:
    """From one offset before the oldest kept message, at it, and after it."""
    records = await publish(odin_scenario, 10)
    floor = odin_scenario.service.hub.history.floor(key_of(records[0]))
    assert floor == 6
    client = await odin_scenario.connect()
    ack = await client.resume(after(records[floor], less=less), channels=["BTC.trade"])
    assert ack["replayed"] == 3 + less
    assert await offsets(client, 3 + less) == list(range(floor - less + 1, 10))
    assert odin_scenario.service.server.replays.from_log == max(0, less)
    assert await client.silence(5)


async def test_resume_with_nothing_missed_replays_nothing(odin_scenario: Scenario) -> None:
    """The next record is delivered."""
    records = await publish(odin_scenario, 3)
    client = await odin_scenario.connect()
    ack = await client.resume(after(records[-1]), channels=["BTC.trade"])
    assert (ack["recovered"], ack["replayed"]) == (True, 0)
    await publish(odin_scenario, 1)
    assert await offsets(client, 1) == [3]


async def test_resume_from_minus_1_replays_all_records(odin_scenario: Scenario) -> None:
    """-1 is the position before the first record."""
    records = await publish(odin_scenario, 3)
    client = await odin_scenario.connect()
    await client.resume(after(records[0], less=1), channels=["BTC.trade"])
    assert await offsets(client, 3) == [0, 1, 2]


@pytest.mark.parametrize("retained", [0, 1 << 20])
async def test_partitions_without_position_start_at_ack_positions(
    odin_scenario: Scenario, retained: int
) -> None:
    """Also during the replay of another partition."""
    async with open_scenario(
        Settings(ws_history_bytes=retained), log=odin_scenario.log
    ) as scenario:
        btc = [scenario.publish("BTC", "trade", "x" * 20_000) for _ in range(20)][-1]
        (eth, _) = await publish(scenario, 2, "ETH")
        assert btc.partition != eth.partition
        client = await scenario.connect(capacity=2000)
        ack = await client.resume(after(btc, less=20), channels=["*.trade"])
        start = ack["positions"][eth.topic][str(eth.partition)]
        assert str(btc.partition) not in ack["positions"][btc.topic]
        await publish(scenario, 3, "ETH")
        found = offsets_of(await all_messages(client))
        await publish(scenario, 1, "ETH")
        found[key_of(eth)] += await offsets(client, 1)
        assert found == {
            key_of(btc): list(range(20)),
            key_of(eth): list(range(start + 1, 6)),
        }


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_second_resume_waits_for_first(odin_scenario: Scenario) -> None:
    """Records that both request are delivered once."""
    records = await publish(odin_scenario, 6)
    others = await publish(odin_scenario, 2, "ETH")
    client = await odin_scenario.connect()
    odin_scenario.log_reader.hold()
    positions = after(records[2], others[0])
    for names in (["BTC.trade"], ["BTC.trade", "ETH.trade"]):
        await send(client, "resume", positions=positions, channels=names)
    await publish(odin_scenario, 1)
    odin_scenario.log_reader.release()
    assert [(await client.response())["replayed"] for _ in range(2)] == [4, 1]
    found = offsets_of(await all_messages(client))
    assert found == {key_of(records[0]): [3, 4, 5, 6], key_of(others[0]): [1]}


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_subscribe_waits_for_running_replay(odin_scenario: Scenario) -> None:
    """It is acknowledged in its turn, and delivers from the ack's positions on."""
    records = await publish(odin_scenario, 6)
    client = await odin_scenario.connect()
    odin_scenario.log_reader.hold()
    await send(client, "resume", positions=after(records[2]), channels=["BTC.trade"])
    await send(client, "subscribe", channels=["ETH.trade"], positions=True)
    (other, *_) = await publish(odin_scenario, 3, "ETH")
    odin_scenario.log_reader.release()
    assert (await client.response())["type"] == "resume_ack"
    ack = await client.response()
    assert (ack["subscribed"], ack["count"]) == (["ETH.trade"], 2)
    assert ack["positions"][other.topic][str(other.partition)] == 2
    await publish(odin_scenario, 2, "ETH")
    found = offsets_of(await all_messages(client))
    assert found == {key_of(records[0]): [3, 4, 5], key_of(other): [3, 4]}


@pytest.mark.odin_settings(ws_history_bytes=0, ws_command_burst=1000)
async def test_more_than_100_waiting_commands_are_rejected(odin_scenario: Scenario) -> None:
    """The error has `retry: true`; nothing else changes."""
    records = await publish(odin_scenario, 2)
    client = await odin_scenario.connect()
    odin_scenario.log_reader.hold()
    for _ in range(103):
        await send(client, "resume", positions=after(records[0]), channels=["BTC.trade"])
    rejected = [await client.response() for _ in range(2)]
    assert {(rejection["code"], rejection["retry"]) for rejection in rejected} == {
        ("RATE_LIMIT_EXCEEDED", True)
    }
    odin_scenario.log_reader.release()
    responses = [await client.response() for _ in range(201)]
    assert Counter(response["type"] for response in responses) == {
        "resume_ack": 101,
        "replay_complete": 100,
    }
    assert await offsets(client, 1) == [1]
    assert await client.silence(5)
