"""C functions as arguments of compiled functions."""

from __future__ import annotations

import ctypes
from typing import Any

import numba.experimental.function_type  # noqa: F401 -- makes numba take a CFunction
from numba.core.types import WrapperAddressProtocol

__all__ = ["CFunction"]


class CFunction(WrapperAddressProtocol):
    """A C function that numba accepts as an argument (its WrapperAddressProtocol).

    As a global, its address, which differs in each process, would be part of the compiled code.
    """

    def __init__(self, function: Any, signature: Any) -> None:
        self._address = ctypes.cast(function, ctypes.c_void_p).value or 0
        self._signature = signature
        # Keeps the library loaded as long as its function exists.
        self._function = function

    def __wrapper_address__(self) -> int:
        """Return its address."""
        return self._address

    def signature(self) -> Any:
        """The numba signature."""
        return self._signature
