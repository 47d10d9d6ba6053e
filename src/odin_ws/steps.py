"""Steps: generators that yield between pieces of work, so that it can be interrupted.

A step handles at most `STEP_ITEMS` names or patterns, or `STEP_MESSAGES` messages. Nothing is
awaited within a step, so a step is atomic; between two steps anything may happen.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, TypeVar

__all__ = ["STEP_ITEMS", "STEP_MESSAGES", "Steps", "finish"]

T = TypeVar("T")

Steps = Generator[None, None, T]

# One item takes 0.5 to 5 us: a step takes 0.3 ms at most.
STEP_ITEMS: Final = 64

# To take a message from history takes 0.5 us. What history has for a client of one token fits into
# one time slice: with 64, each client of a crowd waited for two turns more, and history moved on.
STEP_MESSAGES: Final = 256


def finish(steps: Steps[T]) -> T:
    """Carry out what is left of some work without an interruption; returns its result."""
    while True:
        try:
            next(steps)
        except StopIteration as ended:
            # The generator's own type says what it returns; StopIteration's value has none.
            result: T = ended.value
            return result
