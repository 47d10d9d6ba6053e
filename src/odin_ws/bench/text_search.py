"""Finds fields and numbers in JSON text, in compiled code."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from odin_ws.bench.jit import compiled

__all__ = ["find", "integer", "is_at"]

Bytes = NDArray[np.uint8]

_DIGIT_0: Final = 48
_DIGIT_9: Final = 57


@compiled
def integer(text: Bytes, place: int) -> tuple[int, int]:
    """Return the number at `place` and the position after it; past the end if there is none."""
    begin = place
    value = 0
    while place < len(text) and _DIGIT_0 <= text[place] <= _DIGIT_9:
        value = value * 10 + int(text[place]) - _DIGIT_0
        place += 1
    return value, (place if place > begin else len(text) + 1)


@compiled
def find(text: Bytes, place: int, wanted: Bytes) -> int:
    """Return the position after the next `wanted`; past the end if there is none."""
    while place + len(wanted) <= len(text):
        if is_at(text, place, wanted):
            return place + len(wanted)
        place += 1
    return len(text) + 1


@compiled
def is_at(text: Bytes, place: int, wanted: Bytes) -> bool:
    """Return whether `wanted` is at a position."""
    if place + len(wanted) > len(text):
        return False
    for number in range(len(wanted)):  # noqa: SIM110 -- numba has no generators in all()
        if text[place + number] != wanted[number]:
            return False
    return True
