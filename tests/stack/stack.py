"""The stack: a broker, a publisher, three instances behind HAProxy, Prometheus with the rules."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import attrs
import trio

from odin_ws.testing.brokers import ApacheKafka, Broker, apache_kafka, embedded_broker
from odin_ws.testing.ports import LOOPBACK
from odin_ws.testing.processes import ChildProcess
from tests.chaos.haproxy import HAProxy, find_haproxy, haproxy
from tests.chaos.instances import Instance, program, run_instances
from tests.chaos.testbed import LIBS
from tests.deploy.queries import RULES
from tests.integration.kafka import create_topics
from tests.stack.prometheus import Prometheus, Scraping, find_prometheus, run_prometheus
from tests.stack.rules import shortened

__all__ = ["Options", "Stack", "StackUnavailable", "open_stack"]

INSTANCES: Final = 3


class StackUnavailable(RuntimeError):
    """This machine lacks a program; the message names its package."""


@attrs.frozen
class Options:
    """Options of a stack.

    `apache`: Apache Kafka instead of the embedded broker. `rate`: published events per second.
    `faster`: the divisor for the times of the alert rules. `interval`: seconds between two scrapes.
    `port`, `prometheus_port`: of HAProxy and Prometheus, or any free ones. `settings`: of the
    instances, beside those of the tests.
    """

    apache: bool = False
    rate: float = 50
    faster: float = 1
    interval: float = 5
    port: int | None = None
    prometheus_port: int | None = None
    settings: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class Stack:
    """The running parts of the stack."""

    broker: Broker | ApacheKafka
    instances: list[Instance]
    balancer: HAProxy
    prometheus: Prometheus

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"ws://{LOOPBACK}:{self.balancer.port}/ws"

    async def back(self, instance: Instance) -> None:
        """Start an instance, and wait until HAProxy sends new connections to it."""
        await instance.start()
        await self.balancer.sends_to([instance.name])


@asynccontextmanager
async def open_stack(
    options: Options, directory: Path, announce: Callable[[str], None]
) -> AsyncIterator[Stack]:
    """Run the stack for the length of the block; everything that it starts ends with it.

    Raises:
        StackUnavailable: HAProxy or Prometheus is missing.
    """
    balancer, watcher = find_haproxy(), find_prometheus()
    if balancer is None or watcher is None:
        raise StackUnavailable(
            "HAProxy or Prometheus is missing: install Debian's packages haproxy and prometheus"
        )
    async with AsyncExitStack() as stack:
        announce("starting Apache Kafka" if options.apache else "starting the embedded broker")
        broker: Broker | ApacheKafka
        if options.apache:
            broker = await stack.enter_async_context(apache_kafka(LIBS, directory))
        else:
            broker = await stack.enter_async_context(embedded_broker())
        await create_topics(broker.bootstrap)
        announce(f"starting {INSTANCES} instances, HAProxy and Prometheus")
        settings = {"KAFKA_BROKERS": broker.bootstrap, **options.settings}
        instances = await stack.enter_async_context(
            run_instances([settings] * INSTANCES, directory)
        )
        ports = [(instance.name, instance.port, instance.ops_port) for instance in instances]
        proxy = await stack.enter_async_context(
            haproxy(balancer, directory, ports, port=options.port)
        )
        targets = {
            "odin-ws": [f"{LOOPBACK}:{instance.ops_port}" for instance in instances],
            "haproxy": [f"{LOOPBACK}:{proxy.stats_port}"],
        }
        rules = shortened(RULES.read_text("utf-8"), options.faster)
        scraping = Scraping(targets, rules, options.interval)
        prometheus = await stack.enter_async_context(
            run_prometheus(watcher, directory, scraping, options.prometheus_port)
        )
        await stack.enter_async_context(_publisher(options, broker, directory))
        yield Stack(broker, instances, proxy, prometheus)


@asynccontextmanager
async def _publisher(
    options: Options, broker: Broker | ApacheKafka, directory: Path
) -> AsyncIterator[None]:
    """Publish events as `odin-ws publish` does."""
    command = [str(Path(sys.executable).with_name("odin-ws")), "publish", "--rate"]
    environ = {"KAFKA_BROKERS": broker.bootstrap}
    process = ChildProcess(program([*command, str(options.rate)], environ), directory / "publisher")
    try:
        await process.start()
        yield
    finally:
        with trio.CancelScope(shield=True):  # bounded by the kernel's work after SIGKILL
            await process.kill()
