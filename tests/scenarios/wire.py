"""A raw WebSocket client.

It can send invalid frames, which libraries refuse to send. It parses frames without wsproto, the
server's library, so that it does not share that library's errors.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Any, Final

import attrs
import trio

from odin_ws.testing.memory_connection import ClientStream
from odin_ws.testing.scenario import Scenario

__all__ = ["Frame", "Op", "RawClient", "frame", "request", "split_frames", "texts"]

# Virtual seconds that a client waits for the server at most.
_RECEIVE_TIMEOUT: Final = 300

# A constant key: the server has to apply any key (RFC 6455, 5.3).
_MASK: Final = b"\x37\xfa\x21\x3d"

_UPGRADE: Final = {
    "Host": "test",
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


class Op(IntEnum):
    """Opcodes of RFC 6455, 5.2."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


@attrs.frozen
class Frame:
    """One frame from the server."""

    op: Op
    payload: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The object of a text frame."""
        assert self.op is Op.TEXT
        found: dict[str, Any] = json.loads(self.payload)
        return found

    @property
    def close(self) -> tuple[int, str]:
        """Code and reason of a close frame."""
        assert self.op is Op.CLOSE
        return int.from_bytes(self.payload[:2], "big"), self.payload[2:].decode()


def request(
    target: str = "/ws", headers: Mapping[str, str | None] | None = None, method: str = "GET"
) -> bytes:
    """Return the head of an upgrade request; `headers` replaces fields, or removes them if None."""
    fields = {**_UPGRADE, **(headers or {})}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode("latin-1")


def frame(
    op: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bool = True
) -> bytes:
    """Return one frame as a client sends it."""
    first = (0x80 if fin else 0) | rsv << 4 | op
    masked = 0x80 if mask else 0
    if len(payload) < 126:
        head = struct.pack("!BB", first, masked | len(payload))
    elif len(payload) < 1 << 16:
        head = struct.pack("!BBH", first, masked | 126, len(payload))
    else:
        head = struct.pack("!BBQ", first, masked | 127, len(payload))
    if not mask:
        return head + payload
    size = len(payload)
    key = (_MASK * (size // 4 + 1))[:size]
    # As two large numbers: byte by byte, a frame of 1 MiB would take half a second.
    hidden = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return head + _MASK + hidden.to_bytes(size, "big")


def _first_frame(data: bytes) -> tuple[Frame, int] | None:
    """Return the first frame of `data` and its length, or None if it is incomplete."""
    if len(data) < 2:
        return None
    first, second = data[0], data[1]
    assert first & 0xF0 == 0x80, "a server's frame is whole and has no reserved bit"
    assert not second & 0x80, "a server's frame is not masked"
    length, start = second, 2
    if length == 126:
        length, start = int.from_bytes(data[2:4], "big"), 4
    elif length == 127:
        length, start = int.from_bytes(data[2:10], "big"), 10
    end = start + length
    if len(data) < max(start, end):
        return None
    return Frame(Op(first & 0x0F), data[start:end]), end


def split_frames(data: bytes) -> list[Frame]:
    """Return all frames of `data`, which must end with a complete one."""
    frames = []
    while data:
        found = _first_frame(data)
        assert found is not None, f"incomplete frame: {data[:40]!r}"
        frames.append(found[0])
        data = data[found[1] :]
    return frames


def texts(frames: Iterable[Frame]) -> list[dict[str, Any]]:
    """Return the objects of the text frames, without pings and others."""
    return [frame.json for frame in frames if frame.op is Op.TEXT]


class RawClient:
    """The client's end of a connection, byte by byte."""

    def __init__(self, stream: ClientStream) -> None:
        self.stream = stream
        self._read = b""

    @classmethod
    async def dial(
        cls, scenario: Scenario, first: bytes, *, capacity: int = 1 << 20, peer: str = "memory"
    ) -> RawClient:
        """Connect from `peer` and send `first`."""
        client = cls(await scenario.dial(capacity, peer))
        await client.stream.send_all(first)
        return client

    @classmethod
    async def open(
        cls,
        scenario: Scenario,
        target: str = "/ws",
        *,
        capacity: int = 1 << 20,
        headers: Mapping[str, str] | None = None,
    ) -> RawClient:
        """Connect and upgrade."""
        client = await cls.dial(scenario, request(target, headers), capacity=capacity)
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        return client

    async def head(self) -> bytes:
        """Return the head of the server's response."""
        while b"\r\n\r\n" not in self._read:
            assert await self._more(), f"incomplete head: {self._read!r}"
        head, _, self._read = self._read.partition(b"\r\n\r\n")
        return head

    async def send(self, op: int, payload: bytes = b"", **bits: Any) -> None:
        """Send one frame; `bits` are arguments of `frame`."""
        await self.stream.send_all(frame(op, payload, **bits))

    async def command(self, kind: str, **data: Any) -> None:
        """Send a command without waiting for its response."""
        await self.send(Op.TEXT, json.dumps({"type": kind, "data": data}).encode())

    async def subscribe(self, *channels: str) -> None:
        """Subscribe and read the ack."""
        await self.command("subscribe", channels=channels)
        assert (await self.next()).json["rejected"] == []

    async def next(self) -> Frame:
        """Return the next frame."""
        while (found := _first_frame(self._read)) is None:
            assert await self._more(), f"the stream ended within a frame: {self._read!r}"
        self._read = self._read[found[1] :]
        return found[0]

    async def next_but_pings(self) -> Frame:
        """Return the next frame other than a ping."""
        while (found := await self.next()).op is Op.PING:
            pass
        return found

    async def rest(self) -> list[Frame]:
        """Return all frames until the server ends the stream."""
        return split_frames(await self.rest_bytes())

    async def rest_bytes(self) -> bytes:
        """Return all bytes until the server ends the stream."""
        while await self._more():
            pass
        read, self._read = self._read, b""
        return read

    async def close_frame(self) -> tuple[int, str]:
        """Return code and reason of the final close frame; skip all frames before it."""
        *_, last = await self.rest()
        return last.close

    async def _more(self) -> bool:
        with trio.fail_after(_RECEIVE_TIMEOUT):
            data = await self.stream.receive_some()
        self._read += data
        return bool(data)
