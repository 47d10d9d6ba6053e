"""Notices of the feed's status during broker outages, and delivery afterwards."""

from __future__ import annotations

import time
from typing import Any

import pytest
import trio

from odin_ws.kafka.source_status import SourceState
from odin_ws.records import Record
from odin_ws.testing.assertions import offsets_of
from odin_ws.testing.follower import Follower, key_of
from odin_ws.testing.scenario import Scenario
from tests.scenarios.resume.following import all_messages, publish


def notices(follower: Follower) -> list[str]:
    """Return the statuses of the feed that the client received."""
    return [item["status"] for item in follower.items if item["type"] == "feed"]


async def connect_followers(scenario: Scenario, nursery: trio.Nursery) -> list[Follower]:
    """Connect three clients, one of them without a subscription."""
    followers = [Follower("BTC.trade"), Follower("*.*"), Follower()]
    for follower in followers:
        await follower.connect(nursery, scenario)
    await trio.sleep(1)
    return followers


async def test_stalled_and_live_notices_are_sent_once_per_change(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """All clients get them, however often the source reports the status."""
    followers = await connect_followers(odin_scenario, nursery)
    for _ in range(3):
        odin_scenario.source.lose_broker()
        await trio.sleep(20)
    assert [notices(follower) for follower in followers] == [["stalled"]] * 3
    for _ in range(3):
        odin_scenario.source.find_broker()
        await trio.sleep(20)
    assert [notices(follower) for follower in followers] == [["stalled", "live"]] * 3
    feed = [item for item in followers[0].items if item["type"] == "feed"]
    assert all(abs(one["since"] / 1000 - time.time()) < 60 for one in feed)


async def test_client_that_connects_during_outage_gets_stalled_notice_first(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """Later it gets the live notice."""
    odin_scenario.source.lose_broker()
    await trio.sleep(10)
    follower = Follower("BTC.trade")
    await follower.connect(nursery, odin_scenario)
    await trio.sleep(1)
    assert [item["type"] for item in follower.items] == ["feed", "subscription_ack"]
    odin_scenario.source.find_broker()
    await trio.sleep(1)
    late = Follower("BTC.trade")
    await late.connect(nursery, odin_scenario)
    await trio.sleep(1)
    assert (notices(follower), notices(late)) == (["stalled", "live"], [])


async def test_each_outage_sends_stalled_and_live_notices(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """Three outages are three pairs."""
    (follower, *_) = await connect_followers(odin_scenario, nursery)
    for _ in range(3):
        odin_scenario.source.lose_broker()
        await trio.sleep(1)
        odin_scenario.source.find_broker()
        await trio.sleep(1)
    assert notices(follower) == ["stalled", "live"] * 3


async def test_records_published_during_outage_are_delivered_once(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """The log had them while the source could not read."""
    followers = await connect_followers(odin_scenario, nursery)
    await publish(odin_scenario, 3)
    odin_scenario.source.lose_broker()
    for number in range(700):
        odin_scenario.publish(f"T{number % 3}", "trade", number)
        odin_scenario.publish("BTC", "trade", number)
    await trio.sleep(60)
    assert len(followers[1].messages) <= 3 + 50
    odin_scenario.source.find_broker()
    await trio.sleep(5)
    for follower in followers[:2]:
        follower.check(odin_scenario.log.records)


def lost(item: dict[str, Any], record: Record) -> list[int]:
    """Return the lost range of the record's partition."""
    found: list[int] = item["lost"][record.topic][str(record.partition)]
    return found


async def test_records_deleted_during_outage_are_reported_once(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """All clients get the notice before any later record."""
    followers = await connect_followers(odin_scenario, nursery)
    records = await publish(odin_scenario, 4)
    odin_scenario.source.lose_broker()
    records += [odin_scenario.publish("BTC", "trade") for _ in range(10)]
    odin_scenario.log.delete_before(records[0].topic, records[0].partition, 9)
    await trio.sleep(10)
    odin_scenario.source.find_broker()
    await trio.sleep(5)
    for follower in followers:
        assert notices(follower) == ["stalled", "live", "lost"]
        (notice,) = [item for item in follower.items if item.get("status") == "lost"]
        assert (notice["reason"], lost(notice, records[0])) == ("expired", [4, 8])
    for follower in followers[:2]:
        assert offsets_of(follower.messages)[key_of(records[0])] == [0, 1, 2, 3, *range(9, 14)]
        place = next(n for n, item in enumerate(follower.items) if item.get("status") == "lost")
        assert offsets_of([item for item in follower.items[place:] if "seq" in item]) == {
            key_of(records[0]): list(range(9, 14))
        }
    assert odin_scenario.service.source_status.lost_records == 5


async def test_resume_reports_records_deleted_during_outage(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """The client was not connected when the notice was sent."""
    follower = Follower("BTC.trade")
    await follower.connect(nursery, odin_scenario)
    records = await publish(odin_scenario, 4)
    follower.break_off()
    odin_scenario.source.lose_broker()
    records += [odin_scenario.publish("BTC", "trade") for _ in range(10)]
    odin_scenario.log.delete_before(records[0].topic, records[0].partition, 9)
    odin_scenario.source.find_broker()
    await trio.sleep(5)
    await follower.connect(nursery, odin_scenario)
    await trio.sleep(2)
    ack = follower.responses[0]
    assert (ack["recovered"], ack["replayed"]) == (False, 5)
    assert lost(ack, records[0]) == [4, 8]
    follower.check(records)


async def test_recreated_topic_sends_notice_before_its_records(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """Offsets begin again after the notice."""
    (follower, *_) = await connect_followers(odin_scenario, nursery)
    records = await publish(odin_scenario, 4)
    odin_scenario.log.recreate(records[0].topic)
    await publish(odin_scenario, 2)
    (notice,) = [item for item in follower.items if item.get("status") == "lost"]
    assert (notice["reason"], lost(notice, records[0])) == ("recreated", [0, -1])
    assert notice["positions"][records[0].topic][str(records[0].partition)] == -1
    assert notice["ids"] == {records[0].topic: odin_scenario.log.ids[records[0].topic]}
    place = follower.items.index(notice)
    assert [item["pos"].split("-")[1] for item in follower.items[place + 1 :]] == ["0", "1"]


async def test_connections_stay_open_during_outage(odin_scenario: Scenario) -> None:
    """Commands are answered."""
    client = await odin_scenario.connect()
    odin_scenario.source.lose_broker()
    await trio.sleep(200)
    assert odin_scenario.service.source_status.state.value is SourceState.STALLED
    assert (await client.response())["type"] == "feed"
    assert (await client.subscribe(channels=["BTC.trade"]))["count"] == 1
    assert (await client.command("heartbeat"))["type"] == "pong"
    assert odin_scenario.service.server.stats.closed.total() == 0


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_snapshot_is_available_during_outage(odin_scenario: Scenario) -> None:
    """It needs no broker."""
    await publish(odin_scenario, 3)
    odin_scenario.source.lose_broker()
    odin_scenario.log_reader.fail()
    client = await odin_scenario.connect()
    assert (await client.response())["status"] == "stalled"
    assert (await client.subscribe(channels=["BTC.trade"], snapshot=True))["replayed"] == 1
    assert len(await all_messages(client)) == 1
