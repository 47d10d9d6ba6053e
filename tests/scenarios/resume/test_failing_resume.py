"""What the earlier server got wrong about coming back, by the numbers of its list of failings."""

from __future__ import annotations

import pytest
import trio

from odin_ws.settings import Settings
from odin_ws.testing.follower import Follower
from odin_ws.testing.scenario import Scenario, open_scenario
from tests.scenarios.resume.following import following, publish_long, say
from tests.scenarios.wire import RawClient, texts


async def test_failing_03_positions_are_per_partition(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """Clients are told where they are in each of 12 partitions, and go on behind each."""
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
async def test_failing_03_an_offset_without_its_partition_is_rejected(
    odin_scenario: Scenario, path: str
) -> None:
    """With 12 partitions it would be a wrong place in eleven of them."""
    client = await odin_scenario.connect(path)
    error = await client.command("reconnect", last_offset={"odin.trades": 3})
    assert error["type"] == "reconnect_error"


@pytest.mark.odin_settings(ws_max_kafka_rate=20, ws_history_bytes=0)
async def test_failing_03_a_replay_is_not_held_to_the_live_rate(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """At 20 records a second live, 200 of the past come at once."""
    for number in range(200):
        odin_scenario.publish("BTC", "trade", number)
    await trio.sleep(15)
    follower = following(odin_scenario.log.records[:1], "BTC.trade")
    await follower.connect(nursery, odin_scenario)
    await trio.sleep(0.5)
    follower.check(odin_scenario.log.records)


@pytest.mark.odin_settings(ws_history_bytes=0, ws_command_burst=1000)
async def test_failing_03_a_replay_does_not_block_the_reader(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """Heartbeats are answered all along a replay that takes a minute, and while it waits."""
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
        # It waits for its turn behind what is on its way to the client.
        assert sum(item["type"] == "pong" for item in follower.items) == number + 2
    assert odin_scenario.service.server.replays.active == 1


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_failing_03_commands_are_carried_out_during_a_replay(
    odin_scenario: Scenario,
) -> None:
    """A bad one is rejected at once, though another waits for its turn."""
    odin_scenario.publish("BTC", "trade")
    await trio.sleep(1)
    odin_scenario.log_reader.hold()
    client = await odin_scenario.connect()
    await say(client, "subscribe", channels=["BTC.trade"], since_ms=0)
    assert (await client.command("nonsense"))["code"] == "UNKNOWN_TYPE"
    assert (await client.command("heartbeat"))["type"] == "pong"


@pytest.mark.parametrize("ending", ["break", "drain", "crash"])
async def test_failing_04_what_was_missed_does_not_belong_to_the_connection(
    odin_scenario: Scenario, nursery: trio.Nursery, ending: str
) -> None:
    """However a connection ended, what it has not got is there for the next one, anywhere."""
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
async def test_failing_12_a_full_queue_is_told_and_costs_nothing(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """A client too slow is told so, and its resume brings what it did not get."""
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
async def test_failing_12_what_is_left_out_is_counted_in_the_next_message(
    odin_scenario: Scenario,
) -> None:
    """With delivery latest, too, a client always knows how many it was not sent."""
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
async def test_failing_19_a_shutdown_is_told_and_is_short(odin_scenario: Scenario) -> None:
    """Within the time set each client hears that it is one, when to come back, and why it ends."""
    clients = [await RawClient.open(odin_scenario) for _ in range(20)]
    started = trio.current_time()
    heard: list[float] = []

    async def read(client: RawClient) -> None:
        advice = (await client.next_but_pings()).json
        heard.append(trio.current_time() - started)
        assert (advice["type"], advice["data"]["reason"]) == ("reconnect", "draining")
        frames = await client.rest()
        assert texts(frames) == []
        assert frames[-1].close == (1012, "the server is restarting")

    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(read, client)
        await odin_scenario.drain()
    assert trio.current_time() - started < 9.1
    assert min(heard) >= 1


async def test_failing_19_a_client_goes_on_where_it_was_sent(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """After the advice's time, at another instance, with everything published meanwhile."""
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
