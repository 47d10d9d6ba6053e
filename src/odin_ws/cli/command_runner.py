"""Runs a command until done or signalled; errors become one line and an exit status."""

from __future__ import annotations

import gc
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Final, TypeVar

import click
import structlog
import trio

from odin_ws.cli.failures import CannotBegin, CommandFailed, OutputClosed
from odin_ws.exit_signals import exit_signals
from odin_ws.pause_clock import PauseClock

__all__ = [
    "CannotBegin",
    "CommandFailed",
    "OutputClosed",
    "calm_garbage_collector",
    "cancel_on_signal",
    "leaves",
    "obey_signals",
    "run",
    "say",
    "write_line",
]


log = structlog.get_logger("odin_ws.cli")

# After a signal every end but that of the command itself is one that was cut short.
_CUT_SHORT: Final = 1

E = TypeVar("E", bound=BaseException)


def run(command: Callable[[], Awaitable[int]]) -> int:
    """Run `command` under Trio; returns its exit status, 0 where nobody reads its output any more.

    SIGINT and SIGTERM cancel it where it does not receive them itself. Raises CommandFailed alone,
    outside of the groups that nurseries make of it.
    """
    failures: list[BaseException] = []
    status = 0
    exit_signals.when = "while it was starting or ending"
    gc.enable()  # it was not needed while modules were loaded
    try:
        status = trio.run(_until_signalled, command, clock=PauseClock())
    except* CommandFailed as group:
        failures.extend(leaves(group))
    except* OutputClosed:
        status = 0
    exit_signals.status = status
    if failures:
        raise failures[0]
    return status


async def _until_signalled(command: Callable[[], Awaitable[int]]) -> int:
    # It is open before the command opens one of its own, which takes this one's place.
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_on, signals, nursery.cancel_scope)
            exit_signals.status = await command()
            nursery.cancel_scope.cancel()
    return exit_signals.status


async def _cancel_on(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for number in signals:
        if not scope.cancel_called:
            say(f"odin-ws: stopped by {signal.Signals(number).name}")
        scope.cancel()


async def obey_signals(stop: trio.Event, scope: trio.CancelScope) -> None:
    """SIGINT and SIGTERM: the first sets `stop`, the second cancels `scope`."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            log.info("signal", name=signal.Signals(number).name)
            exit_signals.status = _CUT_SHORT
            if stop.is_set():
                scope.cancel()
            stop.set()


async def cancel_on_signal(scope: trio.CancelScope) -> None:
    """SIGINT and SIGTERM cancel `scope`: for commands with nothing to drain."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            exit_signals.status = _CUT_SHORT
            scope.cancel()


def write_line(text: str) -> None:
    """Print a line to stdout at once. Raises OutputClosed when the reader is gone, OutputFailed."""
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


def calm_garbage_collector() -> None:
    """What is loaded now stays; and look for cycles less often than every 700 allocations.

    A full collection walks every connection's objects and holds up the loop meanwhile.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    gc.enable()
