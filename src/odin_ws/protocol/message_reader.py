"""What a client sends, frame by frame: RFC 6455 as wsproto reads it, with a bound on a message."""

from __future__ import annotations

import io
from collections.abc import Iterator
from enum import Enum, auto
from typing import IO, Any, Final

import attrs
from wsproto.frame_protocol import Frame, FrameProtocol, Opcode, ParseFailed

from odin_ws.protocol.close_codes import CloseCodes

__all__ = ["Fault", "FrameReader", "Incoming", "PeerClose", "Ping", "Pong"]

# RFC 6455, 7.4.1: data that is not what its type says, here text that is not UTF-8.
_NOT_UTF8: Final = 1007


class Fault(Enum):
    """What ends the reading: nothing that comes after it is looked at."""

    BROKEN = auto()  # no valid frame, or not where it may stand
    NOT_UTF8 = auto()
    TOO_LARGE = auto()


@attrs.frozen
class Ping:
    """A ping; it wants a pong with the same payload."""

    payload: bytes


@attrs.frozen
class Pong:
    """A pong; it wants nothing."""


@attrs.frozen
class PeerClose:
    """The peer's close; `code` is 1005 where it gave none."""

    code: int
    reason: str


# A text, and what is binary, is a whole message.
Incoming = str | bytes | Ping | Pong | PeerClose | Fault

_PONG: Final = Pong()


class FrameReader:
    """Reads one connection's bytes. A message may have `max_bytes`, in `max_frames` frames."""

    __slots__ = ("_codes", "_count", "_frames", "_max_bytes", "_max_frames", "_parts", "_size")

    def __init__(self, max_bytes: int, max_frames: int) -> None:
        self._frames = FrameProtocol(client=False, extensions=[])
        self._codes = CloseCodes()
        self._max_bytes = max_bytes
        self._max_frames = max_frames
        # Of a message that is not whole yet; most come in one piece. Not a list: of a million
        # single characters it would take a hundred times what they take.
        self._parts: IO[Any] | None = None
        self._size = 0
        self._count = 0

    @property
    def unfinished(self) -> bool:
        """Whether a message was begun that is not whole yet."""
        return self._parts is not None

    def receive(self, data: bytes) -> Iterator[Incoming]:
        """What has become whole with these bytes, in order; after a fault nothing more."""
        self._frames.receive_bytes(self._codes.pass_on(data))
        try:
            for frame in self._frames.received_frames():
                item = self._read(frame)
                if item is not None:
                    yield item
                    if isinstance(item, Fault):
                        return
        except ParseFailed as error:
            yield Fault.NOT_UTF8 if error.code == _NOT_UTF8 else Fault.BROKEN

    def _read(self, frame: Frame) -> Incoming | None:
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
                return PeerClose(self._codes.replaced or int(payload[0]), payload[1] or "")
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


def _collector(part: str | bytes) -> IO[Any]:
    return io.StringIO() if isinstance(part, str) else io.BytesIO()
