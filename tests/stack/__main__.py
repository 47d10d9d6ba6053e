"""`make stack`: the deployment of compose/ as plain processes on this machine, until Ctrl-C."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import click
import trio

from odin_ws.exception_groups import leaves
from odin_ws.testing.brokers import BrokerFailed, BrokerUnavailable
from odin_ws.testing.ports import LOOPBACK, is_free
from tests.chaos import plan
from tests.chaos.faults import ROLLING
from tests.chaos.haproxy import HAProxyFailed
from tests.chaos.instances import Instance, InstanceFailed
from tests.chaos.processes import WorkerFailed
from tests.chaos.publisher import Mismatch
from tests.chaos.run import run_faults
from tests.chaos.testbed import LIBS
from tests.signals import run
from tests.stack.course import FASTER, RATE, SETTINGS, alerts_fire_and_resolve, panels_without_data
from tests.stack.prometheus import PrometheusFailed
from tests.stack.stack import Options, Stack, StackUnavailable, open_stack

# An instance that was killed stays away for as long: the alert of a dead one needs a minute. One
# that has drained starts at once, as in a rolling restart.
AWAY_SECONDS: Final = 90

# Errors after which a run has no outcome.
NO_RUN: Final = (
    BrokerFailed,
    BrokerUnavailable,
    HAProxyFailed,
    InstanceFailed,
    Mismatch,
    PrometheusFailed,
    StackUnavailable,
    WorkerFailed,
    trio.TooSlowError,
)


@click.command()
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=3002,
    show_default=True,
    help="HAProxy's port for subscribers.",
)
@click.option(
    "--prometheus-port",
    type=click.IntRange(1, 65535),
    default=9090,
    show_default=True,
    help="Prometheus' port.",
)
@click.option("--rate", type=float, default=50, show_default=True, help="Events per second.")
@click.option(
    "--apache/--embedded",
    default=any(LIBS.glob("kafka_*.jar")),
    help="The broker: Apache Kafka if its jars are here. The other one gets slower by the hour.",
)
@click.option("--course", is_flag=True, help="The long test: rolling restart, then alerts.")
@click.option(
    "--clients",
    type=click.IntRange(1),
    default=500,
    show_default=True,
    help="Clients of the rolling restart, with --course.",
)
def main(  # noqa: PLR0913 -- an argument for each option
    *, port: int, prometheus_port: int, rate: float, apache: bool, course: bool, clients: int
) -> None:
    """Run a broker, a publisher, three instances behind HAProxy, and Prometheus with the rules.

    With --course: exit status 0 if nothing was lost and each alert fired and was resolved, else 1;
    2 if the run had no outcome.
    """
    with tempfile.TemporaryDirectory(prefix="odin-stack-") as directory:
        if course:
            sys.exit(_carry_out(partial(_course, Path(directory), clients)))
        for one, option in ((port, "--port"), (prometheus_port, "--prometheus-port")):
            if not is_free(one):
                raise click.ClickException(f"port {one} is in use: choose another with {option}")
        options = Options(apache=apache, rate=rate, port=port, prometheus_port=prometheus_port)
        sys.exit(_carry_out(partial(_serve, options, Path(directory))))


async def _serve(options: Options, directory: Path) -> int:
    """Run the stack until SIGINT or SIGTERM."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_show, options, directory)
            async for _ in signals:
                break
            nursery.cancel_scope.cancel()
    return 0


async def _show(options: Options, directory: Path) -> None:
    async with open_stack(options, directory, click.echo) as stack, trio.open_nursery() as nursery:
        click.echo("\n".join(_addresses(stack, directory)))
        for instance in stack.instances:
            nursery.start_soon(restart_forever, stack, instance)


async def restart_forever(stack: Stack, instance: Instance) -> None:
    """Start an instance again whenever it has ended; a killed one late enough for its alert."""
    while True:
        status = await instance.ended()
        seconds = AWAY_SECONDS if status else 0
        click.echo(f"{instance.name} ended with status {status}; it starts in {seconds} s")
        await trio.sleep(seconds)
        try:
            await stack.back(instance)
        except trio.TooSlowError:
            # Whoever tries both steps stops the broker too: the instance waits for it.
            click.echo(f"{instance.name} runs, process {instance.pid}, and is not ready yet")
        else:
            click.echo(f"{instance.name} serves again, process {instance.pid}")


def _addresses(stack: Stack, directory: Path) -> list[str]:
    one, broker = stack.instances[0].pid, stack.broker.pid
    return [
        "",
        f"WebSocket    {stack.url}",
        f"Prometheus   http://{LOOPBACK}:{stack.prometheus.port}/alerts",
        f"HAProxy      http://{LOOPBACK}:{stack.balancer.stats_port}/",
        f"Kafka        {stack.broker.bootstrap}",
        *(
            f"{instance.name:12} http://{LOOPBACK}:{instance.ops_port}/ (process {instance.pid})"
            for instance in stack.instances
        ),
        f"logs         {directory}",
        "",
        f"follow             .venv/bin/odin-ws tail --url {stack.url} --channels '*.trade'",
        f"restart one        kill {one}         it drains; its clients resume at the others",
        f"see no hole        Try it on a page of the instances, with {stack.url} as WebSocket",
        f"kill it            kill -9 {one}      OdinWsInstanceDown after a minute",
        f"stop the broker    kill -STOP {broker}   OdinWsFeedStalled; kill -CONT {broker}",
        "end                Ctrl-C",
    ]


async def _course(directory: Path, clients: int) -> int:
    """The long form of tests/stack/test_stack.py."""
    began = trio.current_time()

    def announce(text: str) -> None:
        click.echo(f"{trio.current_time() - began:6.1f} s  {text}")

    size = attrs.evolve(plan.FULL.of(clients), far=0, proxied=0)
    outcome = await run_faults(size, [ROLLING], directory, announce)
    announce(f"{outcome.assessment.expected} messages expected, {dict(outcome.assessment.counts)}")
    for problem in outcome.assessment.problems:
        announce(problem)
    alerts = directory / "alerts"
    alerts.mkdir()
    options = Options(apache=True, rate=RATE, faster=FASTER, interval=1, settings=SETTINGS)
    async with open_stack(options, alerts, announce) as stack:
        await alerts_fire_and_resolve(stack, announce)
        empty = await panels_without_data(stack)
    announce(f"panels without data: {', '.join(empty) or 'none'}")
    return 0 if outcome.assessment.good and not outcome.left and not empty else 1


def _carry_out(perform: Callable[[], Awaitable[int]]) -> int:
    """Return the exit status of `perform`; 2, with the reason, if the run had no outcome."""
    reasons: list[str] = []
    status = 2
    try:
        status = run(perform)
    except* NO_RUN as errors:
        reasons += [str(error) or type(error).__name__ for error in leaves(errors)]
    for reason in reasons:
        click.echo(reason, err=True)
    return status


if __name__ == "__main__":
    main()
