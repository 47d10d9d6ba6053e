"""RFC 6455 frames of a server: unmasked and unfragmented, so one body serves all clients."""

from __future__ import annotations

import struct
from typing import Final

__all__ = ["PING", "close_frame", "pong_frame", "text_frame", "text_header"]

_TEXT: Final = 0x81  # FIN and opcode 1
_COMPRESSED_TEXT: Final = 0xC1  # FIN, RSV1 (RFC 7692, 6) and opcode 1
_CLOSE: Final = 0x88  # FIN and opcode 8
_PONG: Final = 0x8A  # FIN and opcode 10
PING: Final = b"\x89\x00"  # FIN and opcode 9, no payload: any byte in response shows life

_pack_medium = struct.Struct("!BBH").pack
_pack_long = struct.Struct("!BBQ").pack

# The code for a close without a code (RFC 6455, 7.4.1).
NO_CODE: Final = 1005

# A control frame has at most 125 bytes, two of which are the code (RFC 6455, 5.5).
_MAX_REASON_BYTES: Final = 123


def text_header(length: int, *, compressed: bool = False) -> bytes:
    """Return the header of a text frame with `length` payload bytes."""
    first = _COMPRESSED_TEXT if compressed else _TEXT
    if length < 126:  # noqa: PLR2004 -- RFC 6455, 5.2: 126 and 127 announce a longer length field
        return bytes((first, length))
    if length < 1 << 16:
        return _pack_medium(first, 126, length)
    return _pack_long(first, 127, length)


def text_frame(payload: bytes) -> bytes:
    """Return a whole text frame."""
    return text_header(len(payload)) + payload


def pong_frame(payload: bytes) -> bytes:
    """Return the pong for a ping with this payload, of at most 125 bytes."""
    return bytes((_PONG, len(payload))) + payload


def close_frame(code: int, reason: str) -> bytes:
    """Return a close frame; a reason that is too long is cut at a character.

    With 1005, which stands for "no code", it has no payload: that code must not be sent.
    """
    if code == NO_CODE:
        return bytes((_CLOSE, 0))
    text = reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore").encode()
    return struct.pack("!BBH", _CLOSE, 2 + len(text), code) + text
