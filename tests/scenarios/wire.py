"""A WebSocket client of our own making.

It says what no library lets one say, and parses frames itself, so that nothing the server's library
gets wrong is got wrong here in the same way.
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

# Virtual seconds after which a client that waits in vain gives up.
_PATIENCE: Final = 300

# Any key does, also one that hides nothing: RFC 6455 only wants the server to apply it.
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
    """One frame as it came from the server."""

    op: Op
    payload: bytes

    @property
    def json(self) -> dict[str, Any]:
        """A text frame's object."""
        assert self.op is Op.TEXT
        found: dict[str, Any] = json.loads(self.payload)
        return found

    @property
    def close(self) -> tuple[int, str]:
        """A close frame's code and reason."""
        assert self.op is Op.CLOSE
        return int.from_bytes(self.payload[:2], "big"), self.payload[2:].decode()


def request(
    target: str = "/ws", headers: Mapping[str, str | None] | None = None, method: str = "GET"
) -> bytes:
    """The head of an upgrade; `headers` replaces or, with None, leaves out some of it."""
    fields = {**_UPGRADE, **(headers or {})}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode("latin-1")


def frame(
    op: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bool = True
) -> bytes:
    """One frame as a client sends it."""
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
    hidden = bytes(byte ^ _MASK[index % 4] for index, byte in enumerate(payload))
    return head + _MASK + hidden


def _first_frame(data: bytes) -> tuple[Frame, int] | None:
    """The frame that `data` begins with and its length; None where it is not whole yet."""
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
    """All frames of `data`, which must end with a whole one."""
    frames = []
    while data:
        found = _first_frame(data)
        assert found is not None, f"torn off: {data[:40]!r}"
        frames.append(found[0])
        data = data[found[1] :]
    return frames


def texts(frames: Iterable[Frame]) -> list[dict[str, Any]]:
    """The objects of the text frames, pings and others left out."""
    return [one.json for one in frames if one.op is Op.TEXT]


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
        """The head of the server's answer."""
        while b"\r\n\r\n" not in self._read:
            assert await self._more(), f"no whole head: {self._read!r}"
        head, _, self._read = self._read.partition(b"\r\n\r\n")
        return head

    async def send(self, op: int, payload: bytes = b"", **bits: Any) -> None:
        """Send one frame; `bits` as of `frame`."""
        await self.stream.send_all(frame(op, payload, **bits))

    async def command(self, kind: str, **data: Any) -> None:
        """Send a command, without waiting for its answer."""
        await self.send(Op.TEXT, json.dumps({"type": kind, "data": data}).encode())

    async def subscribe(self, *channels: str) -> None:
        """Subscribe and read the ack."""
        await self.command("subscribe", channels=channels)
        assert (await self.next()).json["rejected"] == []

    async def next(self) -> Frame:
        """The next frame."""
        while (found := _first_frame(self._read)) is None:
            assert await self._more(), f"the stream ended within a frame: {self._read!r}"
        self._read = self._read[found[1] :]
        return found[0]

    async def next_but_pings(self) -> Frame:
        """The next frame that is no ping."""
        while (found := await self.next()).op is Op.PING:
            pass
        return found

    async def rest(self) -> list[Frame]:
        """All frames until the server ends the stream."""
        return split_frames(await self.rest_bytes())

    async def rest_bytes(self) -> bytes:
        """All bytes until the server ends the stream."""
        while await self._more():
            pass
        read, self._read = self._read, b""
        return read

    async def close_frame(self) -> tuple[int, str]:
        """Code and reason of the close frame that ends the connection, passing over the others."""
        *_, last = await self.rest()
        return last.close

    async def _more(self) -> bool:
        with trio.fail_after(_PATIENCE):
            data = await self.stream.receive_some()
        self._read += data
        return bool(data)
