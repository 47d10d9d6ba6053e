"""`python -m tests.chaos --cluster`: break three brokers, and see whether anybody lost anything."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
import trio

from odin_ws.testing.cluster import apache_cluster
from tests.chaos.cluster import faults
from tests.chaos.cluster.course import FULL, Outcome, run_course
from tests.chaos.cluster.faults import Fault
from tests.chaos.cluster.report import as_markdown
from tests.integration.cluster import PASSWORD, USER, Cluster

__all__ = ["run"]

LIBS: Final = Path(__file__).parents[2] / "apache_kafka" / "libs"

# The cleaner looks every 15 s by default, and the retention every 5 minutes.
CONFIG: Final = {"log.cleaner.backoff.ms": "500", "log.retention.check.interval.ms": "1000"}


async def _run(chosen: Sequence[Fault], directory: Path) -> Outcome:
    began = trio.current_time()

    def say(text: str) -> None:
        click.echo(f"{trio.current_time() - began:6.1f} s  {text}", err=True)

    say("starting three brokers")
    home = directory / "brokers"
    async with apache_cluster(LIBS, home, config=CONFIG, users={USER: PASSWORD}) as nodes:
        return await run_course(Cluster(nodes), chosen, FULL, directory, say)


def run(only: Sequence[str], keep: Path | None, *, markdown: bool) -> int:
    """Do the faults of these names, all of them without any; returns the exit status.

    Raises:
        click.UsageError: there is no fault of a name.
    """
    known = {fault.name: fault for fault in faults.ALL}
    if unknown := set(only) - known.keys():
        raise click.UsageError(f"no fault {', '.join(unknown)}: there are {', '.join(known)}")
    chosen = [fault for name, fault in known.items() if not only or name in only]
    with tempfile.TemporaryDirectory(prefix="odin-chaos-") as scratch:
        directory = keep or Path(scratch)
        directory.mkdir(parents=True, exist_ok=keep is None)
        outcome = trio.run(_run, chosen, directory)
    click.echo(as_markdown(outcome), err=not markdown)
    for problem in outcome.problems:
        click.echo(problem, err=True)
    return 0 if outcome.good else 1
