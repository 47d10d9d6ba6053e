"""C functions as arguments of compiled ones."""

from __future__ import annotations

import ctypes
from typing import Any

import numba.experimental.function_type  # noqa: F401 -- makes numba take a CFunction
from numba.core.types import WrapperAddressProtocol

__all__ = ["CFunction"]


class CFunction(WrapperAddressProtocol):
    """A C function, as numba takes one for an argument (its WrapperAddressProtocol).

    As a global its address, another one in each process, would be part of the compiled code.
    """

    def __init__(self, function: Any, signature: Any) -> None:
        self._address = ctypes.cast(function, ctypes.c_void_p).value or 0
        self._signature = signature
        # The library stays as long as its function.
        self._function = function

    def __wrapper_address__(self) -> int:
        """Where it is."""
        return self._address

    def signature(self) -> Any:
        """What it takes and returns."""
        return self._signature
