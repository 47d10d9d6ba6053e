"""`odin-ws demo`: a broker, a publisher, the server and a client on this machine."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import attrs
import click
import trio
from rich.console import Console
from trio_util import AsyncValue

from odin_ws.address import Address
from odin_ws.assembly import kafka
from odin_ws.catalogue import Catalogue
from odin_ws.cli.command_runner import CommandFailed, run, write_line, write_stderr
from odin_ws.cli.demo_display import Display, open_display
from odin_ws.cli.environment import read_event_catalogue, read_settings
from odin_ws.cli.event_publisher import Pace, TokenCount, choose_tokens, publish_events
from odin_ws.cli.examples import examples
from odin_ws.cli.kafka_clients import open_producer
from odin_ws.cli.message_text import describe_end
from odin_ws.cli.printable import printable
from odin_ws.cli.setting_options import catalogue_option, overrides
from odin_ws.cli.signals import drain_on_signals
from odin_ws.cli.tally import Tally
from odin_ws.cli.topics import create_topics
from odin_ws.kafka.security import KafkaSecurity
from odin_ws.kafka.source_protocol import Source
from odin_ws.kafka.source_status import SourceState
from odin_ws.logs import configure_logging
from odin_ws.protocol.json_text import dump_json
from odin_ws.serve import serve
from odin_ws.settings import Settings
from odin_ws.testing.brokers import Broker, BrokerFailed, BrokerUnavailable, embedded_broker
from odin_ws.testing.events import EventGenerator
from odin_ws.testing.ports import LOOPBACK, is_free
from odin_ws_client import ClientError, Disconnected, Message, Subscribed, Subscription
from odin_ws_client.trio import Client, open_client

__all__ = ["demo"]

_PARTITIONS: Final = 12

# The embedded broker delays each fetch response by the maximum wait, even if records arrive.
_FETCH_WAIT_SECONDS: Final = 0.02

# 50 events per second to one client: collecting messages into one write would save nothing.
_BROADCAST_RATE: Final = {"WS_MAX_BROADCAST_RATE": "0"}

# From the start of the service to the first broker response: 0.1 s on an idle machine.
_LIVE_SECONDS: Final = 30

# Timeout for the last messages from the broker to the client.
_ARRIVE_SECONDS: Final = 5


@click.command(
    short_help="Run broker, publisher, server and client on this machine.",
    epilog=examples(
        ("Until Ctrl-C", "odin-ws demo"),
        ("500 events per second for 10 s", "odin-ws demo --rate 500 --seconds 10"),
        ("Two tokens, any free ports", "odin-ws demo --tokens BTC,ODIN --port 0 --ops-port 0"),
        ("Another domain", "odin-ws demo --catalogue examples/scores.toml"),
        ("For a program", "odin-ws demo --seconds 10 --json"),
    ),
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    help="Stop publishing after this time; default: at Ctrl-C.",
)
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    default=50,
    show_default=True,
    help="Events per second.",
)
@click.option(
    "--tokens",
    type=TokenCount(),
    help="Number of generated tokens, or their names; default: the catalogue's, else 6.",
)
@catalogue_option
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=3002,
    show_default=True,
    help="Port for subscribers; 0 for any free port.",
)
@click.option(
    "--ops-port",
    type=click.IntRange(0, 65535),
    default=3003,
    show_default=True,
    help="Port for health and metrics; 0 for any free port.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def demo(  # noqa: PLR0913, PLR0917 -- click gives each option as an argument
    seconds: float | None,
    rate: float,
    tokens: int | tuple[str, ...] | None,
    catalogue_file: str | None,
    port: int,
    ops_port: int,
    as_json: bool,  # noqa: FBT001 -- a flag
) -> None:
    """Run a broker, a publisher, the server and a client on this machine.

    The broker keeps its records in memory. The server is that of `odin-ws serve` on the loopback
    address, with the settings of the environment except for Kafka and the addresses.
    WS_MAX_BROADCAST_RATE is 0 by default: the server writes each event at once.
    """
    defaults = {name: value for name, value in _BROADCAST_RATE.items() if name not in os.environ}
    settings = attrs.evolve(
        read_settings(write_stderr, defaults | overrides(WS_CATALOGUE=catalogue_file)),
        kafka_assignment="all",
        ws_workers=1,  # the server runs in this process
        kafka_fetch_max_wait_seconds=_FETCH_WAIT_SECONDS,
        ws_addr=Address(LOOPBACK, port),
        ws_ops_addr=Address(LOOPBACK, ops_port),
        ws_max_kafka_rate=0,  # only --rate limits the events
        ws_drain_delay_seconds=0,  # there is no load balancer to wait for
    )
    catalogue = read_event_catalogue(settings)
    for address, option in ((settings.ws_addr, "--port"), (settings.ws_ops_addr, "--ops-port")):
        if not is_free(address.port):
            raise CommandFailed(f"port {address.port} is in use: choose another with {option}")
    events = EventGenerator(choose_tokens(tokens, catalogue), random.getrandbits(32), catalogue)
    pace = Pace(rate, None if seconds is None else max(1, round(rate * seconds)))
    sys.exit(run(partial(_run, settings, catalogue, events, pace, as_json=as_json)))


async def _run(
    settings: Settings, catalogue: Catalogue, events: EventGenerator, pace: Pace, *, as_json: bool
) -> int:
    stop = trio.Event()
    outcome = None
    with open_display(Console(), as_json=as_json) as display:
        # Configured inside the display, so that a log line does not break the live table.
        configure_logging("warning", "text")
        async with trio.open_nursery() as nursery:
            await nursery.start(drain_on_signals, stop, nursery.cancel_scope)
            display.note("starting the broker")
            async with _broker() as broker, trio.open_nursery() as watched:
                watched.start_soon(_watch, broker)
                settings = attrs.evolve(settings, kafka_brokers=(broker.bootstrap,))
                await create_topics(
                    KafkaSecurity(settings.kafka_brokers), catalogue, _PARTITIONS, 1
                )
                outcome = await _Demo(settings, catalogue, events, pace, display).run(stop)
                watched.cancel_scope.cancel()
            nursery.cancel_scope.cancel()
    if outcome is None:
        write_stderr("stopped at once by second signal", fg="red")
        return 1
    write_line(outcome.as_json() if as_json else str(outcome))
    return 0 if outcome.complete else 1


async def _watch(broker: Broker) -> None:
    """End the demo if the broker exits."""
    status = await broker.wait()
    raise CommandFailed(f"the broker exited with status {status}")


@attrs.frozen
class _Outcome:
    """Result of a demo: messages that the broker acknowledged, and those the client received."""

    published: int
    tally: Tally
    gaps: int

    @property
    def complete(self) -> bool:
        return self.tally.total == self.published and not self.gaps

    def __str__(self) -> str:
        tally = self.tally
        return (
            f"received {tally.total} of {self.published} messages, {tally.seen_types} of "
            f"{tally.known_types} event types, gaps {self.gaps}"
        )

    def as_json(self) -> str:
        """Return the last line of `--json`."""
        document = {
            "type": "result",
            "complete": self.complete,
            "received": self.tally.total,
            "published": self.published,
            "event_types": self.tally.seen_types,
            "known_event_types": self.tally.known_types,
            "gaps": self.gaps,
        }
        return dump_json(document).decode()


@asynccontextmanager
async def _broker() -> AsyncIterator[Broker]:
    try:
        async with embedded_broker() as broker:
            yield broker
    except (BrokerUnavailable, BrokerFailed) as error:
        raise CommandFailed(str(error)) from error


@attrs.define(eq=False)
class _Demo:
    """The server, its client and the tally of received messages."""

    settings: Settings
    catalogue: Catalogue
    events: EventGenerator
    pace: Pace
    display: Display
    tally: Tally = attrs.field(init=False)
    received: AsyncValue[int] = attrs.field(factory=lambda: AsyncValue(0))

    @property
    def security(self) -> KafkaSecurity:
        """The connection to the demo's own broker; ignores the Kafka settings."""
        return KafkaSecurity(self.settings.kafka_brokers)

    async def run(self, stop: trio.Event) -> _Outcome:
        """Publish until `stop` is set or the pace ends, then drain."""
        upstream = kafka(self.settings, self.catalogue, self.security)
        drain = trio.Event()
        async with trio.open_nursery() as nursery:
            addresses = await nursery.start(serve, self.settings, self.catalogue, upstream, drain)
            await _until_live(upstream.source)
            url = f"ws://{addresses.subscribers}/ws"
            self.display.begin(
                {
                    "console": f"http://{addresses.ops}/",
                    "Kafka": ",".join(self.settings.kafka_brokers),
                    "WebSocket": url,
                    "health": f"http://{addresses.ops}/health",
                    "metrics": f"http://{addresses.ops}/metrics",
                }
            )
            self.tally = Tally(self.catalogue, trio.current_time())
            everything = Subscription(channels=["*.*"])
            async with (
                open_client(url, everything, reconnect=False) as client,
                trio.open_nursery() as following,
            ):
                await following.start(self._follow, client, drain)
                async with self._displayed():
                    published = await self._publish(stop)
                drain.set()
        return _Outcome(published, self.tally, client.gaps)

    async def _publish(self, stop: trio.Event) -> int:
        """Publish, wait until the client has every message; returns the number acknowledged."""
        async with open_producer(self.security, self.catalogue.topics.keys()) as producer:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_on, stop, nursery.cancel_scope)
                await publish_events(producer, self.events, self.pace)
                nursery.cancel_scope.cancel()
            await producer.flush()
            with trio.move_on_after(_ARRIVE_SECONDS):
                await self.received.wait_value(lambda count: count >= producer.delivered)
            return producer.delivered

    async def _follow(
        self, client: Client, drain: trio.Event, *, task_status: trio.TaskStatus[None]
    ) -> None:
        """Count messages until the server closes the connection."""
        try:
            async for item in client:
                match item:
                    case Message():
                        self.tally.add(item, time.time_ns() // 1000)
                        self.received.value = self.tally.total
                    case Subscribed():
                        task_status.started()
                    case Disconnected():
                        self.display.note(describe_end(item))
        except ClientError as error:
            raise CommandFailed(printable(str(error))) from error
        if not drain.is_set():
            raise CommandFailed("the server closed the client's connection")

    @asynccontextmanager
    async def _displayed(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._show)
            yield
            nursery.cancel_scope.cancel()
        self.display.end(self.tally, self.tally.take_window(trio.current_time()))

    async def _show(self) -> None:
        while True:
            await trio.sleep(self.display.interval)
            self.display.show(self.tally, self.tally.take_window(trio.current_time()))


async def _until_live(source: Source) -> None:
    with trio.move_on_after(_LIVE_SECONDS):
        await source.status.state.wait_value(SourceState.LIVE)
        return
    raise CommandFailed(f"the server cannot read from the broker: {source.status.reason}")


async def _cancel_on(stop: trio.Event, scope: trio.CancelScope) -> None:
    await stop.wait()
    scope.cancel()
