"""Many clients resume together, from before the history."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from odin_ws.testing.follower import Follower
from odin_ws.testing.scenario import Scenario
from tests.scenarios.ops import metric
from tests.scenarios.resume.following import after, following, publish, send

# About 20 messages of these tests.
SMALL_HISTORY = 20_000

# Each client receives the records of one of them; the scans read those of all.
TOKENS = 21


def slow_log(scenario: Scenario, *, batch: int = 50, seconds: float = 0.05) -> None:
    """Let the log reader return `batch` records after `seconds`: 1,000 records a second."""
    scenario.log_reader.batch, scenario.log_reader.seconds = batch, seconds


async def publish_many(scenario: Scenario, count: int) -> None:
    """Publish small records of all tokens, and wait until the server has read them."""
    for number in range(count):
        scenario.publish(f"T{number % TOKENS}", "trade", number)
    await trio.sleep(count / 1000 + 1)


async def connect_many(
    nursery: trio.Nursery, scenario: Scenario, count: int, *, over: float = 0.0
) -> list[Follower]:
    """Connect clients that have received nothing, each to one of the tokens."""
    records = scenario.log.records
    clients = [following(records, f"T{number % TOKENS}.trade") for number in range(count)]
    for follower in clients:
        await follower.connect(nursery, scenario)
        await trio.sleep(over / count)
    return clients


async def keep_publishing(scenario: Scenario, rate: float, seconds: float) -> None:
    """Publish at a rate for some seconds."""
    for number in range(int(rate * seconds)):
        scenario.publish(f"T{number % TOKENS}", "trade", number)
        await trio.sleep(1 / rate)


@pytest.mark.odin_settings(ws_history_bytes=SMALL_HISTORY)
async def test_clients_that_resume_together_read_the_log_once(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """For 70 clients each record is read and decoded once."""
    await publish_many(odin_scenario, 1400)
    slow_log(odin_scenario)
    clients = await connect_many(nursery, odin_scenario, 70)
    await trio.sleep(10)
    for follower in clients:
        follower.check(odin_scenario.log.records)
    stats = odin_scenario.service.server.scans.stats
    assert odin_scenario.log_reader.records_read < 1600
    assert stats.matched <= stats.records < 1600
    assert stats.started == 1


@pytest.mark.odin_settings(ws_history_bytes=SMALL_HISTORY)
async def test_clients_that_resume_over_3_s_share_few_scans(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """For clients that a scan has passed, the scan goes back or another one begins."""
    await publish_many(odin_scenario, 5000)
    slow_log(odin_scenario)
    clients = await connect_many(nursery, odin_scenario, 70, over=3)
    await trio.sleep(20)
    for follower in clients:
        follower.check(odin_scenario.log.records)
    assert odin_scenario.log_reader.records_read < 4 * 5000


@pytest.mark.odin_settings(ws_history_bytes=SMALL_HISTORY, ws_replay_consumers=1)
async def test_clients_become_live_while_records_are_published(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """The history holds 0.1 s, a scan takes 5 s: all are live after little more than one scan."""
    await publish_many(odin_scenario, 5000)
    slow_log(odin_scenario)
    nursery.start_soon(keep_publishing, odin_scenario, 200, 10)
    clients = await connect_many(nursery, odin_scenario, 60)
    await trio.sleep(8)
    assert all(follower.live for follower in clients)
    assert await metric(odin_scenario, "ws_replays_active") == 0
    await trio.sleep(4)
    for follower in clients:
        follower.check(odin_scenario.log.records)


@pytest.mark.odin_settings(ws_history_bytes=0, ws_replay_consumers=1)
async def test_clients_become_live_without_history(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """With WS_HISTORY_BYTES=0 a pin keeps the messages between the end of the scan and live."""
    await publish_many(odin_scenario, 2000)
    slow_log(odin_scenario)
    nursery.start_soon(keep_publishing, odin_scenario, 200, 7)
    clients = await connect_many(nursery, odin_scenario, 30)
    await trio.sleep(5)
    assert await metric(odin_scenario, "ws_replays_active") == 0
    await trio.sleep(4)
    for follower in clients:
        follower.check(odin_scenario.log.records)


@pytest.mark.odin_settings(ws_history_bytes=0, ws_replay_consumers=1)
async def test_client_may_wait_longer_than_30_s_for_a_scan(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """The limit of 30 s does not apply while the scan makes progress for other clients."""
    await publish_many(odin_scenario, 2000)
    slow_log(odin_scenario, batch=10, seconds=0.5)
    first, second = (following(odin_scenario.log.records, "T1.trade") for _ in range(2))
    await first.connect(nursery, odin_scenario)
    # By now the scan is too far to go back.
    await trio.sleep(60)
    await second.connect(nursery, odin_scenario)
    await trio.sleep(35)
    assert (await metric(odin_scenario, "ws_scan_clients_waiting"), second.items) == (1, [])
    await trio.sleep(150)
    for follower in (first, second):
        follower.check(odin_scenario.log.records)
        assert follower.responses[0]["recovered"] is True


@pytest.mark.odin_settings(
    ws_history_bytes=0, ws_send_queue_bytes=1 << 22, ws_write_timeout_seconds=600
)
async def test_slow_client_does_not_delay_other_clients_of_its_scan(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """It is detached after 2 s, and gets all its records from later scans."""
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
async def test_clients_that_disconnect_or_unsubscribe_do_not_affect_others(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """During a scan one connection breaks, and another client unsubscribes."""
    await publish_many(odin_scenario, 3000)
    slow_log(odin_scenario)
    clients = await connect_many(nursery, odin_scenario, 21)
    await trio.sleep(1)
    clients[0].break_off()
    await clients[1].send("unsubscribe", channels=["T1.trade"])
    await trio.sleep(1)
    assert clients[1].items[0]["type"] == "unsubscription_ack"
    await trio.sleep(8)
    for follower in clients[2:]:
        follower.check(odin_scenario.log.records)
    assert clients[1].messages == []


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_scan_ends_when_its_last_client_disconnects(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """The log reader reads no further record."""
    await publish_many(odin_scenario, 3000)
    slow_log(odin_scenario)
    clients = await connect_many(nursery, odin_scenario, 5)
    await trio.sleep(1)
    assert await metric(odin_scenario, "ws_scans_active") == 1
    for follower in clients:
        follower.break_off()
    await trio.sleep(0.5)
    assert await metric(odin_scenario, "ws_scans_active") == 0
    read = odin_scenario.log_reader.records_read
    await trio.sleep(10)
    assert odin_scenario.log_reader.records_read == read < 2000
    assert not odin_scenario.service.hub.history.size


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_number_of_scans_is_at_most_replay_consumers(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """However the arrivals are spread."""
    await publish_many(odin_scenario, 4000)
    slow_log(odin_scenario)
    records = odin_scenario.log.records
    clients = []
    maximum = 0.0
    for number in range(40):
        clients.append(following(records, f"T{number % TOKENS}.trade"))
        await clients[-1].connect(nursery, odin_scenario)
        await trio.sleep(0.9)
        maximum = max(maximum, await metric(odin_scenario, "ws_scans_active"))
    await trio.sleep(30)
    assert maximum <= 4
    for follower in clients:
        follower.check(odin_scenario.log.records)


@pytest.mark.odin_settings(ws_history_bytes=0, ws_replay_consumers=2)
async def test_unreadable_topic_delays_only_its_own_clients(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """Clients of another topic that share the scan continue, also those that connect later."""
    for number in range(500):
        odin_scenario.publish("BTC", "trade", number)
        odin_scenario.publish("BTC", "social", number)
    await trio.sleep(2)
    slow_log(odin_scenario)
    records = odin_scenario.log.records
    trades, social = (
        [record for record in records if record.topic == name]
        for name in ("odin.trades", "odin.social")
    )
    clients = [following(trades, "BTC.trade"), following(social, "BTC.social")]
    for follower in clients:
        await follower.connect(nursery, odin_scenario)
    odin_scenario.log_reader.fail(topics=[social[0].topic])
    await trio.sleep(5)
    clients.append(following(trades, "BTC.trade"))
    await clients[-1].connect(nursery, odin_scenario)
    await trio.sleep(5)
    for follower in (clients[0], clients[2]):
        follower.check(trades)
    assert len(clients[1].messages) < 500
    odin_scenario.log_reader.recover()
    await trio.sleep(20)
    clients[1].check(social)


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_failing_log_is_retried_with_backoff(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """The number of scans does not depend on the number of clients."""
    await publish_many(odin_scenario, 1000)
    slow_log(odin_scenario)
    clients = await connect_many(nursery, odin_scenario, 50)
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
    for follower in clients:
        follower.check(odin_scenario.log.records)


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_clients_that_resume_together_share_requests_for_bounds(
    odin_scenario: Scenario, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100 clients of one topic need at most 5 requests."""
    await publish_many(odin_scenario, 100)
    requests = 0
    bounds = odin_scenario.log_reader.bounds

    async def counted(*args: Any) -> object:
        nonlocal requests
        requests += 1
        return await bounds(*args)

    monkeypatch.setattr(odin_scenario.log_reader, "bounds", counted)
    slow_log(odin_scenario)
    clients = await connect_many(nursery, odin_scenario, 100)
    await trio.sleep(5)
    for follower in clients:
        follower.check(odin_scenario.log.records)
    assert requests <= 5


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_replay_waiting_for_a_scan_can_be_unsubscribed_and_repeated(
    odin_scenario: Scenario,
) -> None:
    """The connection resumes the channel again, and gets each record once."""
    records = await publish(odin_scenario, 20)
    slow_log(odin_scenario, batch=1, seconds=1)
    client = await odin_scenario.connect()
    await send(client, "resume", positions=after(records[0]), channels=["BTC.trade"])
    await trio.sleep(3)
    assert (await client.unsubscribe(channels=["BTC.trade"]))["unsubscribed"] == ["BTC.trade"]
    slow_log(odin_scenario)
    await send(client, "resume", positions=after(records[0]), channels=["BTC.trade"])
    offsets = [message["pos"] for message in await client.messages(19)]
    assert offsets == [f"{record.partition}-{record.offset}" for record in records[1:]]
    assert await client.silence(5)


@pytest.mark.odin_settings(ws_history_bytes=0, ws_replay_consumers=1)
async def test_records_that_expire_while_waiting_for_a_scan_are_reported_lost(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """After a minute of waiting the client gets the lost range, and no error."""
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
