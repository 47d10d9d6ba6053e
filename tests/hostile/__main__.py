"""`make hostile`: measures good clients alone, then beside hostile clients, then beside them again.

Good clients check every message; the second measurement beside hostile clients shows whether memory
grows. With --churn or --names there are no good clients, and the run measures memory.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Final, TypeVar

import attrs
import click
import psutil
import trio
from confluent_kafka import Producer

from odin_ws.bench.broker import create_topics, open_broker
from odin_ws.bench.processes import RunEnvironment
from odin_ws.bench.results import Measurement
from odin_ws.bench.run import measure
from odin_ws.bench.server import Cores, Target, pinned
from odin_ws.bench.workload import Run
from odin_ws.testing.ports import LOOPBACK
from odin_ws.testing.processes import ChildProcess
from tests import signals
from tests.hostile.churn import churn, report_churn
from tests.hostile.kinds import CHANNELS, PROXIED, PROXY, forged_forwarded
from tests.hostile.names import SETTINGS, report_names, subscribe_names
from tests.hostile.registry import KINDS, ON_OPS_PORT
from tests.hostile.verdicts import Outcome, ServerState, report
from tests.integration.servers import Server, serving

__all__ = ["main"]

T = TypeVar("T")

_LIBS: Final = Path(__file__).parent.parent / "apache_kafka" / "libs"

_FLUSH_SECONDS: Final = 30
_VALUE: Final = b'{"type":"TRADE_EXECUTED","timestamp":0,"data":"%b"}' % (b"x" * 280)

# The server closes the last hostile connections after a pong time-out and a round of pings.
_CALM_SECONDS: Final = 15
_SETTINGS: Final = {
    "WS_PING_INTERVAL_SECONDS": "5",
    "WS_PONG_TIMEOUT_SECONDS": "11",
    "WS_TRUSTED_PROXIES": PROXY,
}


@attrs.frozen
class _Course:
    server: Server
    target: Target
    brokers: str
    place: RunEnvironment
    run: Run
    bad: int
    kinds: Sequence[str]

    async def all(self) -> Outcome:
        """Measure alone, beside hostile clients, and beside them again."""
        alone = await self._measure("alone")
        states = [await self._state_at_rest()]
        beside = []
        for label in ("beside bad ones", "once more"):
            async with self._crowd():
                beside.append(await self._measure(label))
            await trio.sleep(_CALM_SECONDS)
            states.append(await self._state_at_rest())
        # As crowd.py divides them.
        visits = [KINDS[kind] for _, kind in zip(range(self.bad), cycle(self.kinds or KINDS))]
        return Outcome(
            alone,
            beside,
            states,
            await self._counts(),
            self.server.output,
            proxied=visits.count(forged_forwarded) * PROXIED,
            on_ops_port=sum(visit in ON_OPS_PORT for visit in visits),
        )

    async def _measure(self, label: str) -> Measurement:
        return await measure(
            attrs.evolve(self.run, label=label), self.target, self.brokers, self.place
        )

    async def _state_at_rest(self) -> ServerState:
        active = int(await self.server.metric("ws_connections_active"))
        return ServerState(self.target.usage().rss, active)

    async def _counts(self) -> dict[str, dict[str, int]]:
        """Counts of rejections and disconnections by reason."""
        text = (await self.server.get("/metrics")).text
        return {
            "rejected": _by_reason(text, "ws_connections_failed_total"),
            "closed": _by_reason(text, "ws_disconnects_total"),
            "rejected on the ops port": _by_reason(text, "ws_ops_requests_rejected_total"),
            "errors": {"ws_errors_total": int(await self.server.metric("ws_errors_total"))},
        }

    @asynccontextmanager
    async def _crowd(self) -> AsyncIterator[None]:
        command = [
            sys.executable,
            "-m",
            "tests.hostile.crowd",
            str(self.server.port),
            str(self.server.ops_port),
            str(self.bad),
            *self.kinds,
        ]
        log = self.place.directory / "crowd.log"
        crowd = ChildProcess([*pinned(self.place.cores.others), *command], log)
        await crowd.start()
        try:
            yield
            if not crowd.running:
                raise click.ClickException(f"the hostile clients have ended:\n{crowd.tail()}")
        finally:
            with trio.CancelScope(shield=True):
                await crowd.kill()


def _by_reason(text: str, name: str) -> dict[str, int]:
    found = {}
    for line in text.splitlines():
        if line.startswith(name + "{"):
            labels, _, value = line.partition("} ")
            if count := int(float(value)):
                found[labels.partition('reason="')[2].partition('"')[0]] = count
    return found


def _publish(brokers: str) -> None:
    """Publish a message to each channel, so that snapshots have contents."""
    producer = Producer({"bootstrap.servers": brokers, "queue.buffering.max.messages": 100_000})
    for token, topic in CHANNELS:
        producer.produce(topic, _VALUE, token.encode())
    if producer.flush(_FLUSH_SECONDS):
        raise click.ClickException("the broker does not accept the messages")


async def _run(  # noqa: PLR0913 -- the options
    *, good: int, bad: int, rate: float, seconds: float, log: Path, kinds: Sequence[str]
) -> Outcome:
    cores = Cores.split()
    run = Run("good", connections=good, rate=rate, warmup=5, seconds=seconds)
    with tempfile.TemporaryDirectory(prefix="odin-ws-hostile-") as name:
        directory = Path(name)
        async with open_broker(None, _LIBS, directory) as (brokers, called):
            await create_topics(brokers)
            await trio.to_thread.run_sync(_publish, brokers)
            async with serving(brokers, _SETTINGS) as server:
                for core in psutil.Process(server.process.pid).threads():
                    os.sched_setaffinity(core.id, cores.server or os.sched_getaffinity(0))
                target = Target(LOOPBACK, server.port, "/ws", (server.process.pid,))
                place = RunEnvironment(directory, cores, 1, _ignore_progress)
                click.echo(f"{good} good clients at {rate:g}/s, {bad} hostile clients, {called}")
                click.echo(f"the server is process {server.process.pid}")
                try:
                    outcome = await _Course(server, target, brokers, place, run, bad, kinds).all()
                finally:
                    await trio.Path(log).write_text(server.output, "utf-8")
                server.signal(signal.SIGTERM)
                await server.ended()
                return outcome


async def _alone(course: Callable[[Server], Awaitable[T]], settings: Mapping[str, str]) -> T:
    """Run a course against a server without records."""
    with tempfile.TemporaryDirectory(prefix="odin-ws-hostile-") as name:
        async with open_broker(None, _LIBS, Path(name)) as (brokers, called):
            await create_topics(brokers)
            async with serving(brokers, settings) as server:
                click.echo(f"the server is process {server.process.pid}, with {called}")
                found = await course(server)
                server.signal(signal.SIGTERM)
                await server.ended()
                return found


def _ignore_progress(_what: str, _share: float | None) -> None:
    pass


@click.command(help=__doc__)
@click.option("--good", default=1000, show_default=True, help="clients that check every message")
@click.option(
    "--bad", default=2000, show_default=True, help="hostile clients of all kinds together"
)
@click.option(
    "--rate", default=50.0, show_default=True, help="messages per second to each good client"
)
@click.option("--seconds", default=15.0, show_default=True, help="duration of each measurement")
@click.option("--churn", "visits", default=0, help="instead: open and close this many connections")
@click.option(
    "--names", "clients", default=0, help="instead: this many clients with 1,024 names each"
)
@click.option(
    "--log",
    default="hostile.log",
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="file for the log of the server",
)
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(list(KINDS)),
    help="hostile clients of this kind only (repeatable)",
)
def main(  # noqa: PLR0913 -- an option each
    *,
    good: int,
    bad: int,
    rate: float,
    seconds: float,
    visits: int,
    clients: int,
    log: Path,
    kinds: Sequence[str],
) -> None:
    """Run it; the exit status is 1 if a promise is broken."""
    if visits:
        churned = signals.run(_alone, partial(churn, visits=visits), {})
        _finish(report_churn(churned), churned.broken)
    elif clients:
        names = signals.run(_alone, partial(subscribe_names, clients=clients), SETTINGS)
        _finish(report_names(names), names.broken)
    else:
        run = partial(_run, good=good, bad=bad, rate=rate, seconds=seconds, log=log, kinds=kinds)
        outcome = signals.run(run)
        _finish(report(outcome), outcome.broken)


def _finish(lines: Iterable[str], broken: Sequence[str]) -> None:
    for line in lines:
        click.echo(line)
    if broken:
        click.echo("BROKEN: " + "; ".join(broken))
        sys.exit(1)


if __name__ == "__main__":
    main()
