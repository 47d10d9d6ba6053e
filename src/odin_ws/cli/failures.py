"""The errors that end a command with one line and an exit status."""

from __future__ import annotations

from typing import IO, Any

import click

from odin_ws.cli.printable import printable

__all__ = ["CommandFailed", "InvalidConfiguration", "OutputClosed", "OutputFailed"]


class CommandFailed(click.ClickException):
    """Ends the command with exit status 1 and this line."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line to stderr, or to `file`."""
        # The text may be of a server, a broker or a file.
        lines = "\n".join(map(printable, self.format_message().split("\n")))
        click.echo(f"odin-ws: {lines}", err=True, file=file)


class InvalidConfiguration(CommandFailed):
    """Ends the command with exit status 2: settings or options must be corrected."""

    exit_code = 2


class OutputFailed(CommandFailed):
    """Writing to standard output or a file failed, for example because the disk is full."""

    def __init__(self, where: str, error: OSError) -> None:
        super().__init__(f"{where}: {error.strerror or error}")


class OutputClosed(Exception):
    """The reader of standard output has closed it, as `head` does."""
