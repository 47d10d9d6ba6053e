"""Three brokers, two instances with a Kafka user of their own, and a proxy before the instances.

Each category has a topic and one use in the run.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import attrs
import httpx
import trio

from odin_ws.testing.ports import LOOPBACK
from tests.chaos.cluster.clients import Notes, follow
from tests.chaos.cluster.publisher import Publisher
from tests.chaos.cluster.truth import Truth
from tests.chaos.fault_proxy import FaultProxy, open_fault_proxy
from tests.chaos.instances import Instance, run_instances
from tests.chaos.plan import ClientKind, ClientSpec
from tests.integration.cluster import Cluster, user_settings
from tests.integration.running_source import until, wait_until

__all__ = ["CATEGORIES", "Size", "Testbed", "open_testbed"]

# The use of each topic, the replicas of its partitions, and its special settings.
CATEGORIES: Final[Mapping[str, tuple[list[list[int]], dict[str, str]]]] = {
    # Only faults of brokers affect it.
    "trade": ([[1, 2, 3], [2, 3, 1], [3, 1, 2], [1, 3, 2], [2, 1, 3], [3, 2, 1]], {}),
    # The topic is deleted and created again.
    "recreated": ([[1, 2, 3], [2, 3, 1]], {}),
    # The topic's leader is killed with records that no other node has.
    "cut": ([[2, 3]], {"min.insync.replicas": "1"}),
    # Records are deleted before readers have them.
    "expiring": ([[3, 1, 2]], {}),
    "compacted": (
        [[1, 2, 3]],
        {
            "cleanup.policy": "compact",
            "segment.ms": "500",
            "min.cleanable.dirty.ratio": "0.01",
            "max.compaction.lag.ms": "1000",
        },
    ),
    "transactions": ([[2, 3, 1], [3, 1, 2]], {}),
    # The instances' right to read it is revoked and granted.
    "guarded": ([[1, 2, 3]], {}),
    # The topic gets more partitions, and records of 5 MB.
    "growing": ([[3, 2, 1]], {}),
}

# Categories whose logs lose records during a run.
LOSING: Final = ("recreated", "cut", "expiring", "compacted")

# Timeout of catching up, which takes 1 to 2 s on a free machine.
CAUGHT_UP_SECONDS: Final = 45.0


@attrs.frozen
class Size:
    """The size of a run."""

    clients: int
    """The number of clients."""
    tokens: int
    """The number of tokens."""
    rate: float
    """Records per second of `trade`; each other topic gets a tenth."""


@attrs.frozen
class Testbed:
    """The brokers, servers and clients that the faults act on."""

    cluster: Cluster
    topics: Mapping[str, str]
    instances: list[Instance]
    publisher: Publisher
    truth: Truth
    proxy: FaultProxy
    clients: list[Notes]

    def topic(self, category: str) -> str:
        """Return the topic of a category."""
        return self.topics[category]

    async def caught_up(self, category: str = "*") -> bool:
        """Wait until each connected client has every record so far, or a report of its loss.

        `category`: only records of this category. Returns False after `CAUGHT_UP_SECONDS`.
        """
        upto = len(self.truth.entries)
        with trio.move_on_after(CAUGHT_UP_SECONDS):
            await wait_until(lambda: not self._behind(category, upto), 2 * CAUGHT_UP_SECONDS)
            return True
        # The comparison at the end reports missing records, which must not delay later faults.
        for client in self.clients:
            client.complete = upto
        return False

    def _behind(self, category: str, upto: int) -> bool:
        """Return whether a client lacks a record with a number below `upto`."""
        return any(
            not client.away.value and not self._is_complete(client, category, upto)
            for client in self.clients
        )

    def _is_complete(self, one: Notes, category: str, upto: int) -> bool:
        channels = [f"{pattern.rpartition('.')[0]}.{category}" for pattern in one.spec.channels]
        numbers = range(min(one.complete, upto), upto)
        reached = self.truth.complete_to(channels, one.got, one.reported, numbers)
        if category == "*":
            one.complete = max(one.complete, reached)
        return reached == upto

    async def healthy(self) -> bool:
        """Return whether each instance reports `healthy`."""
        try:
            reports = [await instance.health() for instance in self.instances]
        except httpx.TransportError:
            return False
        return all(report["status"] == "healthy" for report in reports)


def specs(size: Size, url: str) -> list[ClientSpec]:
    """Return clients: half of them subscribe to everything, the others to one token.

    A third of them is handwritten.
    """
    found = []
    for number in range(size.clients):
        kind: ClientKind = "handwritten" if number % 3 == 0 else "library"
        token = "*" if number % 2 else f"T{number % size.tokens}"
        found.append(ClientSpec(f"c{number:02}", (f"{token}.*",), kind, url))
    return found


@asynccontextmanager
async def open_testbed(
    cluster: Cluster, size: Size, directory: Path, announce: Callable[[str], None]
) -> AsyncIterator[Testbed]:
    """Create topics, and run instances, clients and the publisher for the length of the block."""
    run = uuid.uuid4().hex[:6]
    topics = {category: f"chaos.{run}.{category}" for category in CATEGORIES}
    for category, (replicas, config) in CATEGORIES.items():
        await cluster.create_topic(topics[category], replicas=replicas, config=config)
        for operation in ("DESCRIBE", "READ"):
            await cluster.grant(operation, topics[category])
    tokens = [f"T{number}" for number in range(size.tokens)]
    truth = Truth("compacted", LOSING)
    settings = {
        **user_settings(cluster.nodes),
        "WS_CATALOGUE": str(_catalogue(directory, topics)),
        "WS_MAX_RECORD_BYTES": str(6 << 20),
        "WS_SEND_QUEUE_BYTES": str(64 << 20),
        "KAFKA_PROBE_SECONDS": "1",
    }
    # One instance replays from memory as far as it can, the other always from Kafka.
    same_offsets = [settings, {**settings, "WS_HISTORY_BYTES": "0"}]
    async with AsyncExitStack() as stack:
        announce("starting two instances")
        instances = await stack.enter_async_context(run_instances(same_offsets, directory))
        proxy, port = await stack.enter_async_context(
            open_fault_proxy([instance.port for instance in instances])
        )
        nursery = await stack.enter_async_context(trio.open_nursery())
        names = {topic: category for category, topic in topics.items()}
        url = f"ws://{LOOPBACK}:{port}/ws"
        clients = [Notes(spec, names) for spec in specs(size, url)]
        for one in clients:
            nursery.start_soon(follow, one)
        await wait_until(lambda: all(client.subscribed for client in clients))
        rates = dict.fromkeys(topics, size.rate / 10) | {"trade": size.rate, "transactions": 0}
        publisher = Publisher(cluster.bootstrap, topics, tokens, rates, truth)
        nursery.start_soon(publisher.run)
        testbed = Testbed(cluster, topics, instances, publisher, truth, proxy, clients)
        yield testbed
        nursery.cancel_scope.cancel()


def _catalogue(directory: Path, topics: Mapping[str, str]) -> Path:
    lines = []
    for category, topic in topics.items():
        lines += ["[[topics]]", f'name = "{topic}"', f'category = "{category}"', "events = []"]
    path = directory / "catalogue.toml"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


async def recovered(testbed: Testbed) -> bool:
    """Wait until each instance reports `healthy`; return False after `CAUGHT_UP_SECONDS`."""
    with trio.move_on_after(CAUGHT_UP_SECONDS):
        await until(testbed.healthy, 2 * CAUGHT_UP_SECONDS)
        return True
    return False
