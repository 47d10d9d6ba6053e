"""Functions that numba compiles: what is done for each message runs at the speed of C.

They are compiled at their first call and kept on disk, so only the first run ever waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

__all__ = ["compiled", "compiled_here"]

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile a function that takes numbers and arrays."""
    return cast("F", numba.njit(function, cache=True))


def compiled_here(function: F) -> F:
    """Compile one that calls libc: the addresses differ each time, so it cannot be kept."""
    return cast("F", numba.njit(function))
