"""Measures an earlier version and this one in turns, with the same bench commands.

    .venv/bin/python tools/compare.py REVISION [ROW…] [--rounds N] [--baseline]

The revision is checked out to `build/`, and runs with this checkout's environment: it may need no
library that is missing there. Each row is a name of `ROWS`, or the arguments of `odin-ws bench` in
quotes. Of several rounds the median is shown; each version uses its own load.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

import attrs
import click
import orjson

ROOT: Final = Path(__file__).resolve().parent.parent

ROWS: Final[Mapping[str, str]] = {
    "1,000 x 20/s": "steady --rate 20 --seconds 8 --warmup 2",
    "1,000 x 100/s": "steady --rate 100 --seconds 8 --warmup 2",
    "1,000 x 100/s, rate 0": "steady --rate 100 --broadcast-rate 0 --seconds 8 --warmup 2",
    "12,000 x 20/s": "steady --connections 12000 --connect-rate 3000 --rate 20 --warmup 4",
    "connects": "connect",
    "idle": "idle --seconds 10",
    "storm": "storm",
}

# By name the value of a run; a version may not have it.
FIGURES: Final[Mapping[str, str]] = {
    "p50": "latency.p50",
    "p99": "latency.p99",
    "CPU us": "cpu_us",
    "CPU %": "cpu_percent",
    "messages/s": "delivered",
    "connects/s": "connects",
    "KB/conn": "idle_kb",
    "back s": "back_seconds",
}


@attrs.frozen
class Version:
    """A version of the project, by name, and where its sources are."""

    name: str
    root: Path

    def measure(self, arguments: Sequence[str], json: Path) -> list[Mapping[str, Any]]:
        """Carry out one bench command; returns its runs, none if it failed."""
        command = [sys.executable, "-m", "odin_ws", "bench", *arguments, "--json", str(json)]
        environment = os.environ | {"PYTHONPATH": str(self.root / "src")}
        done = subprocess.run(  # noqa: S603 -- the project's own program
            command, cwd=ROOT, env=environment, check=False, capture_output=True
        )
        if done.returncode:
            click.echo(done.stderr.decode(errors="replace"), err=True)
        if not json.exists():
            return []
        runs: list[Mapping[str, Any]] = orjson.loads(json.read_bytes())["runs"]
        return runs


@contextmanager
def checked_out(revision: str) -> Iterator[Version]:
    """The revision in a worktree of its own, which is removed afterwards."""
    git = ["git", "-C", str(ROOT)]
    show = [*git, "rev-parse", "--short", f"{revision}^{{commit}}"]
    name = subprocess.run(show, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603
    where = ROOT / "build" / f"before-{name}"
    subprocess.run([*git, "worktree", "add", "--detach", "--force", str(where), name], check=True)  # noqa: S603
    try:
        yield Version(f"before ({name})", where)
    finally:
        subprocess.run([*git, "worktree", "remove", "--force", str(where)], check=True)  # noqa: S603


def value(run: Mapping[str, Any], path: str) -> float | None:
    """A figure of a run; None if there is none of that name."""
    found: Any = run
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, int | float) else None


def show(row: str, measured: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]) -> None:
    """Print one row's figures, by run and version."""
    click.echo(f"\n{row}")
    names = [
        run["label"] for run in next((runs for many in measured.values() for runs in many), [])
    ]
    for place, name in enumerate(names):
        click.echo(f"  {name:16}" + "".join(f"{head:>12}" for head in FIGURES))
        for version, rounds in measured.items():
            cells = []
            for path in FIGURES.values():
                found = [value(runs[place], path) for runs in rounds if place < len(runs)]
                numbers = [one for one in found if one is not None]
                cells.append(f"{median(numbers):12,.2f}" if numbers else f"{'-':>12}")
            click.echo(f"  {version:16}" + "".join(cells))


@click.command(help=__doc__)
@click.argument("revision")
@click.argument("rows", nargs=-1)
@click.option("--rounds", type=click.IntRange(1), default=2, show_default=True)
@click.option("--baseline", is_flag=True, help="With the bare send loop before and after each run.")
def main(revision: str, rows: Sequence[str], *, rounds: int, baseline: bool) -> None:
    """Measure and print."""
    more = ["--baseline"] if baseline else []
    with checked_out(revision) as before, tempfile.TemporaryDirectory() as folder:
        versions = [before, Version("now", ROOT)]
        for row in rows or ROWS:
            measured: dict[str, list[list[Mapping[str, Any]]]] = {one.name: [] for one in versions}
            for number in range(rounds):
                for version in versions:
                    arguments = [*shlex.split(ROWS.get(row, row)), *more]
                    json = Path(folder, f"{len(measured)}-{number}-{version.root.name}.json")
                    json.unlink(missing_ok=True)
                    click.echo(f"{row}, round {number + 1}: {version.name}", err=True)
                    runs = version.measure(arguments, json)
                    if runs:
                        measured[version.name].append(list(runs))
            show(row, measured)


if __name__ == "__main__":
    main()
