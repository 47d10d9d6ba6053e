"""Runs a command until it ends or a signal comes; errors become one line and an exit status."""

from __future__ import annotations

import gc
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import click
import trio

from odin_ws.cli.failures import CommandFailed, InvalidConfiguration, OutputClosed
from odin_ws.early_exit import early_exit
from odin_ws.exception_groups import leaves
from odin_ws.pause_clock import PauseClock

__all__ = [
    "CommandFailed",
    "InvalidConfiguration",
    "OutputClosed",
    "run",
    "tune_garbage_collector",
    "write_line",
    "write_stderr",
]


def run(command: Callable[[], Awaitable[int]]) -> int:
    """Run `command` under Trio; returns its exit status, 0 if the reader of its output is gone.

    SIGINT and SIGTERM cancel the command unless it receives signals itself. A CommandFailed is
    raised without the exception groups of nurseries.
    """
    failures: list[BaseException] = []
    status = 0
    early_exit.when = "while it was starting or ending"
    gc.enable()  # was disabled while modules were imported
    try:
        status = trio.run(_until_signalled, command, clock=PauseClock())
    except* CommandFailed as group:
        failures.extend(leaves(group))
    except* OutputClosed:
        status = 0
    early_exit.status = status
    if failures:
        raise failures[0]
    return status


async def _until_signalled(command: Callable[[], Awaitable[int]]) -> int:
    # Opened first: a command that opens its own signal receiver replaces this one.
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_on, signals, nursery.cancel_scope)
            early_exit.status = await command()
            nursery.cancel_scope.cancel()
    return early_exit.status


async def _cancel_on(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for number in signals:
        if not scope.cancel_called:
            write_stderr(f"odin-ws: stopped by {signal.Signals(number).name}")
        scope.cancel()


def write_line(text: str) -> None:
    """Print a line to stdout, unbuffered. Raises OutputClosed and OutputFailed."""
    try:
        click.echo(text)
    except BrokenPipeError as error:
        raise OutputClosed from error


def write_stderr(text: str, **style: Any) -> None:
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
