"""Where a resume finds what was missed: the hot tail, the log, or both, on any instance."""

from __future__ import annotations

import pytest
import trio

from odin_ws.settings import Settings
from odin_ws.testing.follower import Follower
from odin_ws.testing.memory_log import MemoryLog
from odin_ws.testing.scenario import Scenario, open_scenario

# A message of these tests takes about 1,000 bytes of the tail.
FIVE_MESSAGES = 5_200


async def miss_some(scenario: Scenario, nursery: trio.Nursery) -> Follower:
    """A client that has got three trades of BTC and was away for ten, among other tokens'."""
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


def has_it_all(follower: Follower, log: MemoryLog) -> bool:
    """Whether it got every record once and the ack said so."""
    follower.check(log.records)
    ack = next(item for item in follower.items if item["type"] == "resume_ack")
    replays = [item for item in follower.items if item.get("replay")]
    return bool(ack["recovered"]) and ack["replayed"] == len(replays)


async def test_from_the_tail(odin_scenario: Scenario, nursery: trio.Nursery) -> None:
    """What is still in memory comes from there: the log is not asked, and need not answer."""
    follower = await miss_some(odin_scenario, nursery)
    odin_scenario.log_reader.fail()
    await follower.connect(nursery, odin_scenario)
    await trio.sleep(1)
    assert has_it_all(follower, odin_scenario.log)
    assert [item.get("replay") for item in follower.items] == [None, *[True] * 10]
    stats = odin_scenario.service.server.replays
    assert (stats.from_history, stats.from_log) == (10, 0)


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_from_the_log(odin_scenario: Scenario, nursery: trio.Nursery) -> None:
    """Without a tail all of it comes from the log."""
    follower = await miss_some(odin_scenario, nursery)
    await follower.connect(nursery, odin_scenario)
    await trio.sleep(1)
    assert has_it_all(follower, odin_scenario.log)
    stats = odin_scenario.service.server.replays
    assert (stats.from_history, stats.from_log) == (0, 10)


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_records_that_make_no_message_are_passed_in_the_log(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """A replay reads on behind them, as live reading does."""
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
    assert [one["pos"] for one in follower.messages] == [f"0-{good.offset}"]
    assert follower.answers[0]["recovered"]
    assert odin_scenario.service.server.replays.from_log == 1


@pytest.mark.odin_settings(ws_history_bytes=FIVE_MESSAGES)
async def test_from_both(odin_scenario: Scenario, nursery: trio.Nursery) -> None:
    """Where the tail has only the end of it, the beginning comes from the log, in order."""
    follower = await miss_some(odin_scenario, nursery)
    await follower.connect(nursery, odin_scenario)
    await trio.sleep(1)
    assert has_it_all(follower, odin_scenario.log)
    stats = odin_scenario.service.server.replays
    assert stats.from_history + stats.from_log == 10
    assert min(stats.from_history, stats.from_log) > 0


@pytest.mark.parametrize("retained", [0, FIVE_MESSAGES, 1 << 20])
async def test_on_another_instance(
    odin_scenario: Scenario, nursery: trio.Nursery, retained: int
) -> None:
    """Positions are the same everywhere: no instance needs to know the client."""
    async with open_scenario(Settings(ws_history_bytes=retained), log=odin_scenario.log) as another:
        follower = await miss_some(odin_scenario, nursery)
        await follower.connect(nursery, another)
        another.publish("BTC", "trade", "live")
        await trio.sleep(1)
        assert has_it_all(follower, odin_scenario.log)


async def test_on_an_instance_that_was_started_meanwhile(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """Its tail was filled from the log at its start: then it does not ask the log again."""
    follower = await miss_some(odin_scenario, nursery)
    async with open_scenario(log=odin_scenario.log) as late:
        late.log_reader.fail()
        await follower.connect(nursery, late)
        await trio.sleep(1)
        assert has_it_all(follower, odin_scenario.log)
        assert late.service.server.replays.from_history == 10


@pytest.mark.parametrize("retained", [0, 1 << 20])
async def test_on_an_instance_that_is_behind(
    odin_scenario: Scenario, nursery: trio.Nursery, retained: int
) -> None:
    """Who knows more than the instance, which has lost its broker, waits until it has come up."""
    async with open_scenario(Settings(ws_history_bytes=retained), log=odin_scenario.log) as behind:
        behind.source.lose_broker()
        follower = await miss_some(odin_scenario, nursery)
        await follower.connect(nursery, behind)
        await trio.sleep(20)
        assert [item["type"] for item in follower.items] == ["feed"]
        behind.publish("BTC", "trade", "meanwhile")
        behind.source.find_broker()
        await trio.sleep(2)
        assert has_it_all(follower, odin_scenario.log)


async def test_on_an_instance_that_is_paced(odin_scenario: Scenario, nursery: trio.Nursery) -> None:
    """The same where WS_MAX_KAFKA_RATE has left it behind."""
    async with open_scenario(Settings(ws_max_kafka_rate=2), log=odin_scenario.log) as paced:
        follower = await miss_some(odin_scenario, nursery)
        await follower.connect(nursery, odin_scenario)
        await trio.sleep(1)
        follower.break_off()
        assert paced.service.hub.stream.order < 20
        await follower.connect(nursery, paced)
        await trio.sleep(20)
        assert has_it_all(follower, odin_scenario.log)


async def test_an_instance_too_far_behind_says_so(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """After half a minute the client may ask again, here or elsewhere; it is not left without."""
    async with open_scenario(log=odin_scenario.log) as behind:
        behind.source.lose_broker()
        follower = await miss_some(odin_scenario, nursery)
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
        assert has_it_all(follower, odin_scenario.log)
