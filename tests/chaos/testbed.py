"""The testbed of a run: Kafka, instances, a balancer, a proxy, and a namespace if possible."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import attrs

from odin_ws.testing.brokers import ApacheKafka, apache_kafka
from odin_ws.testing.ports import LOOPBACK
from tests.chaos.fault_proxy import FaultProxy, open_fault_proxy
from tests.chaos.haproxy import HAProxy, find_haproxy, haproxy
from tests.chaos.instances import Instance, run_instances
from tests.chaos.netns import Namespace, NamespaceUnavailable, open_namespace
from tests.chaos.plan import PARTITIONS, TOPICS, Plan
from tests.integration.kafka import create_topics

__all__ = ["LIBS", "Testbed", "open_testbed"]

LIBS: Final = Path(__file__).parents[1] / "apache_kafka" / "libs"


@attrs.frozen
class Testbed:
    """The brokers, instances and clients that the faults act on."""

    kafka: ApacheKafka
    instances: list[Instance]
    balancer: HAProxy | None
    """HAProxy; None if it is not installed. Then all clients go through the proxy, which connects
    to the instances in turn."""
    proxy: FaultProxy
    namespace: Namespace | None
    """The network of far clients, or None."""
    no_namespace: str
    """The reason for a missing namespace; empty otherwise."""
    urls: dict[str, str]
    """URLs for clients: direct, through the proxy, and from the namespace."""

    async def fullest(self) -> Instance:
        """Return the instance with the most clients."""
        counts = [(await instance.connections(), instance) for instance in self.instances]
        return max(counts, key=lambda count: count[0])[1]

    async def back(self, instance: Instance) -> None:
        """Start an instance, and wait until new connections go to it."""
        await instance.start()
        if self.balancer is not None:
            await self.balancer.sends_to([instance.name])

    async def empty(self) -> bool:
        """Return whether no instance has a client."""
        return not await self.connections()

    async def connections(self) -> int:
        """Return the number of clients of all instances."""
        return sum([await instance.connections() for instance in self.instances])


@asynccontextmanager
async def open_testbed(
    plan: Plan, directory: Path, announce: Callable[[str], None]
) -> AsyncIterator[Testbed]:
    """Run a testbed for the length of the block; ends all its processes with the block."""
    async with AsyncExitStack() as stack:
        namespace, reason = None, "this run has no far clients"
        if plan.far:
            try:
                namespace = await stack.enter_async_context(open_namespace())
            except NamespaceUnavailable as error:
                reason = str(error)
        announce("starting Apache Kafka")
        broker = await stack.enter_async_context(apache_kafka(LIBS, directory))
        await create_topics(broker.bootstrap, tuple(TOPICS.values()), PARTITIONS)
        announce(f"starting {plan.instances} instances")
        instances = await stack.enter_async_context(
            run_instances([{"KAFKA_BROKERS": broker.bootstrap}] * plan.instances, directory)
        )
        balancer = None
        targets = [instance.port for instance in instances]
        if (program := find_haproxy()) is not None:
            ports = [(instance.name, instance.port, instance.ops_port) for instance in instances]
            hosts = [namespace.near] if namespace is not None else []
            balancer = await stack.enter_async_context(haproxy(program, directory, ports, hosts))
            targets = [balancer.port]
        proxy, wire_port = await stack.enter_async_context(open_fault_proxy(targets))
        urls = {"proxy": f"ws://{LOOPBACK}:{wire_port}/ws"}
        urls["direct"] = urls["proxy"]
        if balancer is not None:
            urls["direct"] = f"ws://{LOOPBACK}:{balancer.port}/ws"
            if namespace is not None:
                urls["far"] = f"ws://{namespace.near}:{balancer.port}/ws"
        yield Testbed(broker, instances, balancer, proxy, namespace, reason, urls)
