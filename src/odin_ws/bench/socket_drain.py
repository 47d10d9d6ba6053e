"""Reads all connections of an epoll set in compiled code, and comes back for what is rare."""

from __future__ import annotations

import ctypes
import platform
from typing import Any, Final, NamedTuple

import numpy as np
from numba import int32, int64, uintp

from odin_ws.bench.c_function import CFunction
from odin_ws.bench.jit import compiled
from odin_ws.bench.reader import LONGEST_FRAME, Bytes, Ints, Tables, parse

__all__ = ["NOBODY", "Ready", "drain"]

# Read at once from one connection: more than the kernel usually holds for it.
_CHUNK: Final = 256 * 1024

# Of connections that have something, looked at between two waits.
_EVENTS: Final = 1024

# A descriptor that Python reads itself.
NOBODY: Final = -1

_CLOCK_REALTIME: Final = 0

# struct epoll_event: 32 bits of events and 64 of the caller's, in which Python keeps the
# descriptor; packed on x86-64 only (epoll_ctl(2)).
_PACKED: Final = platform.machine() == "x86_64"
_EVENT: Final = np.dtype(
    {
        "names": ["events", "descriptor"],
        "formats": [np.uint32, np.int32],
        "offsets": [0, 4 if _PACKED else 8],
        "itemsize": 12 if _PACKED else 16,
    }
)


class Calls(NamedTuple):
    """The system's functions that `drain` calls."""

    epoll_wait: Any
    recv: Any
    clock_gettime: Any

    @classmethod
    def of_libc(cls) -> Calls:
        """Those of this process."""
        libc = ctypes.CDLL(None)
        return cls(
            CFunction(libc.epoll_wait, int32(int32, uintp, int32, int32)),
            CFunction(libc.recv, int64(int32, uintp, uintp, int32)),
            CFunction(libc.clock_gettime, int32(int32, uintp)),
        )


class Ready(NamedTuple):
    """An epoll set, buffers, and whose each descriptor is. Shapes in brackets."""

    calls: Calls
    epoll: int
    events: Ints  # [any] of _EVENT
    arena: Bytes  # [any] what one connection has sent
    clock: Ints  # [2] seconds and nanoseconds
    owner: Ints  # [descriptors] the connection, or NOBODY
    attention: Ints  # [any] descriptors that Python has to look at

    @classmethod
    def empty(cls, epoll: int, descriptors: int) -> Ready:
        """Buffers for an epoll set of descriptors below this number, which are nobody's."""
        return cls(
            calls=Calls.of_libc(),
            epoll=epoll,
            events=np.zeros(_EVENTS, _EVENT),
            arena=np.zeros(LONGEST_FRAME + _CHUNK, np.uint8),
            clock=np.zeros(2, np.int64),
            owner=np.full(descriptors, NOBODY, np.int64),
            attention=np.zeros(_EVENTS, np.int64),
        )


@compiled
def drain(ready: Ready, tables: Tables, until_us: int) -> int:
    """Read connections until Python is needed or that time (epoch us) has come.

    Returns how many descriptors in `ready.attention` are for Python: those of nobody, and those
    that have ended. What is in `tables.post` is for Python too.
    """
    attention = 0
    post = tables.post
    now = _now_us(ready)
    while attention == 0 and post.used[1] == 0 and now < until_us:
        # Rounded up: a wait of nothing would be a busy one.
        wait = (until_us - now + 999) // 1000
        count = ready.calls.epoll_wait(
            int32(ready.epoll), ready.events.ctypes.data, int32(len(ready.events)), int32(wait)
        )
        for number in range(count):
            descriptor = ready.events[number].descriptor
            connection = ready.owner[descriptor]
            # The next one has to find room for all that one read can bring.
            if len(post.text) - post.used[0] < len(ready.arena):
                break
            if connection == NOBODY or not _read(descriptor, connection, ready, tables):
                ready.attention[attention] = descriptor
                attention += 1
        now = _now_us(ready)
    return attention


@compiled
def _read(descriptor: int, connection: int, ready: Ready, tables: Tables) -> bool:
    """Read once from a connection; False where nothing could be read."""
    begun = tables.rest_length[connection]
    got = ready.calls.recv(
        int32(descriptor), ready.arena[begun:].ctypes.data, uintp(_CHUNK), int32(0)
    )
    if got <= 0:
        return False
    ready.arena[:begun] = tables.rest[connection, :begun]
    end = begun + got
    taken = parse(ready.arena, end, connection, _now_us(ready), tables)
    tables.rest[connection, : end - taken] = ready.arena[taken:end]
    tables.rest_length[connection] = end - taken
    return True


@compiled
def _now_us(ready: Ready) -> int:
    ready.calls.clock_gettime(int32(_CLOCK_REALTIME), ready.clock.ctypes.data)
    return int(ready.clock[0] * 1_000_000 + ready.clock[1] // 1000)
