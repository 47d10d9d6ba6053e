"""What the earlier server got wrong about resources, by the numbers of its list of failings."""

from __future__ import annotations

import trio

from odin_ws.testing.scenario import Scenario
from tests.scenarios.container import Container
from tests.scenarios.ops import ask, metric
from tests.scenarios.wire import RawClient, request


async def test_failing_25_limits_are_the_containers(
    container: Container, odin_scenario: Scenario
) -> None:
    """Not the machine's, and memory is the working set: cache that can be had back is not in it."""
    container.use(memory=225_000, cpu_seconds=0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(odin_scenario.service.resources.run)
        await trio.sleep(1.1)
        checks = (await ask(odin_scenario, "/health")).json()["checks"]
        nursery.cancel_scope.cancel()
    assert checks["limits"]["cpu_cores"] == 2
    assert checks["memory"]["percentage"] == 25
    assert await metric(odin_scenario, "ws_memory_limit_bytes") == 900_000


async def test_failing_25_out_of_memory_is_noticed_within_a_second(
    container: Container, odin_scenario: Scenario
) -> None:
    """New callers get 503 with the reason, those who are in stay; it ends when memory is back."""
    inside = await odin_scenario.connect()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(odin_scenario.service.resources.run)
        await RawClient.open(odin_scenario)
        container.use(memory=900_000, cpu_seconds=0)
        await trio.sleep(1.01)
        rejected = await RawClient.dial(odin_scenario, request())
        head = await rejected.head()
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: " in head
        assert await rejected.rest_bytes() == b"the server has no memory left\n"
        assert (await inside.command("heartbeat"))["type"] == "pong"
        assert await metric(odin_scenario, "ws_capacity_rejections_total", reason="memory") == 1
        container.use(memory=899_999, cpu_seconds=0)
        await trio.sleep(1.01)
        await RawClient.open(odin_scenario)
        nursery.cancel_scope.cancel()
