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

__all__ = ["CFunction", "compiled", "compiled_here", "compiled_like", "find", "integer", "is_at"]

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile a function that takes numbers and arrays."""
    return cast("F", numba.njit(function, cache=True))


def compiled_here(function: F) -> F:
    """Compile a function that calls libc: addresses differ per process, so it is not cached."""
    return cast("F", numba.njit(function))


def compiled_like(function: F, *arguments: object) -> F:
    """Return a compiled function for calls with arguments of these types, and no others.

    numba otherwise finds out the types at each call: 1 ms for a tuple of 30 arrays, during which
    the load process reads no messages.
    """
    dispatcher = cast("Any", function)
    types = tuple(map(numba.typeof, arguments))
    dispatcher.compile(types)
    return cast("F", dispatcher.overloads[types].entry_point)


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
def integer(text: Bytes, at: int) -> tuple[int, int]:
    """Return the number at `at` and the position after it; past the end if there is none."""
    begin = at
    value = 0
    while at < len(text) and _DIGIT_0 <= text[at] <= _DIGIT_9:
        value = value * 10 + int(text[at]) - _DIGIT_0
        at += 1
    return value, (at if at > begin else len(text) + 1)


@compiled
def find(text: Bytes, at: int, wanted: Bytes) -> int:
    """Return the position after the next `wanted`; past the end if there is none."""
    while at + len(wanted) <= len(text):
        if is_at(text, at, wanted):
            return at + len(wanted)
        at += 1
    return len(text) + 1


@compiled
def is_at(text: Bytes, at: int, wanted: Bytes) -> bool:
    """Return whether `wanted` is at a position."""
    if at + len(wanted) > len(text):
        return False
    for number in range(len(wanted)):  # noqa: SIM110 -- numba has no generators in all()
        if text[at + number] != wanted[number]:
            return False
    return True
