"""A resume gets missed records from the history, the log, or both, on any instance."""

from __future__ import annotations

import pytest
import trio

from odin_ws.settings import Settings
from odin_ws.testing.follower import Follower
from odin_ws.testing.memory_log import MemoryLog
from odin_ws.testing.scenario import Scenario, open_scenario

# A message of these tests takes about 1,000 bytes of the history.
FIVE_MESSAGES = 5_200


async def miss_ten(scenario: Scenario, nursery: trio.Nursery) -> Follower:
    """Return a client that received three trades of BTC and then missed ten."""
    follower = Follower("BTC.trade")
    await follower.connect(nursery, scenario)
    await trio.sleep(1)
    for number in range(3):
        scenario.publish("BTC", "trade", number)
    await trio.sleep(1)
    follower.break_off()
    for number in range(3, 13):
        scenario.publish("BTC", "trade", number)
        scenario.publish("ETH", "trade", number)
        await trio.sleep(0.1)
    return follower


def is_complete(follower: Follower, log: MemoryLog) -> bool:
    """Return whether the client received each record once and the ack said so."""
    follower.check(log.records)
    ack = next(item for item in follower.items if item["type"] == "resume_ack")
    replays = [item for item in follower.items if item.get("replay")]
    return bool(ack["recovered"]) and ack["replayed"] == len(replays)


async def test_records_in_history_are_replayed_without_log_reader(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """The log reader fails in this test."""
    follower = await miss_ten(odin_scenario, nursery)
    odin_scenario.log_reader.fail()
    await follower.connect(nursery, odin_scenario)
    await trio.sleep(1)
    assert is_complete(follower, odin_scenario.log)
    assert [item.get("replay") for item in follower.items] == [None, *[True] * 10]
    stats = odin_scenario.service.server.replays
    assert (stats.from_history, stats.from_log) == (10, 0)


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_records_are_replayed_from_log_without_history(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """WS_HISTORY_BYTES is 0."""
    follower = await miss_ten(odin_scenario, nursery)
    await follower.connect(nursery, odin_scenario)
    await trio.sleep(1)
    assert is_complete(follower, odin_scenario.log)
    stats = odin_scenario.service.server.replays
    assert (stats.from_history, stats.from_log) == (0, 10)


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_replay_from_log_skips_invalid_records(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """As the live source does."""
    follower = Follower("*.trade")
    await follower.connect(nursery, odin_scenario)
    await trio.sleep(1)
    follower.break_off()
    log = odin_scenario.log
    for key, value in (b"BTC", b"no json"), (b"BTC", None), (None, b"{}"), (b"\xff", b"{}"):
        log.append("odin.trades", key, value, partition=0)
    good = log.append("odin.trades", b"BTC", b"{}", partition=0)
    await follower.connect(nursery, odin_scenario)
    await trio.sleep(1)
    assert [message["pos"] for message in follower.messages] == [f"0-{good.offset}"]
    assert follower.responses[0]["recovered"]
    assert odin_scenario.service.server.replays.from_log == 1


@pytest.mark.odin_settings(ws_history_bytes=FIVE_MESSAGES)
async def test_records_are_replayed_from_log_and_then_history(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """In order, each once."""
    follower = await miss_ten(odin_scenario, nursery)
    await follower.connect(nursery, odin_scenario)
    await trio.sleep(1)
    assert is_complete(follower, odin_scenario.log)
    stats = odin_scenario.service.server.replays
    assert stats.from_history + stats.from_log == 10
    assert min(stats.from_history, stats.from_log) > 0


@pytest.mark.parametrize("retained", [0, FIVE_MESSAGES, 1 << 20])
async def test_resume_on_another_instance_is_complete(
    odin_scenario: Scenario, nursery: trio.Nursery, retained: int
) -> None:
    """Positions are the same on all instances."""
    async with open_scenario(Settings(ws_history_bytes=retained), log=odin_scenario.log) as another:
        follower = await miss_ten(odin_scenario, nursery)
        await follower.connect(nursery, another)
        another.publish("BTC", "trade", "live")
        await trio.sleep(1)
        assert is_complete(follower, odin_scenario.log)


async def test_instance_started_later_replays_from_history(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """It filled its history from the log at its start."""
    follower = await miss_ten(odin_scenario, nursery)
    async with open_scenario(log=odin_scenario.log) as late:
        late.log_reader.fail()
        await follower.connect(nursery, late)
        await trio.sleep(1)
        assert is_complete(follower, odin_scenario.log)
        assert late.service.server.replays.from_history == 10


@pytest.mark.parametrize("retained", [0, 1 << 20])
async def test_resume_on_instance_behind_waits_until_it_has_caught_up(
    odin_scenario: Scenario, nursery: trio.Nursery, retained: int
) -> None:
    """The instance lost its broker, and the client's positions are ahead of it."""
    async with open_scenario(Settings(ws_history_bytes=retained), log=odin_scenario.log) as behind:
        behind.source.lose_broker()
        follower = await miss_ten(odin_scenario, nursery)
        await follower.connect(nursery, behind)
        await trio.sleep(20)
        assert [item["type"] for item in follower.items] == ["feed"]
        behind.publish("BTC", "trade", "meanwhile")
        behind.source.find_broker()
        await trio.sleep(2)
        assert is_complete(follower, odin_scenario.log)


async def test_resume_on_instance_behind_by_max_kafka_rate_is_complete(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """The client's positions are ahead of the instance."""
    async with open_scenario(Settings(ws_max_kafka_rate=2), log=odin_scenario.log) as paced:
        follower = await miss_ten(odin_scenario, nursery)
        await follower.connect(nursery, odin_scenario)
        await trio.sleep(1)
        follower.break_off()
        assert paced.service.hub.stream.order < 20
        await follower.connect(nursery, paced)
        await trio.sleep(20)
        assert is_complete(follower, odin_scenario.log)


async def test_instance_behind_for_30_s_gives_not_available(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """The client may retry here or resume at another instance."""
    async with open_scenario(log=odin_scenario.log) as behind:
        behind.source.lose_broker()
        follower = await miss_ten(odin_scenario, nursery)
        await follower.connect(nursery, odin_scenario)
        await trio.sleep(1)
        follower.break_off()
        await follower.connect(nursery, behind)
        await trio.sleep(31)
        error = follower.items[-1]
        assert (error["type"], error["code"], error["retry"]) == ("error", "NOT_AVAILABLE", True)
        follower.break_off()
        await follower.connect(nursery, odin_scenario)
        await trio.sleep(1)
        assert is_complete(follower, odin_scenario.log)
