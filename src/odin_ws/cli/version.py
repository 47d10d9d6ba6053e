"""`odin-ws version`: prints the version."""

import click

from odin_ws import __version__

__all__ = ["version"]


@click.command()
def version() -> None:
    """Print the version."""
    click.echo(f"odin-ws {__version__}")
