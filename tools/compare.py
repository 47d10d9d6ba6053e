"""Measures an earlier version and this one in turns, with the same bench commands.

    .venv/bin/python tools/compare.py REVISION [ROW…] [--rounds N] [--minutes M]

The revision is checked out to `build/`, and runs with this checkout's environment, so it may need
no library that is missing there; a short run of each version checks that first. Each row is a name
of `ROWS`, or the arguments of `odin-ws bench` in quotes. Each version uses its own load.

Each run's figures are printed as soon as it has ended, and the medians at the end of a row. A run
that fails, or takes longer than `--minutes`, is shown as failed, and the next one begins. Exit
status 1 if a run has failed.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

import attrs
import click
import orjson

__all__ = ["ROWS", "BenchFailed", "Version", "compare", "rows_of"]

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

# The path of each figure in a run's JSON; older versions may lack a figure.
FIGURES: Final[Mapping[str, str]] = {
    "p50": "latency.p50",
    "p99": "latency.p99",
    "CPU us": "cpu_us",
    "CPU %": "cpu_percent",
    "messages/s": "delivered",
    "connects/s": "connects",
    "connect us": "connect_us",
    "KB/conn": "idle_kb",
    "back s": "back_seconds",
}

# A short run. The first run of a version compiles its load generator.
_SHORT_RUN: Final = "steady --connections 10 --rate 10 --seconds 0.5 --warmup 0.2"
_TRIES: Final = 2

# Seconds of a usual run: the broker's start, connecting, measuring.
_USUAL_SECONDS: Final = 45.0

# Seconds for a benchmark to stop its broker, server and load after SIGINT.
_STOP_SECONDS: Final = 20.0

_TOLD_LINES: Final = 3

Figures = Mapping[str, Any]
"""The figures of one run, as `odin-ws bench --json` writes them."""


class BenchFailed(Exception):
    """A bench command returned no figures; the message says why."""


@attrs.frozen
class Version:
    """A version of the project."""

    name: str
    root: Path
    """The directory of the version's sources."""

    def check(self, seconds: float = 60) -> None:
        """Run `--help`, which imports the benchmark's libraries.

        Raises:
            BenchFailed: a library is missing.
        """
        self._run(["--help"], seconds)

    def prepare(self, seconds: float) -> None:
        """Carry out a short run, which compiles the load generator.

        Compiling takes 15 s of CPU, on a busy machine longer than the timeout of a start; a second
        try uses the code compiled so far.

        Raises:
            BenchFailed: broker, server or load do not start on this machine.
        """
        for left in reversed(range(_TRIES)):
            try:
                self.measure(shlex.split(_SHORT_RUN), seconds)
            except BenchFailed:
                if not left:
                    raise
            else:
                return

    def measure(self, arguments: Sequence[str], seconds: float) -> Sequence[Figures]:
        """Carry out one bench command; returns its runs. Raises BenchFailed."""
        with tempfile.TemporaryDirectory(prefix="compare-") as folder:
            json = Path(folder, "figures.json")
            try:
                self._run([*arguments, "--json", str(json)], seconds)
            except BenchFailed:
                # A run with lost messages also writes figures, which are invalid.
                json.unlink(missing_ok=True)
                raise
            runs: Sequence[Figures] = orjson.loads(json.read_bytes())["runs"]
        return runs

    def _run(self, arguments: Sequence[str], seconds: float) -> None:
        command = [sys.executable, "-m", "odin_ws", "bench", *arguments]
        environment = os.environ | {"PYTHONPATH": str(self.root / "src")}
        with (
            tempfile.TemporaryFile() as errors,
            subprocess.Popen(  # noqa: S603 -- the project's own program
                command,
                cwd=ROOT,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            ) as process,
        ):
            try:
                status = process.wait(seconds)
            except subprocess.TimeoutExpired:
                raise BenchFailed(f"not finished after {seconds:.0f} s") from None
            finally:
                _end(process)
            if status:
                errors.seek(0)
                told = errors.read().decode(errors="replace").strip().splitlines()
                raise BenchFailed("\n".join(told[-_TOLD_LINES:]) or f"exit status {status}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a benchmark and all its child processes, which are in one session."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def checked_out(revision: str) -> Iterator[Version]:
    """Check out the revision in a new worktree; remove the worktree after the block."""
    git = ["git", "-C", str(ROOT)]
    show = [*git, "rev-parse", "--short", "--verify", "--quiet", f"{revision}^{{commit}}"]
    found = subprocess.run(show, check=False, capture_output=True, text=True)  # noqa: S603
    if found.returncode:
        raise click.ClickException(f"there is no revision {revision}")
    name = found.stdout.strip()
    where = ROOT / "build" / f"before-{name}"
    remove = [*git, "worktree", "remove", "--force", str(where)]
    # An interrupted comparison may have left it behind.
    subprocess.run(remove, check=False, capture_output=True)  # noqa: S603
    add = [*git, "worktree", "add", "--quiet", "--detach", "--force", str(where), name]
    subprocess.run(add, check=True)  # noqa: S603
    try:
        yield Version(f"before ({name})", where)
    finally:
        subprocess.run(remove, check=True)  # noqa: S603


def rows_of(names: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """Return the bench arguments of rows by name; all rows without names."""
    return {name: shlex.split(ROWS.get(name, name)) for name in names or ROWS}


def value(run: Figures, path: str) -> float | None:
    """Return a figure of a run; None if the run lacks the figure."""
    found: Any = run
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, int | float) else None


def _line(name: str, label: str, rounds: Sequence[Figures]) -> str:
    """Return the medians of some rounds of a run, in columns."""
    cells = []
    for path in FIGURES.values():
        numbers = [one for run in rounds if (one := value(run, path)) is not None]
        cells.append(f"{median(numbers):12,.2f}" if numbers else f"{'-':>12}")
    return f"  {name:18}{label:16}{''.join(cells)}"


def _head() -> str:
    return f"  {'':34}" + "".join(f"{name:>12}" for name in FIGURES)


def compare(
    versions: Sequence[Version], rows: Mapping[str, Sequence[str]], rounds: int, seconds: float
) -> list[str]:
    """Measure and print; returns the failed runs.

    Args:
        versions: the versions, measured in turns.
        rows: the arguments of bench commands, by name.
        rounds: the number of rounds of each row.
        seconds: timeout of each bench command.
    """
    failed: list[str] = []
    left, took = len(rows) * rounds * len(versions), list[float]()
    click.echo(f"{left} runs, about {left * _USUAL_SECONDS / 60:.0f} minutes")
    for row, arguments in rows.items():
        click.echo(f"\n{row}: odin-ws bench {shlex.join(arguments)}\n{_head()}")
        measured: dict[str, list[Sequence[Figures]]] = {version.name: [] for version in versions}
        for number in range(rounds):
            for version in versions:
                began = time.monotonic()
                try:
                    runs = version.measure(arguments, seconds)
                except BenchFailed as error:
                    failed.append(f"{row}, round {number + 1}, {version.name}")
                    click.echo(f"  {version.name:18}failed: {error}")
                else:
                    measured[version.name].append(runs)
                    for run in runs:
                        click.echo(_line(version.name, run["label"], [run]))
                took.append(time.monotonic() - began)
                left -= 1
        _summarize(measured)
        if left:
            click.echo(f"  {left} runs left, about {left * median(took) / 60:.0f} minutes")
    return failed


def _summarize(measured: Mapping[str, Sequence[Sequence[Figures]]]) -> None:
    """Print the medians of a row's rounds."""
    if max(map(len, measured.values())) < 2:  # noqa: PLR2004 -- one round is its own median
        return
    click.echo("  median")
    for name, rounds in measured.items():
        for several in zip(*rounds, strict=False):
            click.echo(_line(name, several[0]["label"], several))


@click.command(help=__doc__)
@click.argument("revision")
@click.argument("rows", nargs=-1)
@click.option("--rounds", type=click.IntRange(1), default=2, show_default=True)
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    default=6,
    show_default=True,
    help="Time limit of each run.",
)
def main(revision: str, rows: Sequence[str], *, rounds: int, minutes: float) -> None:
    """Measure and print."""
    with checked_out(revision) as before:
        versions = [before, Version("now", ROOT)]
        for version in versions:
            try:
                version.check()
                version.prepare(60 * minutes)
            except BenchFailed as error:
                raise click.ClickException(f"{version.name} does not run here: {error}") from None
        failed = compare(versions, rows_of(rows), rounds, 60 * minutes)
    if failed:
        raise click.ClickException("failed: " + "; ".join(failed))


if __name__ == "__main__":
    main()
