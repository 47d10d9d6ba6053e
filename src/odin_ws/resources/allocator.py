"""Memory that allocators keep after it was freed (malloc_trim)."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

__all__ = ["Allocator", "ReusableMemory"]

# glibc is asked to give memory back if so much of it was freed: it takes some milliseconds, 0.1 ms
# for each MB.
_TRIM_BYTES: Final = 16 << 20

# Less is noise of the estimate.
_LEAST_BYTES: Final = 16 << 20

# What an object of Python's own allocator takes, between an integer and a name of 128 bytes. As
# long as few have been allocated since the start, the smaller is assumed: an estimate too low only
# rejects clients.
_BLOCK_BYTES: Final = (48, 160)
_LEAST_BLOCKS: Final = 100_000


class _MallInfo(ctypes.Structure):
    """glibc's `struct mallinfo2`, of which the bytes in use are read."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


class Allocator:
    """The C library's allocator, as far as it can be asked: glibc 2.33 and later."""

    def __init__(self, library: ctypes.CDLL | None = None) -> None:
        library = ctypes.CDLL(None) if library is None else library
        self._info = getattr(library, "mallinfo2", None)
        self._trim = getattr(library, "malloc_trim", None)
        if self._info is not None:
            self._info.restype = _MallInfo

    @property
    def in_use(self) -> int:
        """Bytes that were allocated and not freed; 0 if that is unknown."""
        if self._info is None:
            return 0
        info = self._info()
        return int(info.uordblks) + int(info.hblkhd)

    def trim(self) -> None:
        """Give freed pages back to the system, where the library can."""
        if self._trim is not None:
            self._trim(0)


class ReusableMemory:
    """How much of the resident memory is free within the allocators.

    glibc gives freed pages back when it is asked to. Python's own allocator, which holds objects of
    up to 512 bytes, gives an arena of 1 MiB back only if all of it is free: one object that stays
    among thousands of a client's keeps it. After 399 clients with 1,024 names each had left, 98 of
    179 MB were such free memory, which newcomers use before the process grows.

    Python does not tell how much that is, but how many objects there are. The estimate starts from
    the moment at which the process was largest: then its allocator had nothing free. Objects that
    are gone since then leave their part of it free. If the process grows beyond that moment though
    something should be free, the estimate was too high: it is lowered by twice the growth.
    """

    def __init__(self, allocator: Allocator | None = None) -> None:
        self.bytes = 0
        self._allocator = allocator or Allocator()
        # What the C library had in use at most since it was trimmed: so much of it is resident.
        self._most_in_use = 0
        # Resident bytes beside those, and objects: at the first look, and when both were largest.
        self._first: tuple[int, int] | None = None
        self._densest = (0, 0)
        # The largest moment as it counts now.
        self._largest = 0
        self._maximum = 0

    def trim(self) -> bool:
        """Give memory back to the system if much was freed; returns whether that was tried."""
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
            objects: how many Python has allocated; by default it is asked.
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
        self.bytes = free if free >= _LEAST_BYTES else 0

    def _block_bytes(self) -> float:
        """What an object took, of those allocated from the first look to the densest moment."""
        least, maximum = _BLOCK_BYTES
        first, before = self._first or (0, 0)
        densest, count = self._densest
        if count - before < _LEAST_BLOCKS:
            return least
        return min(maximum, max(least, (densest - first) / (count - before)))
