"""The settings of what is kept for those who come back, or who are behind, each with its effect."""

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
    """The ack of one who comes back and has nothing yet."""
    client = await scenario.connect()
    positions = {"odin.trades": dict.fromkeys(range(12), -1)}
    ack = await client.resume(positions, channels=["BTC.trade"])
    await client.messages(ack["replayed"])
    return ack


async def publish(scenario: Scenario, count: int) -> None:
    """Publish, and let the server read it."""
    for number in range(count):
        scenario.publish("BTC", "trade", number)
    await trio.sleep(1)


@pytest.mark.odin_settings(ws_history_bytes=10_000)
async def test_what_does_not_fit_into_the_tail_comes_from_the_log(odin_scenario: Scenario) -> None:
    """A message takes a thousand bytes, so of 30 nine are there; nothing is lost."""
    await publish(odin_scenario, 30)
    assert (await resume(odin_scenario))["replayed"] == 30
    replays = odin_scenario.service.server.replays
    assert (replays.from_history, replays.from_log) == (9, 21)
    assert odin_scenario.service.hub.history.size <= 10_000


@pytest.mark.odin_settings(ws_history_seconds=20)
async def test_what_is_too_old_for_the_tail_comes_from_the_log(odin_scenario: Scenario) -> None:
    """Of what came 19 seconds ago all is there, of what came 21 seconds ago nothing."""
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
async def test_a_snapshot_holds_what_there_is_memory_for(odin_scenario: Scenario) -> None:
    """A message takes a thousand bytes, so of ten channels the last three are told."""
    for number in range(10):
        odin_scenario.publish(f"T{number}", "trade")
    await trio.sleep(1)
    client = await odin_scenario.connect()
    ack = await client.subscribe(channels=["*.trade"], snapshot=True)
    assert ack["replayed"] == 3
    channels = {one["channel"] for one in await client.messages(3)}
    assert channels < {f"T{number}.trade" for number in range(10)}
    assert await client.silence(5)


async def test_one_replay_reads_so_many_records_of_the_log(
    autojump_clock: MockClock,  # noqa: ARG001 -- virtual time
) -> None:
    """The newest are read, of the others it is told which they are."""
    settings = Settings(ws_history_bytes=0, ws_max_replay_records=10)
    async with open_scenario(settings, partitions=1) as scenario:
        await publish(scenario, 30)
        client = await scenario.connect()
        ack = await client.resume({"odin.trades": {0: -1}}, channels=["BTC.trade"])
        assert (ack["recovered"], ack["reason"], ack["replayed"]) == (False, "too_many", 10)
        assert ack["lost"] == {"odin.trades": {"0": [0, 19]}}
        numbers = [one["data"]["data"] for one in await client.messages(10)]
        assert numbers == list(range(20, 30))


@pytest.mark.parametrize("mark", [0, 20_000])
async def test_messages_over_the_threshold_are_conflated(
    autojump_clock: MockClock,  # noqa: ARG001 -- virtual time
    mark: int,
) -> None:
    """Who asked for the latest and does not read has so much waiting, and one message more."""
    async with open_scenario(Settings(ws_conflation_threshold_bytes=mark)) as scenario:
        client = await RawClient.open(scenario, capacity=500)
        await client.command("subscribe", channels=["BTC.trade"], delivery="latest")
        assert (await client.next()).json["type"] == "subscription_ack"
        for number in range(50):
            scenario.publish("BTC", "trade", [number, "x" * 1000])
            await trio.sleep(0.1)
        (backlog,) = scenario.service.backlogs()
        assert mark < backlog <= mark + 1200
        assert scenario.service.hub.stats.messages_skipped > 20


@pytest.mark.odin_settings(ws_positions_interval_seconds=3)
async def test_positions_are_told_at_an_interval(odin_scenario: Scenario) -> None:
    """To those who asked for them, every 3 seconds, also where nothing is published."""
    client, other = await odin_scenario.connect(), await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade"], positions=True)
    await other.subscribe(channels=["BTC.trade"])
    await client.answer()
    record = odin_scenario.publish("ETH", "trade")
    told_at = []
    for _ in range(3):
        notice = await client.answer()
        assert notice["type"] == "positions"
        assert notice["positions"]["odin.trades"][str(record.partition)] == record.offset
        told_at.append(trio.current_time())
    assert [later - earlier for earlier, later in pairwise(told_at)] == pytest.approx([3, 3])
    assert (await other.command("heartbeat"))["type"] == "pong"


@pytest.mark.odin_settings(ws_positions_interval_seconds=3)
async def test_whose_subscription_begins_in_the_past_is_told_positions_too(
    odin_scenario: Scenario,
) -> None:
    """Who resumes, and who asks for a snapshot with positions: else they would resume from old."""
    resumed, begun = await odin_scenario.connect(), await odin_scenario.connect()
    await resumed.resume({"odin.trades": dict.fromkeys(range(12), -1)}, channels=["BTC.trade"])
    await begun.subscribe(channels=["BTC.trade"], positions=True, snapshot=True)
    record = odin_scenario.publish("ETH", "trade")
    for client in (resumed, begun):
        notice = await client.answer()
        assert notice["type"] == "positions"
        assert notice["positions"]["odin.trades"][str(record.partition)] == record.offset
