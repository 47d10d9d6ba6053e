"""After a drain or crash of an instance its clients resume elsewhere and lose nothing."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from odin_ws.settings import Settings
from odin_ws.testing.follower import Follower
from odin_ws.testing.scenario import Scenario, open_scenario
from tests.scenarios.wire import Op, RawClient, texts

RESTARTING = (1012, "the server is restarting")


async def test_drain_sends_reconnect_advice_before_close(odin_scenario: Scenario) -> None:
    """Each client gets its own random delay; only the close frame 1012 follows."""
    clients = [await RawClient.open(odin_scenario) for _ in range(50)]
    for client in clients:
        await client.subscribe("*.trade")
    odin_scenario.publish("BTC", "trade")
    await trio.sleep(1)
    odin_scenario.stop()
    delays = []
    for client in clients:
        frames = await client.rest()
        assert frames[-1].close == RESTARTING
        message, advice = texts(frames)
        assert message["seq"] == 1
        assert advice["type"] == "reconnect"
        assert advice["data"]["reason"] == "draining"
        delays.append(advice["data"]["after_ms"])
    assert len(set(delays)) > 40
    assert all(0 <= delay <= 1000 for delay in delays)


@pytest.mark.parametrize("workers", [1, 2])
async def test_drain_spreads_reconnects_by_maximum_rate(
    autojump_clock: MockClock,  # noqa: ARG001 -- the clock that the test runs under
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
) -> None:
    """At 50 a second of all workers, 200 clients are back within four seconds and one of jitter.

    They leave within two seconds, and in no second more of them come back than the rate allows.
    """
    monkeypatch.setattr("odin_ws.assembly.RETURNS_PER_SECOND", 50 * workers)
    settings = Settings(ws_drain_timeout_seconds=7, ws_drain_delay_seconds=0, ws_workers=workers)
    returns = []

    async def read_close(client: RawClient) -> None:
        advice = (await client.next_but_pings()).json
        returns.append(trio.current_time() - started + advice["data"]["after_ms"] / 1000)
        assert (await client.next()).close == RESTARTING
        await client.send(Op.CLOSE, b"\x03\xf4")

    async with open_scenario(settings) as scenario, trio.open_nursery() as nursery:
        started = trio.current_time()
        for _ in range(200):
            nursery.start_soon(read_close, await RawClient.open(scenario))
        scenario.stop()
    assert 3.5 < max(returns) < 5.1
    # Beside the rate, chance: a standard deviation of some five clients.
    assert max(sum(0 <= at - begin < 1 for at in returns) for begin in returns) < 75


@pytest.mark.parametrize("retained", [0, 1 << 20])
async def test_drain_loses_no_record(
    odin_scenario: Scenario, nursery: trio.Nursery, retained: int
) -> None:
    """Subscribers continue at another instance while records stream."""
    async with open_scenario(Settings(ws_history_bytes=retained), log=odin_scenario.log) as another:
        followers = [Follower("*.trade") for _ in range(10)]
        for follower in followers:
            await follower.connect(nursery, odin_scenario)

        async def publish() -> None:
            for number in range(300):
                another.publish(f"T{number % 7}", "trade", number)
                await trio.sleep(0.02)

        nursery.start_soon(publish)
        await trio.sleep(2)
        odin_scenario.stop()
        for follower in followers:
            assert await follower.wait_closed() == RESTARTING
            advice = follower.items[-1]
            assert advice["type"] == "reconnect"
            await trio.sleep(advice["data"]["after_ms"] / 1000)
            await follower.connect(nursery, another)
        await trio.sleep(10)
        for follower in followers:
            follower.check(odin_scenario.log.records)


@pytest.mark.parametrize("retained", [0, 1 << 20])
async def test_drain_during_replay_loses_no_record(
    odin_scenario: Scenario, nursery: trio.Nursery, retained: int
) -> None:
    """The client gets the rest of its replay from another instance."""
    settings = Settings(ws_history_bytes=retained)
    async with open_scenario(settings, log=odin_scenario.log) as first:
        follower = Follower("*.trade")
        await follower.connect(nursery, first)
        await trio.sleep(1)
        follower.break_off()
        for number in range(200):
            first.publish(f"T{number % 20}", "trade", "x" * 5000)
        await trio.sleep(2)
        follower.pause = 0.05
        await follower.connect(nursery, first, capacity=3000)
        await trio.sleep(2)
        await first.drain()
        assert await follower.wait_closed() == RESTARTING
        assert follower.items[-1]["type"] == "reconnect"
        assert 0 < len(follower.messages) < 200
        assert first.service.server.replays.active == 0
        await follower.connect(nursery, odin_scenario)
        await trio.sleep(30)
        follower.check(odin_scenario.log.records)


async def test_replay_waiting_for_log_does_not_delay_drain(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """The client is closed with 1012 as others are."""
    settings = Settings(ws_history_bytes=0)
    async with open_scenario(settings, log=odin_scenario.log) as first:
        first.publish("BTC", "trade")
        await trio.sleep(1)
        first.log_reader.hold()
        follower = Follower("BTC.trade")
        await follower.connect(nursery, first, since_ms=0)
        await trio.sleep(1)
        started = trio.current_time()
        await first.drain()
        assert trio.current_time() - started < 5
        assert follower.closed
        assert follower.closed.code == 1012


async def test_crash_loses_no_record(odin_scenario: Scenario, nursery: trio.Nursery) -> None:
    """Clients get no close frame; they resume at another instance or at the successor."""
    async with open_scenario(log=odin_scenario.log) as another:
        followers = [Follower("*.trade", pause=0.01 * number) for number in range(10)]
        for follower in followers:
            await follower.connect(nursery, odin_scenario, capacity=3000)

        async def publish() -> None:
            for number in range(400):
                another.publish(f"T{number % 7}", "trade", [number, "x" * 300])
                await trio.sleep(0.01)

        nursery.start_soon(publish)
        await trio.sleep(1.5)
        odin_scenario.crash()
        await trio.sleep(10)
        assert {follower.closed.code if follower.closed else 0 for follower in followers} == {1006}
        async with open_scenario(log=odin_scenario.log) as successor:
            for number, follower in enumerate(followers):
                follower.pause = 0
                await follower.connect(nursery, another if number % 2 else successor)
            await trio.sleep(10)
            for follower in followers:
                follower.check(odin_scenario.log.records)
