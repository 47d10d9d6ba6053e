"""Functions that numba compiles, so that the work per message runs at the speed of C.

They are compiled at their first call and cached on disk, so only the first run waits for that.
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
    """Compile a function that calls libc: addresses differ per process, so it is not cached."""
    return cast("F", numba.njit(function))
