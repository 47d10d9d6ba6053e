"""`python -m tests.chaos`: injects faults under 500 clients; none may lose a record."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import click
import trio
from rich.console import Console

from odin_ws.exception_groups import leaves
from odin_ws.testing.brokers import BrokerFailed, BrokerUnavailable
from tests.chaos import faults, plan
from tests.chaos.cluster import command as cluster_command
from tests.chaos.faults import Fault
from tests.chaos.haproxy import HAProxyFailed, find_haproxy
from tests.chaos.instances import InstanceFailed
from tests.chaos.processes import WorkerFailed
from tests.chaos.publisher import Mismatch
from tests.chaos.report import as_markdown, show
from tests.chaos.run import Outcome, run_faults

T = TypeVar("T")


class Interrupted(Exception):
    """Ctrl-C or SIGTERM."""


# Errors after which a run has no outcome.
NO_RUN = (
    BrokerUnavailable,
    BrokerFailed,
    HAProxyFailed,
    InstanceFailed,
    WorkerFailed,
    Mismatch,
    Interrupted,
    trio.TooSlowError,
)


class NoRun(click.ClickException):
    """The run had no outcome, for this reason; exit status 2."""

    exit_code = 2


async def _run(size: plan.Plan, chosen: list[Fault], directory: Path, console: Console) -> Outcome:
    began = trio.current_time()

    def announce(text: str) -> None:
        console.print(f"{trio.current_time() - began:6.1f} s  {text}", markup=False)

    outcomes: list[Outcome] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_on_signal, nursery.cancel_scope)
        outcomes.append(await run_faults(size, chosen, directory, announce))
        nursery.cancel_scope.cancel()
    if not outcomes:
        raise Interrupted("interrupted")
    return outcomes[0]


async def _cancel_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()


@click.command()
@click.option("--clients", type=click.IntRange(1), default=plan.FULL.clients, show_default=True)
@click.option("--only", multiple=True, help="A fault, by its name; several times for several.")
@click.option("--markdown", is_flag=True, help="Print the report for docs/reliability.md.")
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder that does not exist yet, for logs and journals; they are deleted otherwise.",
)
@click.option("--cluster", is_flag=True, help="The course over three brokers, with its faults.")
def _main(
    *, clients: int, only: tuple[str, ...], markdown: bool, keep: Path | None, cluster: bool
) -> None:
    """Run Kafka, three instances behind HAProxy, a publisher and clients; inject faults in turn.

    Exit status: 0 if nothing was lost, 1 if something was lost, 2 if the run had no outcome.
    """
    if cluster:
        sys.exit(_or_no_run(partial(cluster_command.run, only, keep, markdown=markdown)))
    if find_haproxy() is None:
        raise NoRun("HAProxy is missing: install the package `haproxy`")
    names = {fault.name: fault for fault in faults.ALL}
    if unknown := set(only) - names.keys():
        raise NoRun(f"no fault {', '.join(unknown)}: there are {', '.join(names)}")
    chosen = [fault for name, fault in names.items() if not only or name in only]
    console = Console(stderr=True)
    with _run_directory(keep) as directory:
        outcome = _outcome(partial(_run, plan.FULL.of(clients), chosen, directory, console))
    if markdown:
        click.echo(as_markdown(outcome.assessment, outcome.windows))
    show(console, outcome.assessment, outcome.windows)
    console.print(f"connections left after the clients: {outcome.left}")
    sys.exit(0 if outcome.assessment.good and not outcome.left else 1)


@contextmanager
def _run_directory(keep: Path | None) -> Iterator[Path]:
    """Return the directory for all files of the run."""
    if keep is not None:
        keep.mkdir(parents=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="odin-chaos-") as directory:
        yield Path(directory)


def _outcome(perform: Callable[[], Awaitable[Outcome]]) -> Outcome:
    return _or_no_run(lambda: trio.run(perform))


def _or_no_run(perform: Callable[[], T]) -> T:
    """Return the result of `perform`. Raises NoRun after one of the errors in NO_RUN."""
    reasons: list[str] = []
    outcomes: list[T] = []
    try:
        outcomes.append(perform())
    except* NO_RUN as errors:
        reasons += [str(error) or type(error).__name__ for error in leaves(errors)]
    # Raised outside of `except*`, which would wrap the error in a group unknown to click.
    if reasons:
        raise NoRun("\n".join(reasons))
    return outcomes[0]


if __name__ == "__main__":
    _main()
