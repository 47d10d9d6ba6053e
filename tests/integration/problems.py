"""What operators and clients learn about problems of a part of Kafka."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from tests.integration.running_source import PATIENCE, until, wait_until
from tests.integration.servers import Client, Server, connected

__all__ = [
    "feed_statuses",
    "kafka_check",
    "lost_offsets",
    "no_problem",
    "problem_with",
    "stays_live",
    "subscribed",
    "wait_for_statuses",
]


@asynccontextmanager
async def subscribed(server: Server, channel: str) -> AsyncIterator[Client]:
    """Connect a subscriber to one channel for the length of the block."""
    async with connected(server) as client:
        await client.subscribe(channels=[channel])
        yield client


async def kafka_check(server: Server) -> dict[str, Any]:
    """The Kafka check of the health report."""
    check: dict[str, Any] = (await server.health())["checks"]["kafka"]
    return check


def stays_live(check: dict[str, Any]) -> bool:
    """Whether the feed as a whole is live."""
    return "live" in {check["status"], check.get("feed")}


def _concerns(problem: dict[str, Any], topic: str, partition: int | None) -> bool:
    if problem["topic"] != topic:
        return False
    return partition is None or partition in problem["partitions"]


async def problem_with(
    server: Server, topic: str, *words: str, partition: int | None = None
) -> dict[str, Any]:
    """Wait until health reports a problem of a topic; return the problem.

    `words`: each is in its reason, in any case. Health is only degraded and the feed stays live,
    because the problem concerns a part.
    """
    found: list[dict[str, Any]] = []

    async def reported() -> bool:
        report = await server.health()
        check = report["checks"]["kafka"]
        found[:] = [
            problem
            for problem in check.get("problems", ())
            if _concerns(problem, topic, partition)
            and all(word.lower() in problem["reason"].lower() for word in words)
        ]
        return bool(found) and report["status"] == "degraded" and stays_live(check)

    await until(reported)
    return found[0]


async def no_problem(server: Server) -> None:
    """Wait until health has no problem."""

    async def well() -> bool:
        report = await server.health()
        return report["status"] == "healthy" and not report["checks"]["kafka"].get("problems")

    await until(well)


def feed_statuses(client: Client, topic: str | None = None) -> list[str]:
    """The statuses of the feed that a client was told, `stalled` and `live`; of a topic or all."""
    return [
        notice["status"]
        for notice in client.responses
        if notice["type"] == "feed"
        and notice["status"] in {"stalled", "live"}
        and (topic is None or topic in notice.get("topics", ()))
    ]


async def wait_for_statuses(
    client: Client, topic: str, *statuses: str, seconds: float = PATIENCE
) -> None:
    """Wait until a client has been told exactly these statuses of a topic."""
    await wait_until(lambda: feed_statuses(client, topic) == list(statuses), seconds)


def lost_offsets(client: Client, topic: str) -> set[tuple[int, int]]:
    """Partition and offset of each record of a topic that a client was told it will not get."""
    return {place for response in client.responses for place in _ranges(response, topic)}


def _ranges(response: dict[str, Any], topic: str) -> Iterator[tuple[int, int]]:
    for partition, (first, last) in (response.get("lost") or {}).get(topic, {}).items():
        yield from ((int(partition), offset) for offset in range(first, last + 1))
