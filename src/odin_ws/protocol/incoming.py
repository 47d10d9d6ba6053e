"""What a client sends, frame by frame: RFC 6455 as wsproto reads it, with a bound on a message."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from typing import Final

import attrs
from wsproto.frame_protocol import Frame, FrameProtocol, Opcode, ParseFailed

__all__ = ["Fault", "FrameReader", "Incoming", "PeerClose", "Ping"]

# RFC 6455, 7.4.1: data that is not what its type says, here text that is not UTF-8.
_NOT_UTF8: Final = 1007


class Fault(Enum):
    """What ends the reading: nothing that comes after it is looked at."""

    BROKEN = auto()  # no valid frame, or not where it may stand
    NOT_UTF8 = auto()
    BINARY = auto()
    TOO_LARGE = auto()


@attrs.frozen
class Ping:
    """A ping; it wants a pong with the same payload."""

    payload: bytes


@attrs.frozen
class PeerClose:
    """The peer's close; `code` is 1005 where it gave none."""

    code: int
    reason: str


# A text is a whole message. A pong is only a sign of life, which any byte is.
Incoming = str | Ping | PeerClose | Fault


class FrameReader:
    """Reads one connection's bytes. A message may have `max_bytes`, and as many frames."""

    __slots__ = ("_frames", "_max_bytes", "_parts", "_size")

    def __init__(self, max_bytes: int) -> None:
        self._frames = FrameProtocol(client=False, extensions=[])
        self._max_bytes = max_bytes
        # Of a message that is not whole yet; most come in one piece.
        self._parts: list[str] | None = None
        self._size = 0

    def receive(self, data: bytes) -> Iterator[Incoming]:
        """What has become whole with these bytes, in order; after a fault nothing more."""
        self._frames.receive_bytes(data)
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
            case Opcode.TEXT if isinstance(payload, str):
                return self._text(payload, whole=frame.message_finished)
            case Opcode.BINARY:
                return Fault.BINARY
            case Opcode.PING if isinstance(payload, bytes | bytearray):
                return Ping(bytes(payload))
            case Opcode.CLOSE if isinstance(payload, tuple):
                return PeerClose(int(payload[0]), payload[1] or "")
        return None

    def _text(self, part: str, *, whole: bool) -> Incoming | None:
        # An empty part counts too: a message of nothing but those would never end.
        self._size += max(1, len(part) if part.isascii() else len(part.encode()))
        if self._size > self._max_bytes:
            return Fault.TOO_LARGE
        if whole and self._parts is None:
            self._size = 0
            return part
        if self._parts is None:
            self._parts = []
        self._parts.append(part)
        if not whole:
            return None
        text = "".join(self._parts)
        self._parts, self._size = None, 0
        return text
