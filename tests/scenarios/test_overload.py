"""An overloaded server rejects new connections and keeps existing ones."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from odin_ws.testing.scenario import Scenario
from tests.scenarios.container import Container
from tests.scenarios.ops import metric
from tests.scenarios.wire import RawClient, request


@pytest.fixture
async def sampled(odin_scenario: Scenario) -> AsyncIterator[Scenario]:
    """A scenario whose resources are measured."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(odin_scenario.service.resources.run)
        nursery.start_soon(odin_scenario.service.resources.loop.run)
        # The test begins between two samples.
        await trio.sleep(1.5)
        yield odin_scenario
        nursery.cancel_scope.cancel()


async def status(scenario: Scenario) -> int:
    """Return the HTTP status of a new connection."""
    client = await RawClient.dial(scenario, request())
    head = await client.head()
    if head.startswith(b"HTTP/1.1 503 "):
        assert b"\r\nRetry-After: " in head
    await client.stream.aclose()
    return int(head.split()[1])


async def delay_loop(clock: MockClock, seconds: float, times: int) -> None:
    """Stop the event loop for some seconds, several times."""
    for _ in range(times):
        await trio.sleep(0.1 - 1e-6)
        clock.jump(seconds)
        await wait_all_tasks_blocked()


@pytest.mark.odin_settings(ws_max_loop_delay_seconds=0.2)
async def test_sustained_loop_delay_rejects_connections(
    sampled: Scenario, autojump_clock: MockClock
) -> None:
    """A delay for a second rejects, a single one does not; it ends at half of the limit."""
    connected = await sampled.connect()
    await delay_loop(autojump_clock, 5, 1)
    assert await status(sampled) == 101
    await delay_loop(autojump_clock, 0.3, 15)
    assert await status(sampled) == 503
    assert (await connected.command("heartbeat"))["type"] == "pong"
    labels = {"reason": "loop_delay"}
    assert await metric(sampled, "ws_capacity_rejections_total", **labels) == 1
    await delay_loop(autojump_clock, 0.15, 15)
    assert await status(sampled) == 503
    await delay_loop(autojump_clock, 0.05, 2)
    assert await status(sampled) == 101


@pytest.mark.odin_settings(ws_max_loop_delay_seconds=0)
async def test_max_loop_delay_of_0_rejects_nothing(
    sampled: Scenario, autojump_clock: MockClock
) -> None:
    """0 means no limit."""
    await delay_loop(autojump_clock, 3, 20)
    assert await status(sampled) == 101


async def test_sustained_cpu_limit_rejects_connections(
    container: Container, sampled: Scenario
) -> None:
    """Existing connections are served; new ones are accepted again when the CPU is free."""
    connected = await sampled.connect()
    used = 0.0
    for expected, seconds in (101, 25), (503, 8):
        for _ in range(seconds):
            used += 2
            container.use(memory=0, cpu_seconds=used)
            await trio.sleep(1)
        assert await status(sampled) == expected
    assert (await connected.command("heartbeat"))["type"] == "pong"
    assert await metric(sampled, "ws_capacity_rejections_total", reason="cpu") == 1
    await trio.sleep(2)
    assert await status(sampled) == 101
