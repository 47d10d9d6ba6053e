"""`odin-ws config`: the effective settings and where each comes from."""

from __future__ import annotations

import os

import click
from rich.console import Console
from rich.table import Table

from odin_ws.cli.environment import read_settings
from odin_ws.settings import declared_settings

__all__ = ["config"]


@click.command()
def config() -> None:
    """Print every setting: its value, unit, where it comes from, and what it does."""
    settings = read_settings(lambda line: click.echo(line, err=True))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("setting", "value", "unit", "from", "what it does"):
        table.add_column(heading, overflow="fold")
    for field, setting in declared_settings():
        given = bool(os.environ.get(setting.name, "").strip())
        table.add_row(
            setting.name,
            _text(getattr(settings, field)),
            setting.unit,
            "environment" if given else "default",
            setting.help,
        )
    console = Console()
    # In a pipe every setting is one line: a narrow default width would fold it.
    console.print(table, width=None if console.is_terminal else 200)


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case tuple() if not hasattr(value, "port"):
            return ",".join(value)
        case float():
            return f"{value:g}"
        case _:
            return str(value)
