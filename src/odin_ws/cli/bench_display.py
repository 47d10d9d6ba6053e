"""The output of `odin-ws bench`: progress bar and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from odin_ws.bench import report
from odin_ws.bench.cases import Case, Measured
from odin_ws.bench.results import Measurement
from odin_ws.cli.command_runner import write_stderr
from odin_ws.cli.tables import print_table

__all__ = ["open_progress", "print_cases", "print_problems", "print_runs"]


@contextmanager
def open_progress() -> Iterator[Callable[[str, float | None], None]]:
    """Show progress: a bar on a terminal, a line per step in a pipe."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Steps().show
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    # Refreshed by `show` only: rich's automatic refresh would start a thread.
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as bar:
        task = bar.add_task("", total=1.0)

        def show(what: str, share: float | None) -> None:
            bar.update(task, description=what, completed=share or 0.0, refresh=True)

        yield show


class _Steps:
    """Prints each step once."""

    def __init__(self) -> None:
        self._shown = ""

    def show(self, what: str, _share: float | None) -> None:
        if what != self._shown:
            self._shown = what
            write_stderr(what)


def print_runs(title: str, measured: Sequence[Measured]) -> None:
    """Print all quantities of the runs, side by side."""
    runs = [case.server for case in measured]
    baselines = [baseline for case in measured for baseline in case.baselines]
    rows = report.rows(runs, baselines)
    headings = [title, *(run.label for run in (*runs, *baselines))]
    print_table(headings, rows, [""] * len(rows))


def print_cases(cases: Sequence[tuple[Case, Sequence[Measured]]]) -> None:
    """Print the figures of each case beside their limits."""
    rows, styles = [], []
    for case, measured in cases:
        for number, figure in enumerate(case.figures):
            value, reached = figure.value(measured), figure.reached(measured)
            rows.append(
                [
                    "" if number else case.name,
                    figure.name,
                    "" if value is None else figure.form.format(value),
                    "" if number else report.costs(measured[-1].server, measured[-1].baselines),
                    figure.limit,
                    {True: "yes", False: "no", None: ""}[reached],
                ]
            )
            styles.append("red" if reached is False else "")
    headings = [
        "case",
        "figure",
        "measured",
        "CPU per message: here, baseline",
        "target",
        "reached",
    ]
    print_table(headings, rows, styles)


def print_problems(runs: Sequence[Measurement]) -> None:
    """Print to stderr: warnings about the measurement, and errors such as lost messages."""
    for run in runs:
        for line in report.warnings(run):
            write_stderr(line, fg="yellow")
        for line in report.problems(run):
            write_stderr(line, fg="red")
