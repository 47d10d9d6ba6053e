"""Functions that numba compiles, so that the work per message runs at the speed of C.

numba compiles a function at its first call and caches the code on disk: only the first run waits.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numba
import numba.experimental.function_type
import numpy as np
from numba.core.types import WrapperAddressProtocol
from numpy.typing import NDArray

__all__ = ["CFunction", "compiled", "compiled_here", "find", "integer", "is_at"]

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile a function that takes numbers and arrays."""
    return cast("F", numba.njit(function, cache=True))


def compiled_here(function: F) -> F:
    """Compile a function that calls libc: addresses differ per process, so it is not cached."""
    return cast("F", numba.njit(function))


class CFunction(WrapperAddressProtocol):
    """A C function that numba accepts as an argument (its WrapperAddressProtocol).

    As a global, its address, which differs in each process, would be part of the compiled code.
    """

    def __init__(self, function: Any, signature: Any) -> None:
        self._address = ctypes.cast(function, ctypes.c_void_p).value or 0
        self._signature = signature
        # Keeps the library loaded while its function exists.
        self._function = function

    def __wrapper_address__(self) -> int:
        """Return the address of the function."""
        return self._address

    def signature(self) -> Any:
        """The numba signature of the function."""
        return self._signature


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
