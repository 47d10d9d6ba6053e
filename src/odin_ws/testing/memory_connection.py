"""A connection in memory: a server transport and a client stream."""

from __future__ import annotations

import math
from typing import Final

import trio
from trio_util import AsyncValue

__all__ = ["ClientStream", "MemoryTransport", "transport_pair"]


# The default size of a read in bytes.
_READ_BYTES: Final = 65_536


class _Pipe:
    """Bytes in one direction, at most `capacity`, like a kernel's socket buffers."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.data = bytearray()
        self.ended = False  # no more bytes will be written
        self.broken = False  # the reader is gone
        self.reset = False  # unread bytes are lost too
        self._changed = trio.Event()

    def put(self, data: bytes | bytearray | memoryview) -> int:
        if self.broken or self.ended:
            raise trio.BrokenResourceError
        taken = min(len(data), max(0, self.capacity - len(self.data)))
        self.data += data[:taken]
        self.change()
        return taken

    def take(self, maximum: int) -> bytes:
        if self.reset:
            raise trio.BrokenResourceError
        data = bytes(self.data[:maximum])
        del self.data[:maximum]
        self.change()
        return data

    def change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def wait_for_room(self) -> None:
        while len(self.data) >= self.capacity and not self.broken and not self.ended:
            await self._changed.wait()

    async def wait_for_data(self) -> None:
        while not self.data and not self.ended and not self.broken:
            await self._changed.wait()


class MemoryTransport:
    """The server's end: see odin_ws.listener.transport.Transport."""

    def __init__(self, to_client: _Pipe, from_client: _Pipe) -> None:
        self._out = to_client
        self._in = from_client

    def send_nowait(self, data: bytes | memoryview) -> int:
        """Write the bytes that fit into the pipe; returns their number."""
        return self._out.put(data)

    async def wait_writable(self) -> None:
        """Wait until the pipe has room."""
        await trio.lowlevel.checkpoint()
        await self._out.wait_for_room()

    async def receive_now(self, max_bytes: int) -> bytes | None:
        """Return available bytes, empty at the end, None if none has arrived yet."""
        await trio.lowlevel.checkpoint()
        if self._in.broken:
            raise trio.BrokenResourceError
        return self._in.take(max_bytes) if self._in.data or self._in.ended else None

    async def receive_some(self, max_bytes: int) -> bytes:
        """Wait for bytes and return them; empty at the end."""
        await trio.lowlevel.checkpoint()
        await self._in.wait_for_data()
        if self._in.broken:
            raise trio.BrokenResourceError
        return self._in.take(max_bytes)

    def unacknowledged(self) -> int:
        """Return the number of bytes that the client has not read; 0 after the close."""
        return 0 if self._in.broken else len(self._out.data)

    def send_eof(self) -> None:
        """End the stream to the client; reading continues."""
        self._out.ended = True
        self._out.change()

    def close(self) -> None:
        """Close both directions.

        As with TCP, unread bytes of the client reset the connection: the client loses the bytes
        that it has not read by then.
        """
        self._out.reset |= bool(self._in.data)
        self.send_eof()
        self._in.broken = True
        self._in.change()


class ClientStream(trio.abc.HalfCloseableStream):
    """The client's end. Without reads, the server's writes fill its capacity."""

    def __init__(self, to_client: _Pipe, from_client: _Pipe) -> None:
        self._in = to_client
        self._out = from_client
        self._bytes_per_second: AsyncValue[float] = AsyncValue(math.inf)
        self._half_open = False
        self._tear_after: int | None = None

    def throttle(self, bytes_per_second: float) -> None:
        """Limit the bytes per second to the client from now on; 0 blocks its reads."""
        self._bytes_per_second.value = bytes_per_second

    def go_half_open(self) -> None:
        """Drop all further bytes of both sides, without an error at either."""
        self._half_open = True

    def tear(self, after: int) -> None:
        """Break the connection after this many bytes of the next `send_all`."""
        self._tear_after = after

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`; waits for room."""
        rest = memoryview(data)
        await trio.lowlevel.checkpoint()
        if self._half_open:
            return
        if self._tear_after is not None:
            self._out.put(rest[: self._tear_after])
            self.break_off()
            return
        while rest:
            await self.wait_send_all_might_not_block()
            rest = rest[self._out.put(rest) :]

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the pipe has room."""
        await self._out.wait_for_room()

    async def send_eof(self) -> None:
        """End the stream to the server; reading continues."""
        await trio.lowlevel.checkpoint()
        self._out.ended = True
        self._out.change()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Wait for bytes and return them; empty at the end."""
        await trio.lowlevel.checkpoint()
        await self._in.wait_for_data()
        if self._half_open:
            await trio.sleep_forever()
        while not self._bytes_per_second.value:
            await self._bytes_per_second.wait_value(bool)
        rate = self._bytes_per_second.value
        if rate == math.inf:
            return self._in.take(max_bytes or _READ_BYTES)
        # The bytes of one second, at least one byte.
        data = self._in.take(min(max_bytes or _READ_BYTES, max(1, int(rate))))
        await trio.sleep(len(data) / rate)
        return data

    async def aclose(self) -> None:
        """Close both directions; the server's writes fail from now on."""
        self.break_off()
        await trio.lowlevel.checkpoint()

    def break_off(self) -> None:
        """Close without waiting."""
        self._in.broken = True
        self._in.change()
        self._out.ended = True
        self._out.change()


def transport_pair(capacity: int = 1 << 20) -> tuple[MemoryTransport, ClientStream]:
    """Return both ends of a connection; `capacity`: bytes buffered towards the client."""
    to_client, from_client = _Pipe(capacity), _Pipe(1 << 20)
    return MemoryTransport(to_client, from_client), ClientStream(to_client, from_client)
