"""Topics that are deleted and created again, and topics whose log is truncated."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from odin_ws.records import Record
from odin_ws.settings import Settings
from odin_ws.testing.assertions import offsets_of
from odin_ws.testing.follower import Follower, key_of
from odin_ws.testing.scenario import Scenario, open_scenario
from tests.scenarios.resume.following import after, all_messages, publish, send

TRADES = "odin.trades"


def of(record: Record, topics: dict[str, dict[str, Any]]) -> Any:
    """Return the value of a record's partition in `{topic: {partition: value}}`."""
    return topics[record.topic][str(record.partition)]


async def test_acks_and_positions_notices_have_topic_ids(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """They are those of the topics with positions; an ack without positions has none."""
    follower = Follower("BTC.trade")
    await follower.connect(nursery, odin_scenario)
    await trio.sleep(30)
    ids = {TRADES: odin_scenario.log.ids[TRADES]}
    acks = [item["ids"] for item in follower.items if item["type"] == "subscription_ack"]
    notices = [item["ids"] for item in follower.items if item["type"] == "positions"]
    assert acks == [ids]
    assert notices
    assert all(notice == ids for notice in notices)
    client = await odin_scenario.connect()
    assert "ids" not in await client.subscribe(channels=["BTC.trade"])
    # Acks of replaying subscriptions have them too.
    for more in {"since_ms": 0}, {"snapshot": True}:
        client = await odin_scenario.connect()
        assert (await client.subscribe(channels=["BTC.trade"], positions=True, **more))[
            "ids"
        ] == ids
    follower.break_off()
    await follower.connect(nursery, odin_scenario)
    await trio.sleep(1)
    assert follower.responses[0]["ids"] == ids


@pytest.mark.parametrize("retained", [0, 1 << 20])
async def test_resume_with_old_topic_id_replays_whole_new_topic(
    autojump_clock: MockClock, nursery: trio.Nursery, retained: int
) -> None:
    """Also if the new topic is longer than the client's position; it is reported once."""
    async with open_scenario(Settings(ws_history_bytes=retained)) as scenario:
        follower = Follower("BTC.trade")
        await follower.connect(nursery, scenario)
        records = await publish(scenario, 5)
        follower.break_off()
        scenario.log.recreate(TRADES)
        await publish(scenario, 8)
        follower.messages.clear()
        await follower.connect(nursery, scenario)
        await trio.sleep(2)
        (ack,) = follower.responses
        assert (ack["recovered"], ack["reason"], ack["replayed"]) == (False, "recreated", 8)
        assert of(records[0], ack["lost"]) == [0, -1]
        assert of(records[0], ack["positions"]) == -1
        assert ack["ids"] == {TRADES: scenario.log.ids[TRADES]}
        assert offsets_of(follower.messages) == {key_of(records[0]): list(range(8))}
        follower.break_off()
        await publish(scenario, 1)
        await follower.connect(nursery, scenario)
        await trio.sleep(1)
        assert follower.responses[0]["recovered"]
        assert offsets_of(follower.messages) == {key_of(records[0]): list(range(9))}


async def test_resume_with_topic_id_from_before_start_waits_and_replays_new_topic(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """The instance never saw the old topic: it waits, since the client's id may be newer."""
    follower = Follower("BTC.trade")
    await follower.connect(nursery, odin_scenario)
    records = await publish(odin_scenario, 5)
    follower.break_off()
    odin_scenario.log.recreate(TRADES, partitions=3)
    await publish(odin_scenario, 8)
    async with open_scenario(log=odin_scenario.log) as late:
        await follower.connect(nursery, late)
        await trio.sleep(10)
        (ack,) = follower.responses
    assert (ack["recovered"], ack["reason"], ack["replayed"]) == (False, "recreated", 8)
    assert ack["positions"][TRADES] == {"0": -1, "1": -1, "2": -1}
    assert {key for key in follower.positions if key.topic == TRADES} == {
        (TRADES, number) for number in range(3)
    }
    assert records


async def test_resume_with_newer_topic_id_waits_for_the_source(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """The client is not told that its topic was recreated."""
    async with open_scenario(log=odin_scenario.log) as behind:
        await publish(odin_scenario, 5)
        behind.source.lose_broker()
        odin_scenario.log.recreate(TRADES)
        follower = Follower("BTC.trade")
        await follower.connect(nursery, odin_scenario)
        await publish(odin_scenario, 3)
        follower.break_off()
        await publish(odin_scenario, 2)
        await follower.connect(nursery, behind)
        await trio.sleep(2)
        behind.source.find_broker()
        await trio.sleep(3)
        (ack,) = [response for response in follower.responses if response["type"] == "resume_ack"]
        assert ack["recovered"]
        (found,) = offsets_of(follower.messages).values()
        assert found == [0, 1, 2, 3, 4]


async def test_recreated_topic_of_same_length_is_announced_and_delivered_whole(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """The topic id decides, not the offsets."""
    follower = Follower("BTC.trade")
    await follower.connect(nursery, odin_scenario)
    records = await publish(odin_scenario, 4)
    odin_scenario.log.recreate(TRADES)
    for _ in range(4):
        odin_scenario.publish("BTC", "trade")
    await trio.sleep(1)
    (notice,) = [item for item in follower.items if item.get("status") == "lost"]
    assert (notice["reason"], of(records[0], notice["lost"])) == ("recreated", [0, -1])
    assert offsets_of(follower.messages) == {key_of(records[0]): [0, 1, 2, 3] * 2}
    assert follower.positions[key_of(records[0])] == 3


async def test_replay_of_recreated_topic_begins_again(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """Records read from the old topic are not sent as those of the new one."""
    for number in range(400):
        odin_scenario.publish("BTC", "trade", [number, "x" * 5000])
    await trio.sleep(4)
    async with open_scenario(Settings(ws_history_bytes=0), log=odin_scenario.log) as scenario:
        follower = Follower("BTC.trade", pause=0.1)
        await follower.connect(nursery, scenario, capacity=5000, since_ms=0)
        await trio.sleep(3)
        scenario.log.recreate(TRADES)
        for number in range(200):
            scenario.publish("BTC", "trade", [number, "x" * 5000])
        await trio.sleep(120)
        place = next(n for n, one in enumerate(follower.items) if one.get("status") == "lost")
        (old,) = offsets_of(item for item in follower.items[:place] if "seq" in item).values()
        (new,) = offsets_of(item for item in follower.items[place:] if "seq" in item).values()
        assert old == list(range(len(old)))
        assert 0 < len(old) < 400
        assert new == list(range(200))


@pytest.mark.parametrize("since", [None, 0])
async def test_replay_of_a_recreated_topic_waits_until_the_source_has_noticed(
    autojump_clock: MockClock, nursery: trio.Nursery, since: int | None
) -> None:
    """The log reader sees the new topic first, whose records have other meanings at old offsets.

    The new topic is longer than the client's position, so the offset does not tell.
    """
    async with open_scenario(Settings(ws_history_bytes=0)) as scenario:
        follower = Follower("BTC.trade")
        await follower.connect(nursery, scenario)
        records = await publish(scenario, 5)
        follower.break_off()
        await publish(scenario, 5)
        follower.messages.clear()
        scenario.source.lose_broker()
        scenario.log.recreate(TRADES)
        for number in range(20):
            scenario.publish("BTC", "trade", number)
        if since is None:
            await follower.connect(nursery, scenario)
        else:
            follower = Follower("BTC.trade")
            await follower.connect(nursery, scenario, since_ms=since)
        await trio.sleep(5)
        assert not follower.messages
        scenario.source.find_broker()
        await trio.sleep(5)
        (found,) = offsets_of(follower.messages).values()
        assert found == list(range(20))
        notices = [item for item in follower.items if item.get("reason") == "recreated"]
        assert notices
        assert records


# ---- truncation


async def test_truncation_is_announced_to_connected_clients(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """The notice has the lost range and the position at which the partition continues."""
    follower = Follower("BTC.trade")
    await follower.connect(nursery, odin_scenario)
    records = await publish(odin_scenario, 10)
    odin_scenario.log.truncate(TRADES, records[0].partition, 6)
    await publish(odin_scenario, 6)
    (notice,) = [item for item in follower.items if item.get("status") == "lost"]
    assert (notice["reason"], of(records[0], notice["lost"])) == ("truncated", [6, 9])
    assert of(records[0], notice["positions"]) == 5
    expected = [*range(10), *range(6, 12)]
    assert offsets_of(follower.messages) == {key_of(records[0]): expected}
    assert not any(item.get("replay") for item in follower.items)


@pytest.mark.parametrize(("appended", "lost", "comes"), [(2, [6, 8], [6, 7]), (6, [6, 8], [9, 11])])
async def test_resume_from_truncated_position_is_reported(
    odin_scenario: Scenario, appended: int, lost: list[int], comes: list[int]
) -> None:
    """A position beyond the log's end continues after the remaining records.

    A position within the log continues there, and the range may or may not be what the client has.
    """
    records = await publish(odin_scenario, 10)
    odin_scenario.log.truncate(TRADES, records[0].partition, 6)
    await publish(odin_scenario, appended)
    client = await odin_scenario.connect()
    ack = await client.resume(after(records[8]), channels=["BTC.trade"])
    assert (ack["recovered"], ack["reason"]) == (False, "truncated")
    assert of(records[0], ack["lost"]) == lost
    assert of(records[0], ack["positions"]) == comes[0] - 1
    (found,) = offsets_of(await all_messages(client)).values()
    assert found == list(range(comes[0], comes[1] + 1))


async def test_resume_from_position_before_truncation_is_recovered(odin_scenario: Scenario) -> None:
    """The client never received truncated records."""
    records = await publish(odin_scenario, 10)
    odin_scenario.log.truncate(TRADES, records[0].partition, 6)
    await publish(odin_scenario, 2)
    client = await odin_scenario.connect()
    ack = await client.resume(after(records[5]), channels=["BTC.trade"])
    assert (ack["recovered"], ack["replayed"]) == (True, 2)


@pytest.mark.odin_settings(ws_history_bytes=0)
@pytest.mark.parametrize(("position", "recovered"), [(3, True), (8, False)])
async def test_truncation_during_a_resume_is_a_loss_only_after_its_position(
    odin_scenario: Scenario, position: int, *, recovered: bool
) -> None:
    """Before the position nothing that the client has is gone; the records that are left follow."""
    records = await publish(odin_scenario, 10)
    odin_scenario.log_reader.hold()
    client = await odin_scenario.connect()
    positions = after(records[position])
    await send(client, "resume", channels=["BTC.trade"], positions=positions)
    await trio.sleep(1)
    odin_scenario.log.truncate(TRADES, records[0].partition, 6)
    await publish(odin_scenario, 2)
    odin_scenario.log_reader.release()
    notice, ack = await client.response(), await client.response()
    assert (notice["type"], notice["reason"]) == ("feed", "truncated")
    assert (ack["recovered"], ack.get("reason")) == (recovered, None if recovered else "truncated")
    (found,) = offsets_of(await all_messages(client)).values()
    assert found == ([4, 5, 6, 7] if recovered else [6, 7])


async def test_snapshot_after_truncation_has_no_truncated_record(
    odin_scenario: Scenario,
) -> None:
    """The channel's last message is removed."""
    records = await publish(odin_scenario, 2)
    await publish(odin_scenario, 1, "ETH")
    odin_scenario.log.truncate(TRADES, records[0].partition, 1)
    await trio.sleep(1)
    client = await odin_scenario.connect()
    await send(client, "subscribe", channels=["*.trade"], snapshot=True)
    assert [message["channel"] for message in await all_messages(client)] == ["ETH.trade"]
