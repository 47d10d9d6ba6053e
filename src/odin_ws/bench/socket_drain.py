"""Reads all connections of an epoll set in compiled code; returns to Python for rare events.

numba reuses the code on disk while a function's own file is unchanged, also if a called function
has changed: run `rm src/odin_ws/bench/__pycache__/*.nb*` after a change of a called function.
"""

from __future__ import annotations

import ctypes
import platform
from typing import Any, Final, NamedTuple

import numpy as np
from numba import int32, int64, uintp

from odin_ws.bench.compiled import CFunction, compiled
from odin_ws.bench.event_reader import parse_events
from odin_ws.bench.frame_reader import parse
from odin_ws.bench.tables import LONGEST_FRAME, Bytes, Ints, Tables

__all__ = ["NOBODY", "Ready", "drain"]

# Size of a read in bytes: above the usual receive buffer of a connection.
_CHUNK: Final = 256 * 1024

# Maximum number of ready connections per epoll_wait.
_EVENTS: Final = 1024

# The owner of a descriptor that Python handles.
NOBODY: Final = -1

_CLOCK_REALTIME: Final = 0

# struct epoll_event: 32 bits of events and 64 bits of user data, in which Python stores the
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
    """The system functions that `drain` calls."""

    epoll_wait: Any
    recv: Any
    clock_gettime: Any

    @classmethod
    def of_libc(cls) -> Calls:
        """Return the system functions of this process."""
        libc = ctypes.CDLL(None)
        return cls(
            CFunction(libc.epoll_wait, int32(int32, uintp, int32, int32)),
            CFunction(libc.recv, int64(int32, uintp, uintp, int32)),
            CFunction(libc.clock_gettime, int32(int32, uintp)),
        )


class Ready(NamedTuple):
    """An epoll set, buffers, and the owner of each descriptor. Shapes of arrays are in brackets."""

    calls: Calls
    epoll: int
    events: Ints  # [any] of _EVENT
    arena: Bytes  # [any] bytes of one read
    clock: Ints  # [2] seconds and nanoseconds
    owner: Ints  # [descriptors] the connection, or NOBODY
    attention: Ints  # [any] descriptors for Python

    @classmethod
    def empty(cls, epoll: int, descriptors: int) -> Ready:
        """Return buffers for an epoll set without owners.

        `descriptors`: the upper bound of descriptors.
        """
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
    """Read connections until Python is needed or until a time (epoch us).

    Returns the number of descriptors in `ready.attention` for Python: descriptors without an owner,
    and of ended connections. Python also handles `tables.other_frames`.
    """
    attention = 0
    other_frames = tables.other_frames
    now = _now_us(ready)
    while attention == 0 and other_frames.used[1] == 0 and now < until_us:
        # Rounded up: a wait of 0 would be a busy loop.
        wait = (until_us - now + 999) // 1000
        count = ready.calls.epoll_wait(
            int32(ready.epoll), ready.events.ctypes.data, int32(len(ready.events)), int32(wait)
        )
        for number in range(count):
            descriptor = ready.events[number].descriptor
            connection = ready.owner[descriptor]
            # Stop if `other_frames` lacks room for all frames of the next read.
            if len(other_frames.text) - other_frames.used[0] < len(ready.arena):
                break
            if connection == NOBODY or not _read(descriptor, connection, ready, tables):
                ready.attention[attention] = descriptor
                attention += 1
        now = _now_us(ready)
    return attention


@compiled
def _read(descriptor: int, connection: int, ready: Ready, tables: Tables) -> bool:
    """Read once from a connection; False if nothing could be read."""
    begun = tables.rest_length[connection]
    got = ready.calls.recv(
        int32(descriptor), ready.arena[begun:].ctypes.data, uintp(_CHUNK), int32(0)
    )
    if got <= 0:
        return False
    ready.arena[:begun] = tables.rest[connection, :begun]
    end = begun + got
    if tables.workload[3]:
        taken = parse_events(ready.arena, end, connection, _now_us(ready), tables)
    else:
        taken = parse(ready.arena, end, connection, _now_us(ready), tables)
    tables.rest[connection, : end - taken] = ready.arena[taken:end]
    tables.rest_length[connection] = end - taken
    return True


@compiled
def _now_us(ready: Ready) -> int:
    ready.calls.clock_gettime(int32(_CLOCK_REALTIME), ready.clock.ctypes.data)
    return int(ready.clock[0] * 1_000_000 + ready.clock[1] // 1000)
