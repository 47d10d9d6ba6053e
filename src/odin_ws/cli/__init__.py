"""The `odin-ws` command; each subcommand has a file of its own."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

__all__ = ["main"]

# In the order of `odin-ws --help`. Each is a module here, with a command of the same name.
_COMMANDS: Final = (
    "serve",
    "config",
    "topics",
    "publish",
    "tail",
    "demo",
    "bench",
    "conformance",
    "version",
)


class _LazyGroup(click.Group):
    """Imports a command when it is used: the server's libraries alone take half a second."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- click's signature
        """The names of all commands."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of that name, None where there is none."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"{__name__}.{cmd_name}"), cmd_name)
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Fan Kafka topics out to WebSocket subscribers."""
