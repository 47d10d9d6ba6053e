"""Runs a command until it ends or a signal comes; errors become one line and an exit status."""

from __future__ import annotations

import gc
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import click
import structlog
import trio

from odin_ws.cli.failures import CommandFailed, InvalidConfiguration, OutputClosed
from odin_ws.exception_groups import leaves
from odin_ws.exit_signals import exit_signals
from odin_ws.pause_clock import PauseClock

__all__ = [
    "CommandFailed",
    "InvalidConfiguration",
    "OutputClosed",
    "cancel_on_signal",
    "drain_on_signals",
    "run",
    "say",
    "tune_garbage_collector",
    "write_line",
]


log = structlog.get_logger("odin_ws.cli")

# Exit status of a command that a signal interrupted.
_INTERRUPTED: Final = 1


def run(command: Callable[[], Awaitable[int]]) -> int:
    """Run `command` under Trio; returns its exit status, 0 if the reader of its output is gone.

    SIGINT and SIGTERM cancel the command unless it receives signals itself.
    CommandFailed leaves the exception groups of the nurseries.
    """
    failures: list[BaseException] = []
    status = 0
    exit_signals.when = "while it was starting or ending"
    gc.enable()  # disabled while modules were imported
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
    # Opened first: a command that opens its own signal receiver replaces this one.
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


async def drain_on_signals(
    stop: trio.Event,
    scope: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Drain on SIGINT or SIGTERM: the first signal sets `stop`, the second cancels `scope`.

    It has started once it receives signals: before, a signal would end the command at once.
    """
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            log.info("signal", name=signal.Signals(number).name)
            exit_signals.status = _INTERRUPTED
            if stop.is_set():
                scope.cancel()
            stop.set()


async def cancel_on_signal(scope: trio.CancelScope) -> None:
    """Cancel `scope` on SIGINT or SIGTERM, for commands with nothing to drain."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            exit_signals.status = _INTERRUPTED
            scope.cancel()


def write_line(text: str) -> None:
    """Print a line to stdout, unbuffered. Raises OutputClosed and OutputFailed."""
    try:
        click.echo(text)
    except BrokenPipeError as error:
        raise OutputClosed from error


def say(text: str, **style: Any) -> None:
    """Print a progress line to stderr, in click's `style` on a terminal."""
    click.secho(text, err=True, **style)


def tune_garbage_collector() -> None:
    """Freeze the objects loaded so far; collect after 50,000 allocations instead of 700.

    A full collection walks the objects of every connection and blocks the event loop meanwhile.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    gc.enable()
