"""Splits Server-Sent Events and checks the messages in them, in compiled code."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from odin_ws.bench.compiled import compiled, find, integer, is_at
from odin_ws.bench.frame_reader import TEXT
from odin_ws.bench.message_check import BATCH, SEQ, check, check_tail
from odin_ws.bench.tables import LONGEST_FRAME, TORN, Bytes, Problem, Tables, hand_over

__all__ = ["parse_events"]

_LINE_FEED: Final = 10

_END: Final = np.frombuffer(b"\n\n", np.uint8)
_ID: Final = np.frombuffer(b"id:1,", np.uint8)
_DATA: Final = np.frombuffer(b"data:", np.uint8)

# A NumPy constant: numba would compile functions again for an argument of a Python type.
_PACKED: Final[Any] = np.bool_(0)


@compiled
def parse_events(data: Bytes, end: int, connection: int, now_us: int, tables: Tables) -> int:
    """Process the complete events of `data[:end]`; returns the number of bytes processed.

    If an event is longer than any of a server's, consumes all bytes and adds an entry with TORN.
    """
    at = 0
    while True:
        after = find(data[:end], at, _END)
        if after > end:
            break
        _read_event(data[at : after - 1], connection, now_us, tables)
        at = after
    if end - at >= LONGEST_FRAME:
        hand_over(data[:0], connection, TORN, tables.other_frames)
        return end
    return at


@compiled
def _read_event(event: Bytes, connection: int, now_us: int, tables: Tables) -> None:
    """Check the messages of one event; leave notices to Python. Each line ends with a line feed."""
    at = 0
    has_id = False
    while at < len(event):
        after = at
        while event[after] != _LINE_FEED:
            after += 1
        if is_at(event, at, _ID):
            has_id = True
        elif is_at(event, at, _DATA):
            # The data is the last line; the benchmark's values have no line breaks.
            _read_data(event[at + len(_DATA) : after], connection, now_us, tables)
            if is_at(event, at + len(_DATA), SEQ) or is_at(event, at + len(_DATA), BATCH):
                # Two line feeds end the event; the second is not part of the event.
                tables.volume[0] += len(event) + 1
                if not has_id:
                    tables.problems[Problem.STRANGE] += 1
        at = after + 1


@compiled
def _read_data(payload: Bytes, connection: int, now_us: int, tables: Tables) -> None:
    if is_at(payload, 0, SEQ):
        check(payload, connection, now_us, tables)
    elif is_at(payload, 0, BATCH):
        seq, tail = integer(payload, len(BATCH))
        check_tail(seq, payload[tail:], connection, now_us, tables, _PACKED)
    else:
        hand_over(payload, connection, TEXT, tables.other_frames)
