"""Runs a tool that starts processes: SIGTERM and SIGINT end the processes and the tool."""

from __future__ import annotations

import signal
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from types import FrameType
from typing import NoReturn, TypeVar

import trio

__all__ = ["exit_on_sigterm", "run"]

T = TypeVar("T")

# A shell's status of a program that a signal ended.
_SIGNALLED = 128


def run(main: Callable[..., Awaitable[T]], *args: object) -> T:
    """Run an async function as trio.run does; SIGTERM and SIGINT cancel it.

    Without this SIGTERM, the signal of `timeout`, ends the tool at once: its servers go on, and
    its directories stay. Raises SystemExit after a signal.
    """
    return trio.run(partial(_cancel_on_signal, main), *args)


async def _cancel_on_signal(main: Callable[..., Awaitable[T]], *args: object) -> T:
    results: list[T] = []
    received: list[int] = []

    async def wait(scope: trio.CancelScope) -> None:
        async for number in signals:
            received.append(number)
            scope.cancel()

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, nursery.cancel_scope)
            results.append(await main(*args))
            nursery.cancel_scope.cancel()
    if not results:
        sys.exit(_SIGNALLED + received[0])
    return results[0]


def exit_on_sigterm() -> None:
    """Let SIGTERM raise SystemExit, in a tool that does not run Trio."""
    signal.signal(signal.SIGTERM, _exit)


def _exit(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(_SIGNALLED + number)
