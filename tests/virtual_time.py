"""Trio with a clock that jumps, for property tests: each example is a run of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio
from trio.testing import MockClock

__all__ = ["in_virtual_time"]

T = TypeVar("T")


def in_virtual_time(main: Callable[[MockClock], Awaitable[T]]) -> T:
    """Run `main`, which gets the clock; waiting costs no time."""
    clock = MockClock(autojump_threshold=0)
    return trio.run(main, clock, clock=clock)
