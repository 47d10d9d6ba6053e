"""The report of a run, for a terminal and for docs/reliability.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table

from tests.chaos.assess import Assessment, Row, Window
from tests.chaos.journal import HEARTBEAT, LOST

__all__ = ["as_markdown", "show"]

HEAD: Final = (
    "fault",
    "lasted",
    "closes",
    "replayed",
    "without data: half of the clients",
    "99%",
    "worst",
)
_CODES: Final = {HEARTBEAT: "own heartbeat", LOST: "1006"}

# Maximum number of problems shown.
PROBLEMS_SHOWN: Final = 20


def cells(row: Row) -> list[str]:
    """Return the cells of one row."""
    return [
        row.window.fault,
        _seconds(row.window.fault_seconds),
        _closes(row.closes),
        f"{row.replayed:,}",
        _seconds(row.silence(0.5)),
        _seconds(row.silence(0.99)),
        _seconds(row.silence(1)),
    ]


def _closes(closes: Mapping[int, int]) -> str:
    return ", ".join(
        f"{count} x {_CODES.get(code, str(code))}" for code, count in sorted(closes.items())
    )


def _seconds(value: float) -> str:
    return f"{value:.1f} s"


def _totals(found: Assessment) -> str:
    return ", ".join(f"{name} {count}" for name, count in found.counts.items())


def _scale(found: Assessment) -> str:
    return (
        f"{found.records:,} records, {found.clients} clients, "
        f"{found.expected:,} messages to be received"
    )


def _skipped(windows: Sequence[Window]) -> Iterator[str]:
    return (f"{window.fault}: skipped, {window.skipped}" for window in windows if window.skipped)


def as_markdown(found: Assessment, windows: Sequence[Window]) -> str:
    """Return the report as a part of a page."""
    rows = [HEAD, ["---"] * len(HEAD), *(cells(row) for row in found.rows)]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    notes = "".join(f"\n- {line}" for line in _skipped(windows))
    return f"{table}\n\n{_scale(found)}: {_totals(found)}.\n{notes}"


def show(console: Console, found: Assessment, windows: Sequence[Window]) -> None:
    """Print the report on a terminal, with evidence for each problem."""
    table = Table(*HEAD, title=_scale(found))
    for row in found.rows:
        table.add_row(*cells(row))
    console.print(table)
    for line in _skipped(windows):
        console.print(line, markup=False, soft_wrap=True)
    for line in found.problems[:PROBLEMS_SHOWN]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if (more := len(found.problems) - PROBLEMS_SHOWN) > 0:
        console.print(f"and {more} more")
    word = "[green]green[/]" if found.good else "[red]red[/]"
    console.print(f"{word}: {_totals(found)}")
