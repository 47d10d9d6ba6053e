"""How commands run, stop and fail: one clear line and an exit status, never a traceback."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import IO, Any, TypeVar

import click
import structlog
import trio

from odin_ws.clock import PauseClock

__all__ = [
    "CannotBegin",
    "CommandFailed",
    "OutputClosed",
    "cancel_on_signal",
    "ignore_hangups",
    "leaves",
    "obey_signals",
    "run",
    "say",
    "write_line",
]


log = structlog.get_logger("odin_ws.cli")

E = TypeVar("E", bound=BaseException)


class CommandFailed(click.ClickException):
    """Ends the command with exit status 1 and this one line, from whatever depth it is raised."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line to stderr, or to `file`."""
        click.echo(f"odin-ws: {self.format_message()}", err=True, file=file)


class CannotBegin(CommandFailed):
    """The same with exit status 2: settings have to be corrected first."""

    exit_code = 2


class OutputClosed(Exception):
    """Whoever read our output has had enough of it, as `head` does."""


def run(command: Callable[[], Awaitable[int]]) -> int:
    """Run `command` under Trio; returns its exit status, 0 where nobody reads its output any more.

    Raises CommandFailed alone, outside of the groups that nurseries make of it.
    """
    failures: list[BaseException] = []
    try:
        return trio.run(command, clock=PauseClock())
    except* CommandFailed as group:
        failures.extend(leaves(group))
    except* OutputClosed:
        # Python writes out what is left when it ends, and would report that this fails.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if failures:
        raise failures[0]
    return 0


def ignore_hangups() -> None:
    """From now on SIGHUP ends nothing, also where nobody waits for it: at the start and the end."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


async def obey_signals(stop: trio.Event, scope: trio.CancelScope) -> None:
    """SIGINT and SIGTERM: the first sets `stop`, the second cancels `scope`."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            log.info("signal", name=signal.Signals(number).name)
            if stop.is_set():
                scope.cancel()
            stop.set()


async def cancel_on_signal(scope: trio.CancelScope) -> None:
    """SIGINT and SIGTERM cancel `scope`: for commands with nothing to drain."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            scope.cancel()


def write_line(text: str) -> None:
    """Print a line to stdout at once. Raises OutputClosed when the reader is gone."""
    try:
        click.echo(text)
    except BrokenPipeError as error:
        raise OutputClosed from error


def say(text: str, **style: Any) -> None:
    """Print a line about the command's progress to stderr, in click's `style` on a terminal."""
    click.secho(text, err=True, **style)


def leaves(group: BaseExceptionGroup[E]) -> Iterator[E]:
    """The exceptions in a group, however deep."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error)
        else:
            yield error
