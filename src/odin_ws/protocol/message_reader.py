"""Reads client frames into messages (RFC 6455), with limits on size and fragments."""

from __future__ import annotations

import io
from collections.abc import Iterator
from enum import Enum, auto
from typing import IO, Any, Final, NamedTuple

import attrs
from wsproto.frame_protocol import Frame, FrameProtocol, Opcode, ParseFailed

from odin_ws.protocol.inflate import BoundedInflate
from odin_ws.protocol.wsproto_patch import CloseCodes

__all__ = ["Fault", "FrameReader", "Incoming", "PeerClose", "Ping", "Pong"]

# RFC 6455, 7.4.1: data that does not match its type, here text that is not UTF-8; a message that is
# too big, here after inflating.
_NOT_UTF8: Final = 1007
_TOO_BIG: Final = 1009


class Fault(Enum):
    """A fault of the client that ends reading."""

    BROKEN = auto()  # an invalid frame, or at an invalid place
    NOT_UTF8 = auto()
    TOO_LARGE = auto()


@attrs.frozen
class Ping:
    """A ping; needs a pong with the same payload."""

    payload: bytes


@attrs.frozen
class Pong:
    """A pong; needs no response."""


@attrs.frozen
class PeerClose:
    """The peer's close; `code` is 1005 without a code."""

    code: int
    reason: str


# RFC 6455, 5.2: the first byte of a frame that is a whole message without extension.
_KINDS: Final = {0x81: Opcode.TEXT, 0x89: Opcode.PING, 0x8A: Opcode.PONG}

# RFC 6455, 5.2 and 5.3: clients mask their frames; lengths from 126 on have their own field.
_MASKED: Final = 0x80
_MASK_BYTES: Final = 4
_NO_MASK: Final = bytes(_MASK_BYTES)
_MIN_BYTES: Final = 2 + _MASK_BYTES
_TWO_BYTES: Final = 126

# A whole text or binary message.
Incoming = str | bytes | Ping | Pong | PeerClose | Fault

_PONG: Final = Pong()

# wsproto's reasons for errors other than `Fault.BROKEN`.
_FAULTS: Final = {_NOT_UTF8: Fault.NOT_UTF8, _TOO_BIG: Fault.TOO_LARGE}


class _Wsproto(NamedTuple):
    """wsproto's reader, and the filter of its input."""

    frames: FrameProtocol
    codes: CloseCodes


class FrameReader:
    """Reads the frames of one connection, messages of at most `max_bytes` in `max_frames` frames.

    `deflate`: messages may be compressed (permessage-deflate); `max_bytes` then limits the inflated
    size.
    """

    __slots__ = ("_count", "_deflate", "_max_bytes", "_max_frames", "_parts", "_size", "_wsproto")

    has_items: Final = False
    """True if there are items without further bytes."""

    def __init__(self, max_bytes: int, max_frames: int, *, deflate: bool = False) -> None:
        # Created for frames that `_read_whole` does not read, and dropped after the message: it
        # takes 2 KB, and most clients never need it.
        self._wsproto: _Wsproto | None = None
        self._deflate = deflate
        self._max_bytes = max_bytes
        self._max_frames = max_frames
        # The parts of an incomplete message; most arrive in one piece. Not a list, which for a
        # million single characters would take a hundred times their size.
        self._parts: IO[Any] | None = None
        self._size = 0
        self._count = 0

    @property
    def unfinished(self) -> bool:
        """True if a message is incomplete."""
        return self._parts is not None

    def receive(self, data: bytes) -> Iterator[Incoming]:
        """Yield the items that are complete with these bytes; nothing after a fault."""
        begin = 0
        if self._wsproto is None:
            while (whole := _read_whole(data, begin, self._max_bytes)) is not None:
                begin, item = whole
                yield item
            if begin == len(data):
                return
            extensions = [BoundedInflate(self._max_bytes)] if self._deflate else []
            frames = FrameProtocol(client=False, extensions=[*extensions])
            self._wsproto = _Wsproto(frames, CloseCodes())
        yield from self._receive(self._wsproto, data[begin:])

    def _receive(self, wsproto: _Wsproto, data: bytes) -> Iterator[Incoming]:
        frames, codes = wsproto
        frames.receive_bytes(codes.pass_on(data))
        try:
            for frame in frames.received_frames():
                item = self._read(frame, codes)
                if item is not None:
                    yield item
                    if isinstance(item, Fault):
                        return
        except ParseFailed as error:
            yield _FAULTS.get(error.code, Fault.BROKEN)
        else:
            if codes.between_frames and self._parts is None:
                self._wsproto = None

    def _read(self, frame: Frame, codes: CloseCodes) -> Incoming | None:
        payload = frame.payload
        match frame.opcode:
            case Opcode.TEXT | Opcode.BINARY if isinstance(payload, str | bytes | bytearray):
                self._count += frame.frame_finished
                part = payload if isinstance(payload, str) else bytes(payload)
                return self._message(part, whole=frame.message_finished)
            case Opcode.PING if isinstance(payload, bytes | bytearray):
                return Ping(bytes(payload))
            case Opcode.PONG:
                return _PONG
            case Opcode.CLOSE if isinstance(payload, tuple):
                return PeerClose(codes.replaced or int(payload[0]), payload[1] or "")
        return None

    def _message(self, part: str | bytes, *, whole: bool) -> Incoming | None:
        self._size += len(part) if isinstance(part, bytes) or part.isascii() else len(part.encode())
        if self._size > self._max_bytes or self._count > self._max_frames:
            return Fault.TOO_LARGE
        if whole and self._parts is None:
            self._size = self._count = 0
            return part
        if self._parts is None:
            self._parts = _collector(part)
        self._parts.write(part)
        if not whole:
            return None
        self._parts.seek(0)
        message: str | bytes = self._parts.read()
        self._parts = None
        self._size = self._count = 0
        return message


def _read_whole(data: bytes, begin: int, max_bytes: int) -> tuple[int, str | Ping | Pong] | None:
    """Read a frame at `begin`; returns its end and its content.

    Returns None unless it is a text of less than 64 KiB, a ping or a pong, whole and masked: nearly
    all frames of clients. wsproto reads or rejects all others.
    """
    if len(data) - begin < _MIN_BYTES or (kind := _KINDS.get(data[begin])) is None:
        return None
    length = data[begin + 1] - _MASKED
    begin += 2
    minimal = length < _TWO_BYTES
    if length == _TWO_BYTES and kind is Opcode.TEXT:
        length = int.from_bytes(data[begin : begin + 2])
        minimal = length >= _TWO_BYTES
        begin += 2
    mask = data[begin : begin + _MASK_BYTES]
    begin += _MASK_BYTES
    end = begin + length
    if not (minimal and 0 <= length <= max_bytes and end <= len(data)):
        return None
    payload = data[begin:end]
    if payload and mask != _NO_MASK:
        key = (mask * (length // _MASK_BYTES + 1))[:length]
        payload = (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(length)
    if kind is Opcode.TEXT:
        try:
            return end, payload.decode()
        except UnicodeDecodeError:
            return None
    return end, Ping(payload) if kind is Opcode.PING else _PONG


def _collector(part: str | bytes) -> IO[Any]:
    return io.StringIO() if isinstance(part, str) else io.BytesIO()
