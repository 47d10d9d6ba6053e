"""Failings of the earlier server in replays after a reconnect, by their numbers."""

from __future__ import annotations

import pytest
import trio

from odin_ws.settings import Settings
from odin_ws.testing.follower import Follower
from odin_ws.testing.scenario import Scenario, open_scenario
from tests.scenarios.resume.following import following, publish_long, send
from tests.scenarios.wire import RawClient, texts


async def test_failing_03_positions_are_per_partition(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """A client gets its position in each of 12 partitions, and resumes after each."""
    follower = Follower("*.trade")
    await follower.connect(nursery, odin_scenario)
    await trio.sleep(1)
    assert len(follower.interests[0].starts) == 12
    for number in range(100):
        odin_scenario.publish(f"T{number}", "trade", number)
    await trio.sleep(2)
    follower.break_off()
    assert len({message["pos"].split("-")[0] for message in follower.messages}) == 12
    for number in range(100):
        odin_scenario.publish(f"T{number}", "trade", number)
    await follower.connect(nursery, odin_scenario)
    await trio.sleep(2)
    follower.check(odin_scenario.log.records)


@pytest.mark.parametrize("path", ["/ws", "/ws?v=0"])
async def test_failing_03_offset_without_partition_is_rejected(
    odin_scenario: Scenario, path: str
) -> None:
    """With 12 partitions it would be wrong in 11 of them."""
    client = await odin_scenario.connect(path)
    error = await client.command("reconnect", last_offset={"odin.trades": 3})
    assert error["type"] == "reconnect_error"


@pytest.mark.odin_settings(ws_max_kafka_rate=20, ws_history_bytes=0)
async def test_failing_03_replay_is_not_limited_by_live_rate(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """At 20 live records a second, 200 records are replayed at once."""
    for number in range(200):
        odin_scenario.publish("BTC", "trade", number)
    await trio.sleep(15)
    follower = following(odin_scenario.log.records[:1], "BTC.trade")
    await follower.connect(nursery, odin_scenario)
    await trio.sleep(0.5)
    follower.check(odin_scenario.log.records)


@pytest.mark.odin_settings(ws_history_bytes=0, ws_command_burst=1000)
async def test_failing_03_heartbeats_are_answered_during_replay(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """Both while the replay waits for the log, and while a slow client reads for a minute."""
    await publish_long(odin_scenario, 700)
    follower = following(odin_scenario.log.records, "*.trade")
    follower.pause = 0.09
    odin_scenario.log_reader.hold()
    await follower.connect(nursery, odin_scenario, capacity=3000)
    await follower.send("heartbeat")
    await trio.sleep(1)
    assert [item["type"] for item in follower.items] == ["pong"]
    odin_scenario.log_reader.release()
    for number in range(8):
        await follower.send("heartbeat")
        await trio.sleep(7)
        # The pong is sent after the chunk that the client is reading.
        assert sum(item["type"] == "pong" for item in follower.items) == number + 2
    assert odin_scenario.service.server.replays.active == 1


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_failing_03_commands_are_answered_during_replay(
    odin_scenario: Scenario,
) -> None:
    """An invalid command is rejected at once, though the replay waits."""
    odin_scenario.publish("BTC", "trade")
    await trio.sleep(1)
    odin_scenario.log_reader.hold()
    client = await odin_scenario.connect()
    await send(client, "subscribe", channels=["BTC.trade"], since_ms=0)
    assert (await client.command("nonsense"))["code"] == "UNKNOWN_TYPE"
    assert (await client.command("heartbeat"))["type"] == "pong"


@pytest.mark.parametrize("ending", ["break", "drain", "crash"])
async def test_failing_04_missed_records_do_not_depend_on_the_connection(
    odin_scenario: Scenario, nursery: trio.Nursery, ending: str
) -> None:
    """Whatever ended the connection, any instance replays them."""
    async with open_scenario(log=odin_scenario.log) as first:
        follower = Follower("BTC.trade")
        await follower.connect(nursery, first)
        await trio.sleep(1)
        for number in range(10):
            first.publish("BTC", "trade", number)
        match ending:
            case "break":
                follower.break_off()
            case "drain":
                await first.drain()
            case _:
                first.crash()
        for number in range(10):
            odin_scenario.publish("BTC", "trade", number)
        await trio.sleep(1)
        await follower.connect(nursery, odin_scenario)
        await trio.sleep(1)
        follower.check(odin_scenario.log.records)
        assert len(follower.messages) == 20


@pytest.mark.odin_settings(ws_send_queue_bytes=4096)
async def test_failing_12_slow_client_is_closed_and_resumes_completely(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """The close frame has the reason."""
    follower = Follower("BTC.trade", pause=1.0)
    await follower.connect(nursery, odin_scenario, capacity=2048)
    await trio.sleep(1)
    for number in range(100):
        odin_scenario.publish("BTC", "trade", number)
        await trio.sleep(0.1)
    code, reason = await follower.wait_closed()
    assert (code, reason.split(":")[0]) == (1008, "slow")
    follower.pause = 0.0
    await follower.connect(nursery, odin_scenario)
    await trio.sleep(5)
    follower.check(odin_scenario.log.records)


@pytest.mark.odin_settings(ws_conflation_threshold_bytes=1000)
async def test_failing_12_skipped_messages_are_counted_in_next_message(
    odin_scenario: Scenario,
) -> None:
    """With `delivery: latest` a client always knows how many messages it was not sent."""
    client = await odin_scenario.connect(capacity=1000)
    await client.subscribe(channels=["BTC.trade"], delivery="latest")
    for number in range(200):
        odin_scenario.publish("BTC", "trade", [number, "x" * 100])
        await trio.sleep(0.06)
    seq = 0
    while seq < 200:
        message = await client.message()
        assert message["seq"] == seq + 1 + message.get("skipped", 0)
        assert message["data"]["data"][0] == message["seq"] - 1
        seq = message["seq"]


@pytest.mark.odin_settings(ws_drain_delay_seconds=1, ws_drain_timeout_seconds=8)
async def test_failing_19_shutdown_is_announced_and_ends_in_time(odin_scenario: Scenario) -> None:
    """Each client gets reconnect advice, and a close frame with the reason."""
    clients = [await RawClient.open(odin_scenario) for _ in range(20)]
    started = trio.current_time()
    advised_at: list[float] = []

    async def read(client: RawClient) -> None:
        advice = (await client.next_but_pings()).json
        advised_at.append(trio.current_time() - started)
        assert (advice["type"], advice["data"]["reason"]) == ("reconnect", "draining")
        frames = await client.rest()
        assert texts(frames) == []
        assert frames[-1].close == (1012, "the server is restarting")

    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(read, client)
        await odin_scenario.drain()
    assert trio.current_time() - started < 9.1
    assert min(advised_at) >= 1


async def test_failing_19_client_resumes_at_another_instance_after_advice(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """It gets all records that were published meanwhile."""
    async with open_scenario(Settings(ws_drain_delay_seconds=0), log=odin_scenario.log) as first:
        follower = Follower("BTC.trade")
        await follower.connect(nursery, first)
        await trio.sleep(1)
        first.stop()
        for number in range(10):
            first.publish("BTC", "trade", number)
            await trio.sleep(0.05)
        assert follower.closed
        (advice,) = [item for item in follower.items if item["type"] == "reconnect"]
        await trio.sleep(advice["data"]["after_ms"] / 1000)
        await follower.connect(nursery, odin_scenario)
        await trio.sleep(1)
        follower.check(odin_scenario.log.records)
