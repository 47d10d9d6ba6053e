"""Settings of history, replay, conflation and positions, each with its effect."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from odin_ws.settings import Settings
from odin_ws.testing.scenario import Scenario, open_scenario
from tests.scenarios.wire import RawClient


async def resume(scenario: Scenario) -> dict[str, Any]:
    """Resume a client that has received nothing; return the ack."""
    client = await scenario.connect()
    positions = {"odin.trades": dict.fromkeys(range(12), -1)}
    ack = await client.resume(positions, channels=["BTC.trade"])
    await client.messages(ack["replayed"])
    return ack


async def publish(scenario: Scenario, count: int) -> None:
    """Publish records, and wait until the server has read them."""
    for number in range(count):
        scenario.publish("BTC", "trade", number)
    await trio.sleep(1)


@pytest.mark.odin_settings(ws_history_bytes=10_000)
async def test_messages_beyond_history_bytes_are_replayed_from_log(odin_scenario: Scenario) -> None:
    """A message takes about 1,000 bytes: of 30 the history has 9; nothing is lost."""
    await publish(odin_scenario, 30)
    assert (await resume(odin_scenario))["replayed"] == 30
    replays = odin_scenario.service.server.replays
    assert (replays.from_history, replays.from_log) == (9, 21)
    assert odin_scenario.service.hub.history.size <= 10_000


@pytest.mark.odin_settings(ws_history_seconds=20)
async def test_messages_older_than_history_seconds_are_replayed_from_log(
    odin_scenario: Scenario,
) -> None:
    """Messages of 19 s ago are in the history, those of 21 s ago are not."""
    await publish(odin_scenario, 3)
    await trio.sleep(18)
    await publish(odin_scenario, 4)
    assert len(odin_scenario.service.hub.history) == 7
    await trio.sleep(1)
    await publish(odin_scenario, 5)
    assert (await resume(odin_scenario))["replayed"] == 12
    replays = odin_scenario.service.server.replays
    assert (replays.from_history, replays.from_log) == (9, 3)


@pytest.mark.odin_settings(ws_snapshot_bytes=3500)
async def test_snapshot_has_channels_within_snapshot_bytes(odin_scenario: Scenario) -> None:
    """A message takes about 1,000 bytes: of ten channels the snapshot has the last three."""
    for number in range(10):
        odin_scenario.publish(f"T{number}", "trade")
    await trio.sleep(1)
    client = await odin_scenario.connect()
    ack = await client.subscribe(channels=["*.trade"], snapshot=True)
    assert ack["replayed"] == 3
    channels = {message["channel"] for message in await client.messages(3)}
    assert channels < {f"T{number}.trade" for number in range(10)}
    assert await client.silence(5)


async def test_replay_reads_at_most_max_replay_records(
    autojump_clock: MockClock,  # noqa: ARG001 -- virtual time
) -> None:
    """It reads the newest; the older ones are reported as lost."""
    settings = Settings(ws_history_bytes=0, ws_max_replay_records=10)
    async with open_scenario(settings, partitions=1) as scenario:
        await publish(scenario, 30)
        client = await scenario.connect()
        ack = await client.resume({"odin.trades": {0: -1}}, channels=["BTC.trade"])
        assert (ack["recovered"], ack["reason"], ack["replayed"]) == (False, "too_many", 10)
        assert ack["lost"] == {"odin.trades": {"0": [0, 19]}}
        numbers = [message["data"]["data"] for message in await client.messages(10)]
        assert numbers == list(range(20, 30))


@pytest.mark.parametrize("threshold", [0, 20_000])
async def test_messages_over_conflation_threshold_are_conflated(
    autojump_clock: MockClock,  # noqa: ARG001 -- virtual time
    threshold: int,
) -> None:
    """A client with `delivery: latest` that does not read has at most one message more pending."""
    async with open_scenario(Settings(ws_conflation_threshold_bytes=threshold)) as scenario:
        client = await RawClient.open(scenario, capacity=500)
        await client.command("subscribe", channels=["BTC.trade"], delivery="latest")
        assert (await client.next()).json["type"] == "subscription_ack"
        for number in range(50):
            scenario.publish("BTC", "trade", [number, "x" * 1000])
            await trio.sleep(0.1)
        (backlog,) = scenario.service.backlogs()
        assert threshold < backlog <= threshold + 1200
        assert scenario.service.hub.stats.messages_skipped > 20


@pytest.mark.odin_settings(ws_positions_interval_seconds=3)
async def test_positions_notices_are_sent_at_interval(odin_scenario: Scenario) -> None:
    """Subscribers with `positions` get one every 3 s, also while nothing is published."""
    client, other = await odin_scenario.connect(), await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade"], positions=True)
    await other.subscribe(channels=["BTC.trade"])
    await client.response()
    record = odin_scenario.publish("ETH", "trade")
    received_at = []
    for _ in range(3):
        notice = await client.response()
        assert notice["type"] == "positions"
        assert notice["positions"]["odin.trades"][str(record.partition)] == record.offset
        received_at.append(trio.current_time())
    assert [later - earlier for earlier, later in pairwise(received_at)] == pytest.approx([3, 3])
    assert (await other.command("heartbeat"))["type"] == "pong"


@pytest.mark.odin_settings(ws_positions_interval_seconds=3)
async def test_positions_notices_follow_resume_and_snapshot(
    odin_scenario: Scenario,
) -> None:
    """Without them the client would resume from old positions."""
    resumed, with_snapshot = await odin_scenario.connect(), await odin_scenario.connect()
    await resumed.resume({"odin.trades": dict.fromkeys(range(12), -1)}, channels=["BTC.trade"])
    await with_snapshot.subscribe(channels=["BTC.trade"], positions=True, snapshot=True)
    record = odin_scenario.publish("ETH", "trade")
    for client in (resumed, with_snapshot):
        notice = await client.response()
        assert notice["type"] == "positions"
        assert notice["positions"]["odin.trades"][str(record.partition)] == record.offset
