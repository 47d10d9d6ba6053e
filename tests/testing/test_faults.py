"""Faults of clients, brokers and logs, and their effects on server and clients."""

from __future__ import annotations

import pytest
import trio

from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.testing.assertions import assert_delivered
from odin_ws.testing.faults import (
    cut_log,
    delete_log_before,
    go_half_open,
    read_slowly,
    rebalanced,
    stalled_broker,
    tear_next_frame,
)
from odin_ws.testing.follower import Follower
from odin_ws.testing.scenario import Scenario

MESSAGE_BYTES = 1000


async def test_read_slowly_limits_bytes_per_second(odin_scenario: Scenario) -> None:
    """At 100 bytes a second a message of 1,000 bytes takes 10 s, and arrives whole."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade"])
    read_slowly(client, bytes_per_second=100)
    started = trio.current_time()
    record = odin_scenario.publish("BTC", "trade", "x" * MESSAGE_BYTES)
    assert_delivered([await client.message()], [record])
    assert 10 < trio.current_time() - started < 15


async def test_read_slowly_with_0_stops_and_can_be_raised(odin_scenario: Scenario) -> None:
    """At 0 bytes a second nothing arrives; with a higher rate everything does."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade"])
    read_slowly(client, 0)
    odin_scenario.publish("BTC", "trade")
    assert await client.silence(20)
    read_slowly(client, 1000)
    assert (await client.message())["seq"] == 1


async def test_half_open_connection_is_closed_without_close_frame(odin_scenario: Scenario) -> None:
    """The server receives nothing and closes for a missing pong; the client receives nothing."""
    client = await odin_scenario.connect()
    go_half_open(client)
    for _ in range(13):
        await trio.sleep(10)
        await client.send('{"type":"heartbeat"}')
    assert odin_scenario.service.server.stats.closed == {DisconnectReason.NO_PONG: 1}
    assert await client.silence(10)


async def test_torn_frame_loses_connection(odin_scenario: Scenario) -> None:
    """Three bytes of a frame are no command."""
    client = await odin_scenario.connect()
    tear_next_frame(client, after=3)
    await client.send('{"type":"heartbeat"}')
    assert (await client.closed()).code == 1006
    await trio.sleep(1)
    assert odin_scenario.service.server.stats.closed == {DisconnectReason.LOST: 1}


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_stalled_broker_fails_replays(odin_scenario: Scenario) -> None:
    """Within the block a resume gets `retry`; after it the records are delivered."""
    record = odin_scenario.publish("BTC", "trade")
    await trio.sleep(1)
    client = await odin_scenario.connect()
    before = {record.topic: {record.partition: record.offset - 1}}
    with stalled_broker(odin_scenario):
        assert (await client.response())["status"] == "stalled"
        assert (await client.resume(before, channels=["BTC.trade"]))["retry"]
    assert (await client.response())["status"] == "live"
    assert (await client.resume(before, channels=["BTC.trade"]))["recovered"]
    assert_delivered([await client.message()], [record])


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_deleted_records_are_reported_and_cut_ones_not_sent(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """The follower was disconnected meanwhile."""
    follower = Follower("BTC.trade")
    await follower.connect(nursery, odin_scenario)
    await trio.sleep(1)
    follower.break_off()
    records = [odin_scenario.publish("BTC", "trade", number) for number in range(10)]
    await trio.sleep(1)
    delete_log_before(odin_scenario.log, records[4])
    cut_log(odin_scenario.log, records[8])
    await trio.sleep(1)
    await follower.connect(nursery, odin_scenario)
    await trio.sleep(5)
    assert_delivered(follower.messages, records[4:8])
    assert [(span.first, span.last) for (span,) in follower.lost.values()] == [(0, 3)]


async def test_rebalance_closes_subscribers_of_its_topics(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """Others stay connected. After the block the follower resumes without a loss."""
    leaving, staying = Follower("BTC.trade"), Follower("BTC.liquidity")
    for follower in (leaving, staying):
        await follower.connect(nursery, odin_scenario)
    await trio.sleep(1)
    with rebalanced(odin_scenario, "odin.trades"):
        assert await leaving.wait_closed() == (1012, "partitions have moved to another instance")
        odin_scenario.publish("BTC", "trade", "elsewhere")
        odin_scenario.publish("BTC", "liquidity")
        await trio.sleep(1)
    await trio.sleep(1)
    await leaving.connect(nursery, odin_scenario)
    odin_scenario.publish("BTC", "trade", "here")
    await trio.sleep(5)
    assert staying.closed is None
    for follower in (leaving, staying):
        follower.check(odin_scenario.log.records)
    assert len(leaving.messages) == 2
