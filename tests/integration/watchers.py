"""Waits of tests with a running server, and a client that stays connected meanwhile."""

from __future__ import annotations

import trio

from tests.integration import kafka
from tests.integration.running_source import until
from tests.integration.servers import Client, Server, connected

__all__ = ["closed", "has_all_topics", "partitions_of", "subscribed"]


async def has_all_topics(server: Server) -> bool:
    """Whether a server reads all partitions of Odin's topics."""
    return await partitions_of(server) == len(kafka.TOPICS) * kafka.PARTITIONS


async def partitions_of(server: Server) -> int:
    """The number of partitions that a server reports."""
    served = (await server.health())["checks"]["kafka"]["partitions"]
    return sum(map(len, served.values()))


async def subscribed(server: Server, pattern: str, *, task_status: trio.TaskStatus[Client]) -> None:
    """Keep a client connected that has subscribed to a pattern."""
    async with connected(server) as client:
        await client.subscribe(channels=[pattern])
        task_status.started(client)
        await trio.sleep_forever()


async def closed(server: Server, count: int) -> None:
    """Wait until so many connections have ended."""

    async def enough() -> bool:
        return await server.metric("ws_disconnects_total") >= count

    await until(enough)
