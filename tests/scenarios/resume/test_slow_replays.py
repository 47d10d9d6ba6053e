"""A slow client's replay does not affect other clients."""

from __future__ import annotations

import pytest
import trio

from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.settings import Settings
from odin_ws.testing.follower import Follower
from odin_ws.testing.scenario import Scenario
from tests.scenarios.resume.following import all_messages, following
from tests.scenarios.wire import RawClient

SLOW = (1008, "slow: messages waited too long to be taken")

# A replay writes a chunk of the first size at once, and holds the second one read from the log.
CHUNK_BYTES = 64 << 10
HELD_BYTES = 1 << 20
RECORD_BYTES = 5_000


async def behind(scenario: Scenario, count: int) -> Follower:
    """Return a client that has missed `count` records of 5,000 bytes."""
    records = [
        scenario.publish("BTC", "trade", "x" * RECORD_BYTES, kind=f"K{number}")
        for number in range(count)
    ]
    await trio.sleep(5)
    return following(records, "BTC.trade")


@pytest.mark.parametrize(
    "odin_settings", [Settings(), Settings(ws_history_bytes=0)], ids=["history", "log"]
)
async def test_backlog_of_replay_is_at_most_one_chunk(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """The replay has 2 MB; the slow client gets all of it."""
    follower = await behind(odin_scenario, 400)
    follower.pause = 0.02
    await follower.connect(nursery, odin_scenario, capacity=4000)
    await trio.sleep(0.5)
    (connection,) = odin_scenario.service.server.connections
    backlogs = []
    while len(follower.messages) < 400:
        backlogs.append(connection.send_queue.backlog)
        await trio.sleep(0.1)
    assert CHUNK_BYTES / 2 < max(backlogs) < CHUNK_BYTES + 2 * RECORD_BYTES
    follower.check(odin_scenario.log.records)
    assert follower.closed is None


@pytest.mark.odin_settings(ws_positions_interval_seconds=0.5)
async def test_no_positions_notice_is_sent_during_replay(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """Its positions would be ahead of the replay."""
    await behind(odin_scenario, 100)
    follower = Follower("ETH.trade")
    await follower.connect(nursery, odin_scenario, capacity=4000)
    await trio.sleep(3)
    assert [item for item in follower.items if item["type"] == "positions"]
    follower.items.clear()
    follower.pause = 0.1
    await follower.send("subscribe", channels=["BTC.trade"], since_ms=0)
    await trio.sleep(5)
    place = next(n for n, one in enumerate(follower.items) if one["type"] == "subscription_ack")
    assert 0 < len(follower.messages) < 60  # one each 0.1 s, of 100
    assert {item["type"] for item in follower.items[place + 1 :]} == {"message"}
    await trio.sleep(20)
    assert follower.items[-1]["type"] == "positions"
    assert len(follower.messages) == 100


@pytest.mark.parametrize("seconds", [1.0, 30.0])
async def test_live_messages_to_others_are_not_delayed(
    odin_scenario: Scenario, nursery: trio.Nursery, seconds: float
) -> None:
    """Another client hardly reads its replay of 2 MB."""
    follower = await behind(odin_scenario, 400)
    follower.pause = seconds
    other = await odin_scenario.connect()
    await other.subscribe(channels=["ETH.trade"])
    await follower.connect(nursery, odin_scenario, capacity=2000)
    await trio.sleep(0.5)
    for number in range(50):
        odin_scenario.publish("ETH", "trade", number)
        published = trio.current_time()
        assert (await other.message())["data"]["data"] == number
        assert trio.current_time() == published
        await trio.sleep(0.1)


@pytest.mark.odin_settings(ws_write_timeout_seconds=10)
async def test_client_that_reads_8_kb_a_second_is_not_closed(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """Its replay takes minutes, in which live messages are pending."""
    follower = await behind(odin_scenario, 200)
    follower.pause = RECORD_BYTES / 8_000
    await follower.connect(nursery, odin_scenario, capacity=2000)
    for _ in range(12):
        odin_scenario.publish("BTC", "trade", "live")
        await trio.sleep(10)
    await trio.sleep(60)
    assert follower.closed is None
    follower.check(odin_scenario.log.records)


@pytest.mark.odin_settings(ws_write_timeout_seconds=10)
async def test_client_that_does_not_read_its_replay_is_closed(odin_scenario: Scenario) -> None:
    """After WS_WRITE_TIMEOUT_SECONDS the connection is closed, and the replay ends."""
    await behind(odin_scenario, 100)
    client = await RawClient.open(odin_scenario, capacity=2000)
    await client.command("subscribe", channels=["BTC.trade"], since_ms=0)
    await trio.sleep(9)
    (connection,) = odin_scenario.service.server.connections
    assert connection.closing is None
    assert odin_scenario.service.server.replays.active == 1
    await trio.sleep(2)
    assert connection.closing is DisconnectReason.SLOW
    assert odin_scenario.service.server.replays.active == 0
    assert await client.close_frame() == SLOW


async def test_lost_connection_ends_its_replay(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """Also while the replay waits for the log."""
    follower = await behind(odin_scenario, 100)
    follower.pause = 1.0
    await follower.connect(nursery, odin_scenario, capacity=2000)
    odin_scenario.log_reader.hold()
    waiting = await RawClient.open(odin_scenario)
    await waiting.command("subscribe", channels=["BTC.trade"], since_ms=0)
    await trio.sleep(1)
    assert odin_scenario.service.server.replays.active == 2
    follower.break_off()
    waiting.stream.break_off()
    await trio.sleep(1)
    assert odin_scenario.service.server.replays.active == 0
    assert odin_scenario.service.server.connections == set()
    assert len(odin_scenario.service.hub.index) == 0


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_the_reader_of_the_log_waits_for_the_client(odin_scenario: Scenario) -> None:
    """Of 10 MB in the log it has read a part only while the client takes nothing."""
    await behind(odin_scenario, 2000)
    client = await odin_scenario.connect(capacity=2000)
    await client.subscribe(channels=["BTC.trade"], since_ms=0)
    await trio.sleep(3)
    read = odin_scenario.service.server.replays.from_log
    # The reader of the log gives batches of 500 records.
    assert read * RECORD_BYTES < HELD_BYTES + 500 * RECORD_BYTES
    assert len(await all_messages(client)) == 2000
