"""Lets wsproto accept every close code of the IANA registry.

https://www.iana.org/assignments/websocket: 1000 to 1003 and 1007 to 1014 are registered, 1005, 1006
and 1015 stand for closes without a code and are never sent, 1004 and 1016 to 2999 have no meaning;
3000 to 3999 are for libraries and frameworks, and 4000 to 4999 for private use.
"""

from __future__ import annotations

import math
import struct
from typing import Final

from wsproto.frame_protocol import CloseReason, Opcode

__all__ = ["CloseCodes", "is_registered"]

_OF_THE_PROTOCOL: Final = frozenset({*range(1000, 1004), *range(1007, 1015)})
_OF_OTHERS: Final = range(3000, 5000)

# Codes that wsproto 1.3 rejects, and the one that replaces them.
_UNKNOWN: Final = _OF_THE_PROTOCOL - set(CloseReason)
_STAND_IN: Final = int(CloseReason.NORMAL_CLOSURE)

# RFC 6455, 5.2 and 5.5: the first byte of a valid close: one frame without extension.
_CLOSE: Final = b"\x88"

_CODE_BYTES: Final = 2
_MASK_BYTES: Final = 4

# RFC 6455, 5.2: lengths that announce a longer length field.
_LENGTHS: Final = {126: struct.Struct("!H"), 127: struct.Struct("!Q")}

# The longest frame header with a close code.
_MAX_HEAD_BYTES: Final = 2 + 8 + _MASK_BYTES + _CODE_BYTES


def is_registered(code: int) -> bool:
    """Return whether an endpoint may send a close with this code."""
    return code in _OF_THE_PROTOCOL or code in _OF_OTHERS


class CloseCodes:
    """Filters one direction of a connection for wsproto: replaces unknown close codes.

    All other bytes are unchanged.
    """

    __slots__ = ("_begun", "_next", "replaced")

    def __init__(self) -> None:
        # The code of the peer, if wsproto got another one.
        self.replaced: int | None = None
        # The beginning of a frame whose header is incomplete.
        self._begun = b""
        # Bytes until the next frame begins, including the current one.
        self._next: float = 0

    @property
    def between_frames(self) -> bool:
        """True if the bytes so far end with a frame, which was no close."""
        return self._next == 0 and not self._begun

    def pass_on(self, data: bytes) -> bytes:
        """Return the bytes for wsproto: all, except an incomplete header of a close."""
        passed = 0 if _has_code(self._begun) else len(self._begun)
        data = self._begun + data
        self._begun = b""
        while self._next < len(data):
            begin = int(self._next)
            head = data[begin : begin + _MAX_HEAD_BYTES]
            size = _head_size(head)
            if len(head) < size:
                self._begun, self._next = head, 0
                return data[passed:begin] if _has_code(head) else data[passed:]
            if head[0] & 0x0F == Opcode.CLOSE:
                # Nothing after a close is examined.
                self._next = math.inf
                whole = data[:begin] + self._readable(head[:size]) + data[begin + size :]
                return whole[passed:]
            self._next = begin + size + _payload_size(head)
        self._next -= len(data)
        return data[passed:]

    def _readable(self, head: bytes) -> bytes:
        """Return the header of a close and a code that wsproto accepts."""
        mask = head[-_CODE_BYTES - _MASK_BYTES : -_CODE_BYTES] if head[1] & 0x80 else bytes(4)
        key = int.from_bytes(mask[:_CODE_BYTES], "big")
        code = int.from_bytes(head[-_CODE_BYTES:], "big") ^ key
        if not _has_code(head) or code not in _UNKNOWN:
            return head
        self.replaced = code
        return head[:-_CODE_BYTES] + (_STAND_IN ^ key).to_bytes(_CODE_BYTES, "big")


def _head_size(head: bytes) -> int:
    """Return the size of a frame's header, including a close code, as far as it is known."""
    if len(head) < 2:  # noqa: PLR2004 -- RFC 6455, 5.2: the second byte has the length
        return 2
    length = head[1] & 0x7F
    size = 2 + (_LENGTHS[length].size if length in _LENGTHS else 0) + 4 * (head[1] >> 7)
    return size + _CODE_BYTES * _has_code(head)


def _has_code(head: bytes) -> bool:
    """Return whether it begins a valid close with a code, as far as it has arrived."""
    if head[:1] != _CLOSE:
        return False
    return len(head) < 2 or _CODE_BYTES <= head[1] & 0x7F < min(_LENGTHS)  # noqa: PLR2004


def _payload_size(head: bytes) -> int:
    length = head[1] & 0x7F
    if length in _LENGTHS:
        (length,) = _LENGTHS[length].unpack_from(head, 2)
    return length
