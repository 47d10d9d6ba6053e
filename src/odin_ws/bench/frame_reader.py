"""Splits the bytes of a WebSocket connection into frames and checks their messages.

The code is compiled; `socket_drain.drain` reads all connections of an epoll set by these functions.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from odin_ws.bench.compiled import compiled, integer, is_at
from odin_ws.bench.message_check import BATCH, SEQ, check, check_tail
from odin_ws.bench.tables import LONGEST_FRAME, TORN, Bytes, Problem, Tables, hand_over

__all__ = ["CLOSE", "PING", "TEXT", "parse"]

TEXT: Final = 1
CLOSE: Final = 8
PING: Final = 9

# RFC 6455, 5.2.
_FIN: Final = 0x80
_RSV1: Final = 0x40
_OPCODE: Final = 0x0F
_MEDIUM: Final = 126
_LONG: Final = 127
_SHORTEST_FRAME: Final = 2
_LONGEST_HEADER: Final = 10

# A NumPy constant: numba would compile functions again for an argument of a Python type.
_PACKED: Final[Any] = np.bool_(1)

# RFC 1951, 3.2.4: the header of a stored block, which has the client's own head of a compressed
# frame.
_STORED_BYTES: Final = 5


@compiled
def parse(data: Bytes, end: int, connection: int, now_us: int, tables: Tables) -> int:
    """Process the complete frames of `data[:end]`; returns the number of bytes processed.

    If the data is not frames of a server, consumes all of it and adds an entry with TORN.
    """
    at = 0
    while end - at >= _SHORTEST_FRAME:
        opcode = data[at] & _OPCODE
        length = np.int64(data[at + 1])
        begin = at + _SHORTEST_FRAME
        # The server sends only complete, unmasked text frames, possibly compressed.
        packed = data[at] == _FIN | _RSV1 | TEXT
        torn = (data[at] != _FIN | opcode and not packed) or length > _LONG
        if length in (_MEDIUM, _LONG):
            octets = 2 if length == _MEDIUM else 8
            if end - begin < octets:
                break
            length = np.int64(0)
            for octet in data[begin : begin + octets]:
                length = length << 8 | np.int64(octet)
            begin += octets
        if torn or length < 0 or length > LONGEST_FRAME - _LONGEST_HEADER:
            hand_over(data[:0], connection, TORN, tables.other_frames)
            return end
        if end - begin < length:
            break
        after = begin + int(length)
        payload = data[begin:after]
        if packed:
            tables.volume[0] += after - at
            _check_packed(payload, connection, now_us, tables)
        elif opcode == TEXT and is_at(payload, 0, SEQ):
            tables.volume[0] += after - at
            check(payload, connection, now_us, tables)
        elif opcode == TEXT and is_at(payload, 0, BATCH):
            tables.volume[0] += after - at
            seq, tail = integer(payload, len(BATCH))
            check_tail(seq, payload[tail:], connection, now_us, tables, packed)
        else:
            hand_over(payload, connection, opcode, tables.other_frames)
        at = after
    return at


@compiled
def _check_packed(payload: Bytes, connection: int, now_us: int, tables: Tables) -> None:
    """Check the messages of a compressed frame against earlier ones."""
    # The client's own head is in a stored block, which is not the last block.
    length = np.int64(payload[1]) if len(payload) > _STORED_BYTES else np.int64(0)
    after = _STORED_BYTES + int(length)
    if not length or payload[0] or payload[2] or payload[3] != 255 - length or payload[4] != 255:  # noqa: PLR2004
        tables.problems[Problem.STRANGE] += 1
        return
    head = payload[_STORED_BYTES:after]
    batch = is_at(head, 0, BATCH)
    seq, at = integer(head, len(BATCH) if batch else len(SEQ))
    if at > len(head) or not (batch or is_at(head, 0, SEQ)):
        tables.problems[Problem.STRANGE] += 1
        return
    check_tail(seq, payload[after:], connection, now_us, tables, _PACKED)
