"""A TCP proxy that delays, resets and drops, like a faulty network."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Final

import trio

from odin_ws.testing.ports import LOOPBACK

__all__ = ["FaultProxy", "open_fault_proxy"]

# Maximum number of chunks in flight per direction; beyond it, the proxy stops reading.
_CHUNKS_ON_THE_WAY: Final = 1000

# struct linger: a close discards unsent bytes and resets the connection.
_RESET: Final = struct.pack("ii", 1, 0)


# (time of delivery, bytes)
_Chunk = tuple[float, bytes | bytearray]


class _Link:
    """One connection through the proxy."""

    def __init__(self, ends: tuple[trio.SocketStream, trio.SocketStream]) -> None:
        self.ends = ends
        self.frozen = False
        self.scope = trio.CancelScope()

    def cut(self) -> None:
        for end in self.ends:
            end.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.scope.cancel()


class FaultProxy:
    """Forwards connections to `targets` (ports) in turn; skips targets that reject.

    Attributes:
        delay: the delay of all bytes in seconds, in each direction; may change at any time.
    """

    def __init__(self, targets: Sequence[int]) -> None:
        self.delay = 0.0
        self._targets = list(targets)
        self._links: set[_Link] = set()

    @property
    def connections(self) -> int:
        """The number of current connections."""
        return len(self._links)

    def freeze(self) -> int:
        """Drop all further bytes of the current connections, in both directions.

        Neither side receives an error or the end of the other's stream. Returns the number of
        connections.
        """
        for link in self._links:
            link.frozen = True
        return len(self._links)

    def cut(self) -> int:
        """Reset the current connections on both sides; return their number."""
        count = len(self._links)
        for link in list(self._links):
            link.cut()
        return count

    async def serve(self, near: trio.SocketStream) -> None:
        """Forward one connection until both sides have ended it."""
        far = await self._connect()
        if far is None:
            await trio.aclose_forcefully(near)
            return
        link = _Link((near, far))
        self._links.add(link)
        try:
            with link.scope:
                async with near, far, trio.open_nursery() as nursery:
                    nursery.start_soon(self._carry, link, near, far)
                    nursery.start_soon(self._carry, link, far, near)
        finally:
            self._links.discard(link)

    async def _connect(self) -> trio.SocketStream | None:
        for _ in self._targets:
            port = self._targets.pop(0)
            self._targets.append(port)
            with suppress(OSError):
                return await trio.open_tcp_stream(LOOPBACK, port)
        return None

    async def _carry(self, link: _Link, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        send, receive = trio.open_memory_channel[_Chunk](_CHUNKS_ON_THE_WAY)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._deliver, link, receive, sink)
            async with send:
                with suppress(trio.BrokenResourceError):
                    async for chunk in source:
                        if not link.frozen:
                            await send.send((trio.current_time() + self.delay, chunk))
        if link.frozen:
            return  # a frozen connection does not forward the end
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await sink.send_eof()

    async def _deliver(
        self,
        link: _Link,
        chunks: trio.MemoryReceiveChannel[_Chunk],
        sink: trio.SocketStream,
    ) -> None:
        async with aclosing(chunks):
            async for due, chunk in chunks:
                await trio.sleep_until(due)
                if link.frozen:
                    continue
                try:
                    await sink.send_all(chunk)
                except trio.BrokenResourceError:
                    # The end of one side is forwarded to the other.
                    link.scope.cancel()
                    return


@asynccontextmanager
async def open_fault_proxy(targets: Sequence[int]) -> AsyncIterator[tuple[FaultProxy, int]]:
    """Run a proxy for the length of the block; yields the proxy and its port."""
    proxy = FaultProxy(targets)
    async with trio.open_nursery() as nursery:
        # Backlog for a burst of clients that reconnect at once.
        listeners = await trio.open_tcp_listeners(0, host=LOOPBACK, backlog=1024)
        nursery.start_soon(trio.serve_listeners, proxy.serve, listeners)
        yield proxy, listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()
