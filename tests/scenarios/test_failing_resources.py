"""Failings of the earlier server in measuring resources, by their numbers."""

from __future__ import annotations

import trio

from odin_ws.testing.scenario import Scenario
from tests.scenarios.container import Container
from tests.scenarios.ops import metric, ops_request
from tests.scenarios.wire import RawClient, request


async def test_failing_25_limits_and_usage_are_those_of_the_container(
    container: Container, odin_scenario: Scenario
) -> None:
    """Not those of the machine; memory does not include cache that the kernel can reclaim."""
    container.use(memory=225_000, cpu_seconds=0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(odin_scenario.service.resources.run)
        await trio.sleep(1.1)
        checks = (await ops_request(odin_scenario, "/health")).json()["checks"]
        nursery.cancel_scope.cancel()
    assert checks["limits"]["cpu_cores"] == 2
    assert checks["memory"]["percentage"] == 25
    assert await metric(odin_scenario, "ws_memory_limit_bytes") == 900_000


async def test_failing_25_memory_limit_rejects_connections_within_a_second(
    container: Container, odin_scenario: Scenario
) -> None:
    """New connections get 503 with the reason, existing ones stay; it ends when memory is free."""
    connected = await odin_scenario.connect()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(odin_scenario.service.resources.run)
        await RawClient.open(odin_scenario)
        container.use(memory=900_000, cpu_seconds=0)
        await trio.sleep(1.01)
        rejected = await RawClient.dial(odin_scenario, request())
        head = await rejected.head()
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: " in head
        assert await rejected.rest_bytes() == b"the server's memory is fully used; retry\n"
        assert (await connected.command("heartbeat"))["type"] == "pong"
        assert await metric(odin_scenario, "ws_capacity_rejections_total", reason="memory") == 1
        container.use(memory=899_999, cpu_seconds=0)
        await trio.sleep(1.01)
        await RawClient.open(odin_scenario)
        nursery.cancel_scope.cancel()
