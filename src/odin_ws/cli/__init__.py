"""The `odin-ws` command; each subcommand has its own file."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import Any, Final

import click

from odin_ws.cli.examples import examples
from odin_ws.cli.failures import InvalidConfiguration

__all__ = ["main"]

# In the order of `odin-ws --help`. Each module of this name has a command of the same name.
_COMMANDS: Final = (
    "serve",
    "check",
    "config",
    "catalogue",
    "topics",
    "publish",
    "tail",
    "demo",
    "bench",
    "conformance",
    "completion",
    "version",
)


class _LazyGroup(click.Group):
    """Imports a command's module on use: the server's libraries alone take half a second."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- click's signature
        """Return the names of all commands."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return the command `cmd_name`, or None if there is none."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"{__name__}.{cmd_name}"), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command, or raise an error that names similar commands.

        click's own error names only loaded commands.
        """
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            similar = get_close_matches(args[0], _COMMANDS, 1)
            if not similar:
                raise
            raise click.UsageError(
                f"No such command '{args[0]}'. Did you mean '{similar[0]}'?", ctx
            ) from error

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Return the context of the parsed options; an invalid option raises a one-line error."""
        try:
            return super().make_context(*args, **extra)
        except click.UsageError as error:
            raise _in_one_line(error) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Parse the command's arguments and run it; an invalid argument raises a one-line error."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            raise _in_one_line(error) from error


def _in_one_line(error: click.UsageError) -> click.ClickException:
    """Return the error as every other error looks: one line, which names the command's help.

    A group without a command prints its help instead, as click does.
    """
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return error
    path = "odin-ws" if error.ctx is None else error.ctx.command_path
    message = " ".join(error.format_message().split()).removesuffix(".")
    end = "" if message.endswith("?") else "."
    return InvalidConfiguration(f"{message}{end} See: {path} --help")


def _print_version(context: click.Context, _option: click.Parameter, given: bool) -> None:  # noqa: FBT001 -- click's signature
    if given and not context.resilient_parsing:
        import odin_ws  # noqa: PLC0415 -- reading the version takes 40 ms

        click.echo(f"odin-ws {odin_ws.__version__}")
        context.exit()


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        ("Broker, publisher, server and client on this machine, without Kafka", "odin-ws demo"),
        ("Serve the topics of a Kafka cluster", "KAFKA_BROKERS=localhost:9092 odin-ws serve"),
        ("Print every trade", "odin-ws tail --channels '*.trade'"),
    ),
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version.",
)
def main() -> None:
    """Deliver the records of Kafka topics to WebSocket subscribers.

    Settings are environment variables; `odin-ws config` prints them.
    `odin-ws COMMAND --help` describes a command. `python -m odin_ws` is the same program.
    """
