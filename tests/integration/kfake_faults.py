"""Layout, waits and the usual fault of the tests with kfake."""

from __future__ import annotations

import trio

from tests.integration.domain import Domain
from tests.integration.kfake import Api, Code, KFake
from tests.integration.problems import (
    feed_statuses,
    kafka_check,
    stays_live,
)
from tests.integration.servers import Client, Server

__all__ = [
    "FETCHES_PER_SECOND",
    "PARTITIONS",
    "PATIENT",
    "WATCHED_SECONDS",
    "fail_partition",
    "settled",
    "spread",
]

# A node answers an empty fetch after KAFKA_FETCH_MAX_WAIT_SECONDS, half a second: two fetches per
# second for each of three nodes. The rest is for retries with back-off.
FETCHES_PER_SECOND = 20

PARTITIONS = 3

# Problems shorter than this are not reported; the tests' usual half a second is too short.
PATIENT = {"KAFKA_PROBE_SECONDS": "5"}

# Long enough for an unexpected notice.
WATCHED_SECONDS = 2


async def spread(cluster: KFake, domain: Domain) -> None:
    """Let node n lead partition n of each topic."""
    for topic in domain.topics:
        for partition in range(PARTITIONS):
            await cluster.move(topic, partition, partition)


async def settled(server: Server, client: Client) -> None:
    """Wait for unexpected notices, for as long as a few probes take."""
    await trio.sleep(WATCHED_SECONDS)
    assert feed_statuses(client) == []
    assert stays_live(await kafka_check(server))


async def fail_partition(cluster: KFake, topic: str, partition: int = 0) -> None:
    """Let every fetch and every offset query of a partition fail, until cleared."""
    await cluster.fail(
        Api.FETCH,
        Api.LIST_OFFSETS,
        error=Code.NOT_LEADER_OR_FOLLOWER,
        topic=topic,
        partitions=[partition],
    )
