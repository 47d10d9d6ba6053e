"""`python -m tests.chaos.cluster`: break three brokers, and see whether anybody lost anything."""

from __future__ import annotations

import sys
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


@click.command()
@click.option("--only", multiple=True, help="A fault, by its name; several times for several.")
@click.option("--markdown", is_flag=True, help="Print the report for docs/reliability.md.")
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder that does not exist yet, for logs; they are deleted otherwise.",
)
def main(*, only: tuple[str, ...], markdown: bool, keep: Path | None) -> None:
    """Run three brokers, two instances, a publisher and clients; break each thing in turn.

    Exit status: 0 when nothing was lost, 1 when something was, 2 when there was no run.
    """
    known = {fault.name: fault for fault in faults.ALL}
    if unknown := set(only) - known.keys():
        raise click.UsageError(f"no fault {', '.join(unknown)}: there are {', '.join(known)}")
    chosen = [fault for name, fault in known.items() if not only or name in only]
    with tempfile.TemporaryDirectory(prefix="odin-chaos-") as scratch:
        directory = keep or Path(scratch)
        directory.mkdir(parents=True, exist_ok=keep is None)
        outcome = trio.run(_run, chosen, directory)
    report = as_markdown(outcome)
    click.echo(report, err=not markdown)
    for problem in outcome.problems:
        click.echo(problem, err=True)
    sys.exit(0 if outcome.good else 1)


if __name__ == "__main__":
    main()
