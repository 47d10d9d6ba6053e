"""Inflates compressed messages of clients (permessage-deflate), with a size limit."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

if TYPE_CHECKING:
    # Its type has a name in type stubs only.
    from zlib import _Decompress

__all__ = ["BoundedInflate"]

_WINDOW_BITS: Final = (
    -15
)  # raw deflate, with the largest window: whatever the client compresses with

# RFC 7692, 7.2.2: the sender has removed this from the end of a message.
_CUT: Final = b"\x00\x00\xff\xff"

# RFC 7692, 7.2.3.4: a block that is marked as last is followed by an empty one, of which this byte
# is not removed.
_BEHIND_THE_LAST: Final = (b"", b"\x00", _CUT, b"\x00" + _CUT)


class BoundedInflate(Extension):
    """Inflates one connection's messages, without state between two messages.

    Args:
        max_bytes: a message that inflates to more is a fault (close 1009); at most one byte more is
            ever inflated.
    """

    __slots__ = ("_in_control", "_max_bytes", "_room", "_stream")

    name = "permessage-deflate"

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._room = 0
        # The decompressor of the message in progress, if it is compressed.
        self._stream: _Decompress | None = None
        self._in_control = False

    def enabled(self) -> bool:
        """Return True: the handshake has enabled the extension."""
        return True

    def offer(self) -> bool | str:
        """Return False: only clients offer extensions."""
        return False

    def frame_inbound_header(
        self,
        proto: FrameDecoder | FrameProtocol,  # noqa: ARG002 -- wsproto's signature
        opcode: Opcode,
        rsv: RsvBits,
        payload_length: int,  # noqa: ARG002 -- wsproto's signature
    ) -> CloseReason | RsvBits:
        """Read from the first frame of a message whether the message is compressed."""
        self._in_control = opcode.iscontrol()
        if rsv.rsv1:
            if self._in_control or opcode is Opcode.CONTINUATION:
                return CloseReason.PROTOCOL_ERROR
            self._stream = zlib.decompressobj(_WINDOW_BITS)
            self._room = self._max_bytes + 1
        return RsvBits(rsv1=True, rsv2=False, rsv3=False)

    def frame_inbound_payload_data(
        self,
        proto: FrameDecoder | FrameProtocol,  # noqa: ARG002 -- wsproto's signature
        data: bytes,
    ) -> bytes | CloseReason:
        """Inflate a part of a payload."""
        return data if self._in_control or self._stream is None else self._inflate(data)

    def frame_inbound_complete(
        self,
        proto: FrameDecoder | FrameProtocol,  # noqa: ARG002 -- wsproto's signature
        fin: bool,  # noqa: FBT001 -- wsproto's signature
    ) -> bytes | CloseReason | None:
        """Inflate the rest at the end of a message."""
        if self._in_control or self._stream is None or not fin:
            return None
        rest = self._inflate(_CUT)
        self._stream = None
        return rest

    def _inflate(self, data: bytes) -> bytes | CloseReason:
        stream = self._stream
        if stream is None or (stream.eof and not data):
            return b""
        try:
            inflated = stream.decompress(data, self._room)
        except zlib.error:
            return CloseReason.PROTOCOL_ERROR
        self._room -= len(inflated)
        if self._room <= 0:
            return CloseReason.MESSAGE_TOO_BIG
        if stream.unused_data not in _BEHIND_THE_LAST:
            return CloseReason.PROTOCOL_ERROR
        return inflated
