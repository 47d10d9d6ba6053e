"""Estimates and releases memory that allocators keep after it was freed (malloc_trim)."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

__all__ = ["Allocator", "ReusableMemory"]

# Freed bytes from which malloc_trim is called: it takes some milliseconds, 0.1 ms per MB.
_TRIM_BYTES: Final = 16 << 20

# Smaller values are noise of the estimate.
_MIN_BYTES: Final = 16 << 20

# The size of an object of Python's allocator, between an integer and a name of 128 bytes. As long
# as few have been allocated since the start, the smaller size counts: an estimate too low only
# rejects clients.
_BLOCK_BYTES: Final = (48, 160)
_MIN_BLOCKS: Final = 100_000


class _MallInfo(ctypes.Structure):
    """glibc's `struct mallinfo2`; only the bytes in use are read."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


class Allocator:
    """The C library's allocator; statistics need glibc 2.33 or later."""

    def __init__(self, library: ctypes.CDLL | None = None) -> None:
        library = ctypes.CDLL(None) if library is None else library
        self._info = getattr(library, "mallinfo2", None)
        self._trim = getattr(library, "malloc_trim", None)
        if self._info is not None:
            self._info.restype = _MallInfo

    @property
    def in_use(self) -> int:
        """Return the bytes that were allocated and not freed; 0 if unknown."""
        if self._info is None:
            return 0
        info = self._info()
        return int(info.uordblks) + int(info.hblkhd)

    def trim(self) -> None:
        """Return freed pages to the system if the library can."""
        if self._trim is not None:
            self._trim(0)


class ReusableMemory:
    """Estimates how much of the resident memory is free within the allocators.

    glibc returns freed pages to the system on request. Python's allocator, for objects of up to 512
    bytes, returns an arena of 1 MiB only if all of it is free: one remaining object among thousands
    of a client's keeps it. After 399 clients with 1,024 names each had disconnected, 98 of 179 MB
    were such free memory, which new clients use before the process grows.

    Python reports the number of objects, not that memory. The estimate starts from the moment at
    which the process was largest: then its allocator had nothing free. Objects that are gone since
    then leave their part free. If the process grows beyond that moment although something should be
    free, the estimate was too high: it is lowered by twice the growth.
    """

    def __init__(self, allocator: Allocator | None = None) -> None:
        self.bytes = 0
        self._allocator = allocator or Allocator()
        # The maximum that the C library had in use since it was trimmed: that much of it is
        # resident.
        self._most_in_use = 0
        # Resident bytes besides those, and objects: at the first call, and when both were largest.
        self._first: tuple[int, int] | None = None
        self._densest = (0, 0)
        # The largest moment as it counts now.
        self._largest = 0
        self._maximum = 0

    def trim(self) -> bool:
        """Return memory to the system if much was freed; returns whether that was tried."""
        in_use = self._allocator.in_use
        self._most_in_use = max(self._most_in_use, in_use)
        if self._most_in_use - in_use < max(_TRIM_BYTES, self._most_in_use // 8):
            return False
        self._allocator.trim()
        self._most_in_use = in_use
        return True

    def observe(self, resident: int, objects: int | None = None) -> None:
        """Estimate `bytes` from the resident memory now.

        Args:
            resident: bytes.
            objects: how many Python has allocated; by default from the interpreter.
        """
        count = sys.getallocatedblocks() if objects is None else objects
        self._most_in_use = max(self._most_in_use, self._allocator.in_use)
        own = resident - self._most_in_use
        if self._first is None:
            self._first = own, count
        if own > self._largest:
            if self._maximum > count:
                excess = round(2 * (own - self._largest) / self._block_bytes())
                self._maximum = max(count, self._maximum - excess)
            self._largest = own
        if count >= self._maximum:
            self._maximum = count
            self._densest = self._largest, count
        free = own - self._largest + round(self._block_bytes() * (self._maximum - count))
        self.bytes = free if free >= _MIN_BYTES else 0

    def _block_bytes(self) -> float:
        """Return the size of an object allocated between the first call and the densest moment."""
        least, maximum = _BLOCK_BYTES
        first, before = self._first or (0, 0)
        densest, count = self._densest
        if count - before < _MIN_BLOCKS:
            return least
        return min(maximum, max(least, (densest - first) / (count - before)))
