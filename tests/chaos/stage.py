"""Everything a run needs, running: Kafka, instances, a balancer, a wire, perhaps a namespace."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import attrs

from odin_ws.testing.brokers import ApacheKafka, apache_kafka
from odin_ws.testing.ports import LOOPBACK
from tests.chaos.haproxy import HAProxy, find_haproxy, haproxy
from tests.chaos.instances import Instance, run_instances
from tests.chaos.netns import Namespace, NamespaceUnavailable, open_namespace
from tests.chaos.plan import PARTITIONS, TOPICS, Plan
from tests.chaos.wire import Wire, open_wire
from tests.integration.kafka import create_topics

__all__ = ["LIBS", "Stage", "open_stage"]

LIBS: Final = Path(__file__).parents[1] / "apache_kafka" / "libs"


@attrs.frozen
class Stage:
    """The brokers, instances and clients that the faults act on.

    `balancer`: HAProxy, or None where it is not installed; then all clients go through the wire,
    which leads to the instances in turn.
    `namespace`: where far clients are, or None, and `no_namespace` says why not.
    `urls`: where clients connect: directly, through the wire, and from the namespace.
    """

    kafka: ApacheKafka
    instances: list[Instance]
    balancer: HAProxy | None
    wire: Wire
    namespace: Namespace | None
    no_namespace: str
    urls: dict[str, str]

    async def fullest(self) -> Instance:
        """The instance with the most clients: the one that is worth losing."""
        counts = [(await one.connections(), one) for one in self.instances]
        return max(counts, key=lambda count: count[0])[1]

    async def back(self, instance: Instance) -> None:
        """Start an instance, and return when newcomers are sent to it."""
        await instance.start()
        if self.balancer is not None:
            await self.balancer.sends_to([instance.name])

    async def empty(self) -> bool:
        """Whether no instance has a client."""
        return not await self.connections()

    async def connections(self) -> int:
        """The number of clients of all instances."""
        return sum([await one.connections() for one in self.instances])


@asynccontextmanager
async def open_stage(
    plan: Plan, directory: Path, say: Callable[[str], None]
) -> AsyncIterator[Stage]:
    """Run a stage for the length of the block; everything it starts ends with it."""
    async with AsyncExitStack() as stack:
        namespace, reason = None, "this run has no far clients"
        if plan.far:
            try:
                namespace = await stack.enter_async_context(open_namespace())
            except NamespaceUnavailable as error:
                reason = str(error)
        say("starting Apache Kafka")
        broker = await stack.enter_async_context(apache_kafka(LIBS, directory))
        await create_topics(broker.bootstrap, tuple(TOPICS.values()), PARTITIONS)
        say(f"starting {plan.instances} instances")
        instances = await stack.enter_async_context(
            run_instances([{"KAFKA_BROKERS": broker.bootstrap}] * plan.instances, directory)
        )
        balancer = None
        targets = [one.port for one in instances]
        if (program := find_haproxy()) is not None:
            ports = [(one.name, one.port, one.ops_port) for one in instances]
            hosts = [namespace.near] if namespace is not None else []
            balancer = await stack.enter_async_context(haproxy(program, directory, ports, hosts))
            targets = [balancer.port]
        wire, wire_port = await stack.enter_async_context(open_wire(targets))
        urls = {"wire": f"ws://{LOOPBACK}:{wire_port}/ws"}
        urls["direct"] = urls["wire"]
        if balancer is not None:
            urls["direct"] = f"ws://{LOOPBACK}:{balancer.port}/ws"
            if namespace is not None:
                urls["far"] = f"ws://{namespace.near}:{balancer.port}/ws"
        yield Stage(broker, instances, balancer, wire, namespace, reason, urls)
