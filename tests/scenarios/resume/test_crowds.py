"""Many clients that were away for longer than history reaches come back together."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from odin_ws.testing.follower import Follower
from odin_ws.testing.scenario import Scenario
from tests.scenarios.ops import metric
from tests.scenarios.resume.following import after, following, publish, say

# Some 20 messages of these tests.
SMALL_HISTORY = 20_000


def slow_log(scenario: Scenario, *, batch: int = 50, seconds: float = 0.05) -> None:
    """Let the log be read in batches that take some time: 1,000 records a second."""
    scenario.log_reader.batch, scenario.log_reader.seconds = batch, seconds


async def publish_many(scenario: Scenario, count: int, tokens: int = 7) -> None:
    """Publish small records of some tokens, and let them be read."""
    for number in range(count):
        scenario.publish(f"T{number % tokens}", "trade", number)
    await trio.sleep(count / 1000 + 1)


async def crowd_of(
    nursery: trio.Nursery, scenario: Scenario, count: int, *, over: float = 0.0
) -> list[Follower]:
    """Clients that have got nothing yet come back to one of seven tokens each."""
    records = scenario.log.records
    crowd = [following(records, f"T{number % 7}.trade") for number in range(count)]
    for follower in crowd:
        await follower.connect(nursery, scenario)
        await trio.sleep(over / count)
    return crowd


async def publish_on(scenario: Scenario, rate: float, seconds: float) -> None:
    """Go on publishing."""
    for number in range(int(rate * seconds)):
        scenario.publish(f"T{number % 7}", "trade", number)
        await trio.sleep(1 / rate)


@pytest.mark.odin_settings(ws_history_bytes=SMALL_HISTORY)
async def test_crowd_reads_the_log_once(odin_scenario: Scenario, nursery: trio.Nursery) -> None:
    """Each record is read once for 70 clients that come together, and decoded once."""
    await publish_many(odin_scenario, 1400)
    slow_log(odin_scenario)
    crowd = await crowd_of(nursery, odin_scenario, 70)
    await trio.sleep(10)
    for follower in crowd:
        follower.check(odin_scenario.log.records)
    stats = odin_scenario.service.server.scans.stats
    assert odin_scenario.log_reader.records_read < 1600
    assert stats.matched <= stats.records < 1600
    assert stats.started == 1


@pytest.mark.odin_settings(ws_history_bytes=SMALL_HISTORY)
async def test_crowd_that_arrives_over_seconds_needs_few_scans(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """Those that a scan has passed are gathered: the scan goes back, or another one begins."""
    await publish_many(odin_scenario, 5000)
    slow_log(odin_scenario)
    crowd = await crowd_of(nursery, odin_scenario, 70, over=3)
    await trio.sleep(20)
    for follower in crowd:
        follower.check(odin_scenario.log.records)
    assert odin_scenario.log_reader.records_read < 4 * 5000


@pytest.mark.odin_settings(ws_history_bytes=SMALL_HISTORY, ws_replay_consumers=1)
async def test_crowd_converges_while_publishing_goes_on(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """History reaches 0.1 s, a read takes 5 s: all are live after little more than one."""
    await publish_many(odin_scenario, 5000)
    slow_log(odin_scenario)
    nursery.start_soon(publish_on, odin_scenario, 200, 10)
    crowd = await crowd_of(nursery, odin_scenario, 60)
    await trio.sleep(8)
    assert all(follower.live for follower in crowd)
    assert await metric(odin_scenario, "ws_replays_active") == 0
    await trio.sleep(4)
    for follower in crowd:
        follower.check(odin_scenario.log.records)


@pytest.mark.odin_settings(ws_history_bytes=0, ws_replay_consumers=1)
async def test_clients_converge_without_history(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """With WS_HISTORY_BYTES=0 the pin keeps what is needed between the log and live."""
    await publish_many(odin_scenario, 2000)
    slow_log(odin_scenario)
    nursery.start_soon(publish_on, odin_scenario, 200, 7)
    crowd = await crowd_of(nursery, odin_scenario, 30)
    await trio.sleep(5)
    assert await metric(odin_scenario, "ws_replays_active") == 0
    await trio.sleep(4)
    for follower in crowd:
        follower.check(odin_scenario.log.records)


@pytest.mark.odin_settings(ws_history_bytes=0, ws_replay_consumers=1)
async def test_patience_is_not_spent_on_queueing(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """A client that waits for a scan longer than 30 s gets its records: others' progress counts."""
    await publish_many(odin_scenario, 2000)
    slow_log(odin_scenario, batch=10, seconds=0.5)
    first, second = (following(odin_scenario.log.records, "T1.trade") for _ in range(2))
    await first.connect(nursery, odin_scenario)
    # The scan is too far to go back.
    await trio.sleep(60)
    await second.connect(nursery, odin_scenario)
    await trio.sleep(35)
    assert (await metric(odin_scenario, "ws_scan_clients_waiting"), second.items) == (1, [])
    await trio.sleep(150)
    for follower in (first, second):
        follower.check(odin_scenario.log.records)
        assert follower.answers[0]["recovered"] is True


@pytest.mark.odin_settings(
    ws_history_bytes=0, ws_send_queue_bytes=1 << 22, ws_write_timeout_seconds=600
)
async def test_slow_client_does_not_hold_up_the_others(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """It is detached after 2 s, and gets all of its records with later scans."""
    for number in range(3000):
        odin_scenario.publish(f"T{number % 2}", "trade", [number, "x" * 3000])
    await trio.sleep(4)
    records = odin_scenario.log.records
    slow = following(records, "*.trade")
    slow.pause = 0.05
    fast = [following(records, f"T{number % 2}.trade") for number in range(10)]
    await slow.connect(nursery, odin_scenario, capacity=10_000)
    for follower in fast:
        await follower.connect(nursery, odin_scenario)
    await trio.sleep(15)
    for follower in fast:
        follower.check(odin_scenario.log.records)
    assert odin_scenario.service.server.scans.stats.detached
    assert 0 < len(slow.messages) < 3000
    await trio.sleep(200)
    slow.check(odin_scenario.log.records)


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_clients_that_go_or_unsubscribe_harm_no_others(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """In the middle of a scan one connection breaks, another client ends its subscription."""
    await publish_many(odin_scenario, 3000)
    slow_log(odin_scenario)
    crowd = await crowd_of(nursery, odin_scenario, 21)
    await trio.sleep(1)
    crowd[0].break_off()
    await crowd[1].send("unsubscribe", channels=["T1.trade"])
    await trio.sleep(1)
    assert crowd[1].items[0]["type"] == "unsubscription_ack"
    await trio.sleep(8)
    for follower in crowd[2:]:
        follower.check(odin_scenario.log.records)
    assert crowd[1].messages == []


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_scan_that_nobody_waits_for_ends(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """When the last client is gone nothing more is read, and there is no scan."""
    await publish_many(odin_scenario, 3000)
    slow_log(odin_scenario)
    crowd = await crowd_of(nursery, odin_scenario, 5)
    await trio.sleep(1)
    assert await metric(odin_scenario, "ws_scans_active") == 1
    for follower in crowd:
        follower.break_off()
    await trio.sleep(0.5)
    assert await metric(odin_scenario, "ws_scans_active") == 0
    read = odin_scenario.log_reader.records_read
    await trio.sleep(10)
    assert odin_scenario.log_reader.records_read == read < 2000
    assert not odin_scenario.service.hub.history.size


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_scans_are_bounded(odin_scenario: Scenario, nursery: trio.Nursery) -> None:
    """However clients come, so many scans run at once as WS_REPLAY_CONSUMERS says."""
    await publish_many(odin_scenario, 4000)
    slow_log(odin_scenario)
    records = odin_scenario.log.records
    crowd = []
    maximum = 0.0
    for number in range(40):
        crowd.append(following(records, f"T{number % 7}.trade"))
        await crowd[-1].connect(nursery, odin_scenario)
        await trio.sleep(0.9)
        maximum = max(maximum, await metric(odin_scenario, "ws_scans_active"))
    await trio.sleep(30)
    assert maximum <= 4
    for follower in crowd:
        follower.check(odin_scenario.log.records)


@pytest.mark.odin_settings(ws_history_bytes=0, ws_replay_consumers=2)
async def test_topic_that_cannot_be_read_delays_only_those_who_need_it(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """Clients of another topic that shared the scan go on, also those that come later."""
    for number in range(500):
        odin_scenario.publish("BTC", "trade", number)
        odin_scenario.publish("BTC", "social", number)
    await trio.sleep(2)
    slow_log(odin_scenario)
    records = odin_scenario.log.records
    trades, social = (
        [one for one in records if one.topic == name] for name in ("odin.trades", "odin.social")
    )
    crowd = [following(trades, "BTC.trade"), following(social, "BTC.social")]
    for follower in crowd:
        await follower.connect(nursery, odin_scenario)
    odin_scenario.log_reader.fail(topics=[social[0].topic])
    await trio.sleep(5)
    crowd.append(following(trades, "BTC.trade"))
    await crowd[-1].connect(nursery, odin_scenario)
    await trio.sleep(5)
    for follower in (crowd[0], crowd[2]):
        follower.check(trades)
    assert len(crowd[1].messages) < 500
    odin_scenario.log_reader.recover()
    await trio.sleep(20)
    crowd[1].check(social)


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_log_that_fails_is_asked_again_with_back_off(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """A crowd on a log that is away costs some scans, not some for each client."""
    await publish_many(odin_scenario, 1000)
    slow_log(odin_scenario)
    crowd = await crowd_of(nursery, odin_scenario, 50)
    await trio.sleep(0.3)
    odin_scenario.log_reader.fail()
    stats = odin_scenario.service.server.scans.stats
    await trio.sleep(10)
    assert 3 <= stats.started <= 16
    # A wait is at most 8 s, and 4 s on average.
    before = stats.started
    await trio.sleep(60)
    assert 8 <= stats.started - before <= 40
    odin_scenario.log_reader.recover()
    await trio.sleep(15)
    for follower in crowd:
        follower.check(odin_scenario.log.records)


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_bounds_are_asked_once_for_a_crowd(
    odin_scenario: Scenario, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients that wait for the same topic's bounds share a question."""
    await publish_many(odin_scenario, 100)
    asked = 0
    ask = odin_scenario.log_reader.bounds

    async def counted(*args: Any) -> object:
        nonlocal asked
        asked += 1
        return await ask(*args)

    monkeypatch.setattr(odin_scenario.log_reader, "bounds", counted)
    slow_log(odin_scenario)
    crowd = await crowd_of(nursery, odin_scenario, 100)
    await trio.sleep(5)
    for follower in crowd:
        follower.check(odin_scenario.log.records)
    assert asked <= 5


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_replay_that_waits_for_a_scan_can_be_unsubscribed_and_begun_again(
    odin_scenario: Scenario,
) -> None:
    """The same connection resumes the same channel anew, and gets each record once."""
    records = await publish(odin_scenario, 20)
    slow_log(odin_scenario, batch=1, seconds=1)
    client = await odin_scenario.connect()
    await say(client, "resume", positions=after(records[0]), channels=["BTC.trade"])
    await trio.sleep(3)
    assert (await client.unsubscribe(channels=["BTC.trade"]))["unsubscribed"] == ["BTC.trade"]
    slow_log(odin_scenario)
    await say(client, "resume", positions=after(records[0]), channels=["BTC.trade"])
    offsets = [one["pos"] for one in await client.messages(19)]
    assert offsets == [f"{one.partition}-{one.offset}" for one in records[1:]]
    assert await client.silence(5)


@pytest.mark.odin_settings(ws_history_bytes=0, ws_replay_consumers=1)
async def test_queueing_leaves_patience_for_a_log_that_has_expired_meanwhile(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """After a minute in the queue the log has lost the records: that is told, not rejected."""
    await publish_many(odin_scenario, 2000)
    slow_log(odin_scenario, batch=10, seconds=0.5)
    first, second = (following(odin_scenario.log.records, "T1.trade") for _ in range(2))
    await first.connect(nursery, odin_scenario)
    await trio.sleep(60)
    await second.connect(nursery, odin_scenario)
    await trio.sleep(35)
    for key, has in odin_scenario.log.bounds().items():
        odin_scenario.log.delete_before(key.topic, key.partition, has.end)
    await trio.sleep(60)
    for follower in (first, second):
        assert not [item for item in follower.items if item["type"] == "error"]
        assert follower.live
        assert follower.lost
