"""`odin-ws version`: prints the version."""

from __future__ import annotations

import json
import platform

import click

from odin_ws import __version__
from odin_ws.cli.examples import examples

__all__ = ["version"]


@click.command(epilog=examples(("For a program", "odin-ws version --json")))
@click.option("--json", "as_json", is_flag=True, help="Print the versions as JSON.")
def version(as_json: bool) -> None:  # noqa: FBT001 -- a flag
    """Print the version."""
    if as_json:
        click.echo(json.dumps({"odin-ws": __version__, "python": platform.python_version()}))
    else:
        click.echo(f"odin-ws {__version__}")
