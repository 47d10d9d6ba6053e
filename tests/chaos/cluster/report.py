"""The report of a run over three brokers, as Markdown for docs/reliability.md."""

from __future__ import annotations

from typing import Final

from tests.chaos.cluster.run import Outcome, Row

__all__ = ["as_markdown"]

HEAD: Final = (
    "fault",
    "what is done",
    "lasted",
    "closes",
    "losses reported",
    "longest without data",
)


def _cells(row: Row) -> list[str]:
    return [
        row.fault.name,
        row.fault.does,
        f"{row.lasted:.1f} s",
        str(row.closes),
        str(row.reported),
        f"{row.silence:.1f} s",
    ]


def as_markdown(outcome: Outcome) -> str:
    """Return the report as a part of a page."""
    rows = [HEAD, ["---"] * len(HEAD), *map(_cells, outcome.rows)]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    totals = ", ".join(f"{name} {count}" for name, count in outcome.counts.items())
    scale = (
        f"{outcome.records:,} records, {outcome.clients} clients, "
        f"{outcome.expected:,} messages to be received"
    )
    return f"{table}\n\n{scale}: {totals}."
