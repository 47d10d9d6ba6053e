"""`python -m tests.chaos --cluster`: injects faults into three brokers, and checks all clients."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
import trio

from odin_ws.testing.cluster import apache_cluster
from tests import signals
from tests.chaos.cluster import faults
from tests.chaos.cluster.faults import Fault
from tests.chaos.cluster.report import as_markdown
from tests.chaos.cluster.run import FULL, Outcome, run_faults
from tests.integration.cluster import PASSWORD, USER, Cluster

__all__ = ["run"]

LIBS: Final = Path(__file__).parents[2] / "apache_kafka" / "libs"

# By default the log cleaner runs every 15 s, and retention every 5 minutes.
CONFIG: Final = {"log.cleaner.backoff.ms": "500", "log.retention.check.interval.ms": "1000"}


async def _run(chosen: Sequence[Fault], directory: Path) -> Outcome:
    began = trio.current_time()

    def announce(text: str) -> None:
        click.echo(f"{trio.current_time() - began:6.1f} s  {text}", err=True)

    announce("starting three brokers")
    home = directory / "brokers"
    async with apache_cluster(LIBS, home, config=CONFIG, users={USER: PASSWORD}) as nodes:
        return await run_faults(Cluster(nodes), chosen, FULL, directory, announce)


def run(only: Sequence[str], keep: Path | None, *, markdown: bool) -> int:
    """Inject the named faults, or all of them without names; return the exit status.

    Raises:
        click.UsageError: a name is unknown.
    """
    known = {fault.name: fault for fault in faults.ALL}
    if unknown := set(only) - known.keys():
        raise click.UsageError(f"no fault {', '.join(unknown)}: there are {', '.join(known)}")
    chosen = [fault for name, fault in known.items() if not only or name in only]
    with tempfile.TemporaryDirectory(prefix="odin-chaos-") as scratch:
        directory = keep or Path(scratch)
        directory.mkdir(parents=True, exist_ok=keep is None)
        outcome = signals.run(_run, chosen, directory)
    click.echo(as_markdown(outcome), err=not markdown)
    for problem in outcome.problems:
        click.echo(problem, err=True)
    return 0 if outcome.good else 1
