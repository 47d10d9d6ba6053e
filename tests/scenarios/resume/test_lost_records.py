"""Records that a replay cannot bring are reported exactly, with the reason."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from odin_ws.records import Record
from odin_ws.settings import Settings
from odin_ws.testing.assertions import offsets_of
from odin_ws.testing.follower import Follower, key_of
from odin_ws.testing.scenario import Scenario, ScenarioClient, open_scenario
from tests.scenarios.resume.following import after, all_messages, following, publish, send

without_history = pytest.mark.odin_settings(ws_history_bytes=0)


def lost(record: Record, first: int, last: int) -> dict[str, dict[str, list[int]]]:
    """Return the `lost` field of one partition."""
    return {record.topic: {str(record.partition): [first, last]}}


async def next_offsets(client: ScenarioClient, scenario: Scenario) -> list[int]:
    """Publish one more record; return the offsets of all messages that follow."""
    scenario.publish("BTC", "trade", "live")
    (found,) = offsets_of(await all_messages(client)).values()
    return found


@without_history
async def test_records_deleted_before_resume_are_reported_expired(odin_scenario: Scenario) -> None:
    """The remaining records are replayed."""
    records = await publish(odin_scenario, 10)
    odin_scenario.log.delete_before(records[0].topic, records[0].partition, 6)
    client = await odin_scenario.connect()
    ack = await client.resume(after(records[2]), channels=["BTC.trade"])
    assert (ack["recovered"], ack["replayed"], ack["reason"]) == (False, 4, "expired")
    assert ack["lost"] == lost(records[0], 3, 5)
    assert await next_offsets(client, odin_scenario) == [6, 7, 8, 9, 10]
    assert odin_scenario.service.server.replays.results == {"expired": 1}


@without_history
async def test_client_becomes_live_if_all_records_expired(odin_scenario: Scenario) -> None:
    """The ack reports all of them as lost."""
    records = await publish(odin_scenario, 10)
    odin_scenario.log.delete_before(records[0].topic, records[0].partition, 10)
    client = await odin_scenario.connect()
    ack = await client.resume(after(records[2]), channels=["BTC.trade"])
    assert (ack["replayed"], ack["lost"]) == (0, lost(records[0], 3, 9))
    assert await next_offsets(client, odin_scenario) == [10]


async def test_records_in_history_are_replayed_though_log_deleted_them(
    odin_scenario: Scenario,
) -> None:
    """Kafka's retention does not affect the in-memory history."""
    records = await publish(odin_scenario, 10)
    odin_scenario.log.delete_before(records[0].topic, records[0].partition, 10)
    client = await odin_scenario.connect()
    ack = await client.resume(after(records[2]), channels=["BTC.trade"])
    assert (ack["recovered"], ack["replayed"]) == (True, 7)


@without_history
async def test_expired_records_of_other_tokens_are_reported_lost(odin_scenario: Scenario) -> None:
    """The keys of deleted records are unknown, so all their offsets are reported."""
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


@without_history
async def test_records_deleted_during_replay_are_reported_before_later_ones(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """Then the remaining records follow."""
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
    ack, loss, complete = follower.responses
    assert (ack["recovered"], ack["replayed"]) == (True, None)
    assert (loss["type"], loss["reason"]) == ("replay_incomplete", "expired")
    ((_, span),) = loss["lost"][first.topic].items()
    assert span[1] == 2799
    place = follower.items.index(loss)
    assert loss["count"] == place - 1
    assert offsets_of(follower.items[1:place])[key_of(first)] == list(range(span[0]))
    assert offsets_of(follower.messages)[key_of(first)] == [*range(span[0]), *range(2800, 3001)]
    count = sum(item.get("replay", False) for item in follower.items)
    assert complete == {"type": "replay_complete", "count": count}


async def test_records_dropped_from_history_and_log_during_replay_are_reported(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """The history dropped them while a slow client was reading, and the log deleted them."""
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
        ack, loss, complete = follower.responses
        assert (ack["recovered"], ack["replayed"]) == (True, 500)
        assert complete == {"type": "replay_complete", "count": loss["count"]}
        ((_, span),) = loss["lost"][first.topic].items()
        assert (loss["type"], span[1]) == ("replay_incomplete", 499)
        assert offsets_of(follower.messages)[key_of(first)] == [*range(span[0]), 500]


@pytest.mark.parametrize("beyond", [1, 72])
@pytest.mark.parametrize("retained", [0, 1 << 20])
async def test_position_beyond_end_of_log_is_unknown_position(
    odin_scenario: Scenario, retained: int, beyond: int
) -> None:
    """Nothing is replayed, all records of the log count as lost, and the next one is delivered.

    The ack's position replaces the client's, so that the client does not send it again.
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


async def test_position_in_missing_partition_is_unknown_position(odin_scenario: Scenario) -> None:
    """The other partitions are resumed."""
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


async def test_recreated_topic_is_unknown_position_for_client_without_ids(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """Nothing of the topic is replayed; later records are delivered."""
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


@without_history
async def test_topic_recreated_during_replay_is_reported_and_delivered_whole(
    odin_scenario: Scenario,
) -> None:
    """No record of the new topic is missing, and the replay ends."""
    records = await publish(odin_scenario, 9)
    odin_scenario.log_reader.hold()
    client = await odin_scenario.connect()
    await send(client, "resume", positions=after(records[4]), channels=["BTC.trade"])
    await trio.sleep(1)
    odin_scenario.log.recreate(records[0].topic)
    await publish(odin_scenario, 3)
    odin_scenario.log_reader.release()
    responses = [await client.response() for _ in range(2)]
    (ack,) = [response for response in responses if response["type"] == "resume_ack"]
    assert (ack["recovered"], ack["reason"]) == (False, "recreated")
    assert ack["lost"][records[0].topic][str(records[0].partition)] == [0, -1]
    assert await next_offsets(client, odin_scenario) == [0, 1, 2, 3]


@without_history
async def test_replay_waits_while_source_has_not_noticed_recreated_topic(
    odin_scenario: Scenario,
) -> None:
    """It gets NOT_AVAILABLE after 30 s."""
    records = await publish(odin_scenario, 9)
    odin_scenario.source.lose_broker()
    odin_scenario.log.recreate(records[0].topic)
    client = await odin_scenario.connect()
    with trio.fail_after(40):
        await client.response()  # the notice of the stalled feed
        error = await client.resume(after(records[4]), channels=["BTC.trade"])
    assert (error["code"], error["retry"]) == ("NOT_AVAILABLE", True)


@pytest.mark.odin_settings(ws_history_bytes=0, ws_max_replay_records=100)
async def test_replay_over_max_replay_records_keeps_newest(odin_scenario: Scenario) -> None:
    """The older records are reported as lost."""
    records = await publish(odin_scenario, 300)
    client = await odin_scenario.connect()
    ack = await client.resume(after(records[9]), channels=["BTC.trade"])
    assert (ack["recovered"], ack["replayed"], ack["reason"]) == (False, 100, "too_many")
    assert ack["lost"] == lost(records[0], 10, 199)
    assert await next_offsets(client, odin_scenario) == list(range(200, 301))


@pytest.mark.odin_settings(ws_history_bytes=0, ws_max_replay_records=100)
async def test_replay_of_max_replay_records_is_recovered(odin_scenario: Scenario) -> None:
    """The limit itself is allowed."""
    records = await publish(odin_scenario, 101)
    client = await odin_scenario.connect()
    ack = await client.resume(after(records[0]), channels=["BTC.trade"])
    assert (ack["recovered"], ack["replayed"]) == (True, 100)


@pytest.mark.odin_settings(ws_history_bytes=0, ws_max_replay_records=0)
async def test_max_replay_records_of_0_reports_all_records_before_history(
    odin_scenario: Scenario,
) -> None:
    """All records older than the history are reported as lost."""
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
async def test_resume_with_invalid_positions_is_rejected(
    odin_scenario: Scenario, positions: Any, named: str
) -> None:
    """The error names the field; nothing is subscribed, and the connection stays."""
    client = await odin_scenario.connect()
    error = await client.command("resume", positions=positions, channels=["BTC.trade"])
    assert (error["type"], error["code"]) == ("error", "INVALID_MESSAGE")
    assert error["message"].startswith(f"{named}: ")
    await publish(odin_scenario, 1)
    assert await client.silence(5)
    assert (await client.command("heartbeat"))["type"] == "pong"
