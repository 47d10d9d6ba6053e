"""Decodes once the bytes that many connections receive: tails of compressed frames and batches.

odin-ws sends each client a head with the sequence number, and a tail shared by all clients. A known
tail is found by a comparison of all its bytes. A new tail is inflated by zlib, if compressed, and
its messages are parsed.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np
from numba import int32, uintp
from numpy.typing import NDArray

from odin_ws.bench.compiled import CFunction, compiled, find, integer

__all__ = [
    "CHANNEL",
    "FIELDS",
    "FROM_STATE",
    "KIND",
    "NUMBER",
    "OFFSET",
    "PARTITION",
    "PUBLISHED",
    "SLOT",
    "TAIL_SLOT",
    "TO_STATE",
    "Tails",
    "find_tail",
]

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

# The columns of `Tails.messages`.
PARTITION: Final = 0
OFFSET: Final = 1
CHANNEL: Final = 2
NUMBER: Final = 3
PUBLISHED: Final = 4
# Indices in `Tables` of the offset and the number of a message, for connections of one kind.
SLOT: Final = 5
TAIL_SLOT: Final = 6
FIELDS: Final = 7

# The place of a tail is a hash of its ends and its length. If the buffer is full, all tails are
# dropped.
_SLOTS: Final = 1 << 14
_TAIL_BYTES: Final = 32 << 20
_MESSAGES: Final = 1 << 18

# Limit of a tail's inflated size; a batch has 64 KiB and one more message.
_TEXT_BYTES: Final = 1 << 20

# The columns of a place in `Tails.slots`.
_BEGIN: Final = 0
_LENGTH: Final = 1
_FIRST: Final = 2
_COUNT: Final = 3
# The kind of the first connection for which the tail was right, and the connection's state before
# and after the tail (shared_states.py). TO_STATE is 0 without such a connection.
KIND: Final = 4
FROM_STATE: Final = 5
TO_STATE: Final = 6
_COLUMNS: Final = 7

# A tail's hash covers four times this number of bytes at each end.
_ENDS: Final = 8

# RFC 7692, 7.2.2.
_CUT: Final = 4

# z_stream of zlib.h on a 64-bit machine, in words of 8 bytes.
_STREAM_WORDS: Final = 14
_NEXT_IN: Final = 0
_AVAIL_IN: Final = 1
_NEXT_OUT: Final = 3
_AVAIL_OUT: Final = 4
_RAW: Final = -15
_SYNC_FLUSH: Final = 2
_STREAM_END: Final = 1

_POS: Final = np.frombuffer(b'"pos":"', np.uint8)
_CHANNEL_FIELD: Final = np.frombuffer(b'"k":', np.uint8)
_NUMBER_FIELD: Final = np.frombuffer(b'"n":', np.uint8)
_PUBLISHED_FIELD: Final = np.frombuffer(b'"pub_us":', np.uint8)


@cache
def _zlib() -> ctypes.CDLL:
    # Once: the search runs a program.
    zlib = ctypes.CDLL(ctypes.util.find_library("z") or "libz.so.1")
    zlib.zlibVersion.restype = ctypes.c_char_p
    return zlib


class Tails(NamedTuple):
    """The known tails, and zlib. Shapes of arrays are in brackets."""

    slots: Ints  # [slots, _COLUMNS] where a tail begins, its length, its first message, …
    used: Ints  # [2] of `kept` and of `messages`
    kept: Bytes  # [any] concatenated tails
    messages: Ints  # [any, FIELDS]
    text: Bytes  # [any] the inflated tail
    stream: Ints  # [_STREAM_WORDS] the z_stream of zlib
    inflated: Ints  # [1] number of inflated tails, for tests
    inflate: Any
    reset: Any
    compare: Any

    @classmethod
    def empty(cls) -> Tails:
        """Return an empty set of tails."""
        zlib = _zlib()
        stream = np.zeros(_STREAM_WORDS, np.int64)
        status = zlib.inflateInit2_(
            ctypes.c_void_p(stream.ctypes.data), _RAW, zlib.zlibVersion(), stream.nbytes
        )
        if status:
            raise OSError(f"zlib: inflateInit2 returns {status}")
        return cls(
            slots=np.zeros((_SLOTS, _COLUMNS), np.int64),
            used=np.zeros(2, np.int64),
            kept=np.zeros(_TAIL_BYTES, np.uint8),
            messages=np.zeros((_MESSAGES, FIELDS), np.int64),
            text=np.zeros(_TEXT_BYTES, np.uint8),
            stream=stream,
            inflated=np.zeros(1, np.int64),
            inflate=CFunction(zlib.inflate, int32(uintp, int32)),
            reset=CFunction(zlib.inflateReset, int32(uintp)),
            compare=CFunction(ctypes.CDLL(None).memcmp, int32(uintp, uintp, uintp)),
        )


@compiled
def find_tail(
    tail: Bytes,
    tails: Tails,
    packed: bool,  # noqa: FBT001 -- numba has no keyword-only arguments
) -> tuple[int, int, int]:
    """Return a tail's place, its first message in `tails.messages`, and the number of messages.

    The number is 0 if the tail cannot be decoded.
    """
    length = len(tail)
    slot = _slot_of(tail)
    begin = tails.slots[slot, _BEGIN]
    if (
        tails.slots[slot, _LENGTH] == length
        and tails.compare(
            uintp(tail.ctypes.data), uintp(tails.kept[begin:].ctypes.data), uintp(length)
        )
        == 0
    ):
        return slot, tails.slots[slot, _FIRST], tails.slots[slot, _COUNT]
    if packed:
        tails.inflated[0] += 1
        text = tails.text[: _inflate(tail, tails)]
    else:
        text = tail
    # A message has at least the names of its fields.
    if tails.used[0] + length > len(tails.kept) or tails.used[1] + len(text) // 16 > _MESSAGES:
        tails.used[:] = 0
        tails.slots[:] = 0
    begin, first = tails.used
    count = _read_messages(text, tails.messages[first:])
    if count == 0:
        return slot, first, count
    tails.kept[begin : begin + length] = tail
    tails.slots[slot] = (begin, length, first, count, 0, 0, 0)
    tails.used[0] += length
    tails.used[1] += count
    return slot, first, count


@compiled
def _slot_of(tail: Bytes) -> int:
    """Return the place of a tail, computed from its ends and its length."""
    mixed = np.uint64(len(tail))
    for number in range(min(_ENDS * 4, len(tail))):
        mixed = (mixed ^ np.uint64(tail[number])) * np.uint64(1099511628211)
        mixed = (mixed ^ np.uint64(tail[-1 - number])) * np.uint64(1099511628211)
    return int((mixed >> np.uint64(20)) % np.uint64(_SLOTS))


@compiled
def _inflate(tail: Bytes, tails: Tails) -> int:
    """Inflate a tail; returns the length of the text, 0 on an error."""
    stream, text = tails.stream, tails.text
    message = np.zeros(len(tail) + _CUT, np.uint8)
    message[: len(tail)] = tail
    message[len(tail) + 2 :] = 0xFF
    address = uintp(stream.ctypes.data)
    if tails.reset(address) != 0:
        return 0
    stream[_NEXT_IN], stream[_AVAIL_IN] = message.ctypes.data, len(message)
    stream[_NEXT_OUT], stream[_AVAIL_OUT] = text.ctypes.data, len(text)
    status = tails.inflate(address, int32(_SYNC_FLUSH))
    left_in, left_out = stream[_AVAIL_IN] & 0xFFFFFFFF, stream[_AVAIL_OUT] & 0xFFFFFFFF
    if status < 0 or status == _STREAM_END or left_in or not left_out:
        return 0
    return int(len(text) - left_out)


@compiled
def _read_messages(text: Bytes, messages: Ints) -> int:
    """Parse all messages of a text; returns their number, 0 on an error."""
    count = 0
    slot = find(text, 0, _POS)
    while slot <= len(text):
        if count == len(messages):
            return 0
        partition, slot = integer(text, slot)
        offset, slot = integer(text, slot + 1)
        channel, slot = integer(text, find(text, slot, _CHANNEL_FIELD))
        number, slot = integer(text, find(text, slot, _NUMBER_FIELD))
        published, slot = integer(text, find(text, slot, _PUBLISHED_FIELD))
        if slot > len(text):
            return 0
        messages[count] = (partition, offset, channel, number, published, 0, 0)
        count += 1
        slot = find(text, slot, _POS)
    return count
