"""What cannot be had is told, and nothing else is: which records, and why."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from odin_ws.records import Record
from odin_ws.settings import Settings
from odin_ws.testing.assertions import offsets_of
from odin_ws.testing.follower import Follower, key_of
from odin_ws.testing.scenario import Scenario, ScenarioClient, open_scenario
from tests.scenarios.resume.following import after, all_messages, following, publish, say

no_tail = pytest.mark.odin_settings(ws_history_bytes=0)


def lost(record: Record, first: int, last: int) -> dict[str, dict[str, list[int]]]:
    """The field of that name for one partition."""
    return {record.topic: {str(record.partition): [first, last]}}


async def next_offsets(client: ScenarioClient, scenario: Scenario) -> list[int]:
    """The offsets of what comes, after one more record."""
    scenario.publish("BTC", "trade", "live")
    (found,) = offsets_of(await all_messages(client)).values()
    return found


@no_tail
async def test_expired_before(odin_scenario: Scenario) -> None:
    """The records that retention took, exactly; the others come."""
    records = await publish(odin_scenario, 10)
    odin_scenario.log.delete_before(records[0].topic, records[0].partition, 6)
    client = await odin_scenario.connect()
    ack = await client.resume(after(records[2]), channels=["BTC.trade"])
    assert (ack["recovered"], ack["replayed"], ack["reason"]) == (False, 4, "expired")
    assert ack["lost"] == lost(records[0], 3, 5)
    assert await next_offsets(client, odin_scenario) == [6, 7, 8, 9, 10]
    assert odin_scenario.service.server.replays.results == {"expired": 1}


@no_tail
async def test_expired_all(odin_scenario: Scenario) -> None:
    """Where all of it is gone the client is live after what was lost."""
    records = await publish(odin_scenario, 10)
    odin_scenario.log.delete_before(records[0].topic, records[0].partition, 10)
    client = await odin_scenario.connect()
    ack = await client.resume(after(records[2]), channels=["BTC.trade"])
    assert (ack["replayed"], ack["lost"]) == (0, lost(records[0], 3, 9))
    assert await next_offsets(client, odin_scenario) == [10]


async def test_what_the_tail_still_has_is_not_lost(odin_scenario: Scenario) -> None:
    """Retention of the log takes nothing from those whom memory serves."""
    records = await publish(odin_scenario, 10)
    odin_scenario.log.delete_before(records[0].topic, records[0].partition, 10)
    client = await odin_scenario.connect()
    ack = await client.resume(after(records[2]), channels=["BTC.trade"])
    assert (ack["recovered"], ack["replayed"]) == (True, 7)


@no_tail
async def test_only_other_tokens_expired(odin_scenario: Scenario) -> None:
    """A partition's offsets are told, whoever's they were: nobody knows any more."""
    records = await publish(odin_scenario, 2)
    others = [
        odin_scenario.log.append(key.topic, b"ETH", b"{}", partition=key.partition)
        for key in [key_of(records[0])] * 5
    ]
    await trio.sleep(1)
    odin_scenario.log.delete_before(others[0].topic, others[0].partition, 5)
    client = await odin_scenario.connect()
    ack = await client.resume(after(records[1]), channels=["BTC.trade"])
    assert ack["lost"] == lost(others[0], 2, 4)


@no_tail
async def test_expired_amid_a_replay(odin_scenario: Scenario, nursery: trio.Nursery) -> None:
    """What goes while the client is slow is told before anything behind it comes, then the rest."""
    for number in range(3000):
        odin_scenario.publish("BTC", "trade", [number, "x" * 1000])
    await trio.sleep(5)
    first = odin_scenario.log.records[0]
    follower = following([first], "BTC.trade")
    follower.pause = 0.01
    await follower.connect(nursery, odin_scenario, capacity=20_000)
    await trio.sleep(2)
    odin_scenario.log.delete_before(first.topic, first.partition, 2800)
    await trio.sleep(60)
    odin_scenario.publish("BTC", "trade", "live")
    await trio.sleep(1)
    ack, said, complete = follower.answers
    assert (ack["recovered"], ack["replayed"]) == (True, None)
    assert (said["type"], said["reason"]) == ("replay_incomplete", "expired")
    ((_, span),) = said["lost"][first.topic].items()
    assert span[1] == 2799
    place = follower.items.index(said)
    assert said["count"] == place - 1
    assert offsets_of(follower.items[1:place])[key_of(first)] == list(range(span[0]))
    assert offsets_of(follower.messages)[key_of(first)] == [*range(span[0]), *range(2800, 3001)]
    count = sum(item.get("replay", False) for item in follower.items)
    assert complete == {"type": "replay_complete", "count": count}


async def test_expired_from_the_tail_amid_a_replay(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """Also where the tail moved on under a slow client, and the log has nothing left of it."""
    settings = Settings(ws_history_bytes=6_000_000)
    async with open_scenario(settings, log=odin_scenario.log) as scenario:
        for number in range(500):
            scenario.publish("BTC", "trade", [number, "x" * 5000])
        await trio.sleep(2)
        first = scenario.log.records[0]
        follower = following([first], "BTC.trade")
        follower.pause = 0.1
        await follower.connect(nursery, scenario, capacity=5000)
        await trio.sleep(0.5)
        for _ in range(1000):
            scenario.publish("ETH", "trade", "x" * 5000)
        scenario.log.delete_before(first.topic, first.partition, 500)
        await trio.sleep(30)
        scenario.publish("BTC", "trade", "live")
        await trio.sleep(1)
        ack, said, complete = follower.answers
        assert (ack["recovered"], ack["replayed"]) == (True, 500)
        assert complete == {"type": "replay_complete", "count": said["count"]}
        ((_, span),) = said["lost"][first.topic].items()
        assert (said["type"], span[1]) == ("replay_incomplete", 499)
        assert offsets_of(follower.messages)[key_of(first)] == [*range(span[0]), 500]


@pytest.mark.parametrize("beyond", [1, 72])
@pytest.mark.parametrize("retained", [0, 1 << 20])
async def test_a_position_beyond_the_end(
    odin_scenario: Scenario, retained: int, beyond: int
) -> None:
    """Nobody ever was there: nothing is replayed, the next record comes, and here is what there is.

    The answer's position replaces the client's, so that it does not ask for it again.
    """
    settings = Settings(ws_history_bytes=retained)
    async with open_scenario(settings, log=odin_scenario.log) as scenario:
        records = await publish(scenario, 5)
        client = await scenario.connect()
        ack = await client.resume(after(records[-1], less=-beyond), channels=["BTC.trade"])
        assert (ack["recovered"], ack["replayed"]) == (False, 0)
        assert (ack["reason"], ack["lost"]) == ("unknown_position", lost(records[0], 0, 4))
        assert ack["positions"][records[0].topic][str(records[0].partition)] == 4
        assert await next_offsets(client, scenario) == [5]


async def test_a_partition_that_does_not_exist(odin_scenario: Scenario) -> None:
    """It is told, and the others are resumed as usual."""
    records = await publish(odin_scenario, 5)
    positions = after(records[1])
    positions[records[0].topic][4711] = 3
    client = await odin_scenario.connect()
    ack = await client.resume(positions, channels=["BTC.trade"])
    assert (ack["recovered"], ack["replayed"]) == (False, 3)
    assert (ack["reason"], ack["lost"]) == (
        "unknown_position",
        {records[0].topic: {"4711": [0, -1]}},
    )
    assert await next_offsets(client, odin_scenario) == [2, 3, 4, 5]


async def test_a_recreated_topic_and_a_client_without_ids(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """Its old positions mean nothing: it is told, nothing of it is replayed, and news comes."""
    follower = Follower("BTC.trade", keeps_ids=False)
    await follower.connect(nursery, odin_scenario)
    records = await publish(odin_scenario, 9)
    follower.break_off()
    odin_scenario.log.recreate(records[0].topic)
    await publish(odin_scenario, 3)
    await follower.connect(nursery, odin_scenario)
    await trio.sleep(2)
    (ack,) = follower.items
    assert (ack["recovered"], ack["replayed"]) == (False, 0)
    assert (ack["reason"], ack["lost"]) == ("unknown_position", lost(records[0], 0, 2))
    follower.messages.clear()
    await publish(odin_scenario, 3)
    assert offsets_of(follower.messages) == {key_of(records[0]): [3, 4, 5]}


@no_tail
async def test_a_topic_that_is_recreated_amid_a_replay(odin_scenario: Scenario) -> None:
    """No record of its new life is missing without a word, and the replay comes to an end."""
    records = await publish(odin_scenario, 9)
    odin_scenario.log_reader.hold()
    client = await odin_scenario.connect()
    await say(client, "resume", positions=after(records[4]), channels=["BTC.trade"])
    await trio.sleep(1)
    odin_scenario.log.recreate(records[0].topic)
    await publish(odin_scenario, 3)
    odin_scenario.log_reader.release()
    answers = [await client.answer() for _ in range(2)]
    (ack,) = [one for one in answers if one["type"] == "resume_ack"]
    assert (ack["recovered"], ack["reason"]) == (False, "recreated")
    assert ack["lost"][records[0].topic][str(records[0].partition)] == [0, -1]
    assert await next_offsets(client, odin_scenario) == [0, 1, 2, 3]


@no_tail
async def test_a_log_that_was_recreated_behind_our_back(odin_scenario: Scenario) -> None:
    """While the source has not noticed, a replay waits without turning in circles."""
    records = await publish(odin_scenario, 9)
    odin_scenario.source.lose_broker()
    odin_scenario.log.recreate(records[0].topic)
    client = await odin_scenario.connect()
    with trio.fail_after(40):
        await client.answer()  # that the feed has stalled
        error = await client.resume(after(records[4]), channels=["BTC.trade"])
    assert (error["code"], error["retry"]) == ("NOT_AVAILABLE", True)


@pytest.mark.odin_settings(ws_history_bytes=0, ws_max_replay_records=100)
async def test_too_many(odin_scenario: Scenario) -> None:
    """Beyond WS_MAX_REPLAY_RECORDS the newest are kept, and the others told."""
    records = await publish(odin_scenario, 300)
    client = await odin_scenario.connect()
    ack = await client.resume(after(records[9]), channels=["BTC.trade"])
    assert (ack["recovered"], ack["replayed"], ack["reason"]) == (False, 100, "too_many")
    assert ack["lost"] == lost(records[0], 10, 199)
    assert await next_offsets(client, odin_scenario) == list(range(200, 301))


@pytest.mark.odin_settings(ws_history_bytes=0, ws_max_replay_records=100)
async def test_as_many_as_allowed(odin_scenario: Scenario) -> None:
    """One less is not too many."""
    records = await publish(odin_scenario, 101)
    client = await odin_scenario.connect()
    ack = await client.resume(after(records[0]), channels=["BTC.trade"])
    assert (ack["recovered"], ack["replayed"]) == (True, 100)


@pytest.mark.odin_settings(ws_history_bytes=0, ws_max_replay_records=0)
async def test_none_is_allowed(odin_scenario: Scenario) -> None:
    """With WS_MAX_REPLAY_RECORDS=0 everything beyond the tail is told to be lost."""
    records = await publish(odin_scenario, 10)
    client = await odin_scenario.connect()
    ack = await client.resume(after(records[0]), channels=["BTC.trade"])
    assert (ack["replayed"], ack["lost"]) == (0, lost(records[0], 1, 9))
    assert await next_offsets(client, odin_scenario) == [10]


@pytest.mark.parametrize(
    ("positions", "named"),
    [
        (None, "data.positions"),
        ([], "data.positions"),
        ("2-3", "data.positions"),
        ({"trades": {"0": 1}}, "data.positions.trades"),
        ({"odin.trades": 5}, "data.positions.odin.trades"),
        ({"odin.trades": {"x": 5}}, "data.positions.odin.trades"),
        ({"odin.trades": {"-1": 5}}, "data.positions.odin.trades"),
        ({"odin.trades": {"01": 5}}, "data.positions.odin.trades"),
        ({"odin.trades": {"\u0661": 5}}, "data.positions.odin.trades"),
        ({"odin.trades": {"2147483648": 5}}, "data.positions.odin.trades"),
        ({"odin.trades": {"1": "5"}}, "data.positions.odin.trades.1"),
        ({"odin.trades": {"1": 1.5}}, "data.positions.odin.trades.1"),
        ({"odin.trades": {"1": True}}, "data.positions.odin.trades.1"),
        ({"odin.trades": {"1": None}}, "data.positions.odin.trades.1"),
        ({"odin.trades": {"1": -2}}, "data.positions.odin.trades.1"),
        ({"odin.trades": {"1": 1 << 63}}, "data.positions.odin.trades.1"),
    ],
)
async def test_positions_that_are_none(odin_scenario: Scenario, positions: Any, named: str) -> None:
    """The error names the field; nothing changes and the connection goes on."""
    client = await odin_scenario.connect()
    error = await client.command("resume", positions=positions, channels=["BTC.trade"])
    assert (error["type"], error["code"]) == ("error", "INVALID_MESSAGE")
    assert error["message"].startswith(f"{named}: ")
    await publish(odin_scenario, 1)
    assert await client.silence(5)
    assert (await client.command("heartbeat"))["type"] == "pong"
