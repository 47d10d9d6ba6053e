"""A corporate proxy: it forwards requests, but rejects WebSocket upgrades."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final

import trio

from odin_ws.address import Address
from odin_ws.testing.ports import LOOPBACK

__all__ = ["Proxy", "blocking_proxy"]

_REJECTION: Final = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

_READ_BYTES: Final = 4096


class Proxy:
    """`refuses`: whether it refuses upgrades. `upgrades`, `streams`: how often it was asked."""

    def __init__(self, target: Address, cut_after: int | None) -> None:
        self.address = Address(LOOPBACK, 0)
        self.refuses = True
        self.upgrades = self.streams = 0
        self._target = target
        self._cut_after = cut_after
        self._scopes: set[trio.CancelScope] = set()

    def cut(self) -> None:
        """Cut every connection that was passed on."""
        for scope in self._scopes:
            scope.cancel()

    async def serve(self, near: trio.SocketStream) -> None:
        """Answer or pass on one connection."""
        async with near:
            head = b""
            # The server may be away.
            with suppress(trio.BrokenResourceError, OSError):
                while b"\r\n\r\n" not in head and (data := await near.receive_some(_READ_BYTES)):
                    head += data
                is_upgrade = b"upgrade: websocket" in head.lower()
                self.upgrades += is_upgrade
                self.streams += head.startswith(b"GET /sse")
                if is_upgrade and self.refuses:
                    await near.send_all(_REJECTION)
                elif head:
                    await self._pass_on(near, head)

    async def _pass_on(self, near: trio.SocketStream, head: bytes) -> None:
        allowed = self._cut_after
        if allowed is not None:
            # Each connection brings more than the one before: so there is an end to it.
            self._cut_after = allowed + allowed // 4
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            async with (
                await trio.open_tcp_stream(*self._target) as far,
                trio.open_nursery() as nursery,
            ):
                await far.send_all(head)
                nursery.start_soon(_copy, near, far, None)
                await _copy(far, near, allowed)
                nursery.cancel_scope.cancel()
        self._scopes.discard(scope)


async def _copy(source: trio.SocketStream, sink: trio.SocketStream, left: int | None) -> None:
    """Pass bytes on until either side is gone, or so many have been passed on."""
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while (left is None or left > 0) and (
            data := await source.receive_some(_READ_BYTES if left is None else min(left, 100))
        ):
            left = None if left is None else left - len(data)
            await sink.send_all(data)


@asynccontextmanager
async def blocking_proxy(target: Address, *, cut_after: int | None = None) -> AsyncIterator[Proxy]:
    """A proxy for the length of the block.

    `cut_after`: it cuts the first connection when so many bytes have come to the client, and later
    ones after more.
    """
    proxy = Proxy(target, cut_after)
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, proxy.serve, 0, host=LOOPBACK))
        proxy.address = Address(LOOPBACK, listener.socket.getsockname()[1])
        yield proxy
        nursery.cancel_scope.cancel()
