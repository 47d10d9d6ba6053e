"""The errors that end a command with one line and an exit status."""

from __future__ import annotations

from typing import IO, Any

import click

__all__ = ["CannotBegin", "CommandFailed", "OutputClosed", "OutputFailed"]


class CommandFailed(click.ClickException):
    """Ends the command with exit status 1 and this one line, from whatever depth it is raised."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line to stderr, or to `file`."""
        click.echo(f"odin-ws: {self.format_message()}", err=True, file=file)


class CannotBegin(CommandFailed):
    """The same with exit status 2: settings have to be corrected first."""

    exit_code = 2


class OutputFailed(CommandFailed):
    """Standard output or a file cannot be written, as where the disk is full."""

    def __init__(self, where: str, error: OSError) -> None:
        super().__init__(f"{where}: {error.strerror or error}")


class OutputClosed(Exception):
    """The reader of the output has closed it, as `head` does."""
