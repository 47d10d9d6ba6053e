"""Prints tables: styled on a terminal, aligned in a pipe."""

from __future__ import annotations

from collections.abc import Sequence

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["print_table"]


def print_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str]
) -> None:
    """Print rows under headings to stdout; `styles` has a style of rich for each row."""
    console = Console()
    if not console.is_terminal:
        for line in _aligned([headings, *rows]):
            click.echo(line)
        return
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for number, heading in enumerate(headings[:-1]):
        # Only the last column wraps on a narrow terminal, so that names can be copied.
        width = max(len(row[number]) for row in (headings, *rows))
        table.add_column(heading, no_wrap=True, min_width=width)
    table.add_column(headings[-1])
    for row, style in zip(rows, styles, strict=True):
        # As Text: rich would parse brackets in a string as markup.
        table.add_row(*map(Text, row), style=style)
    console.print(table)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
