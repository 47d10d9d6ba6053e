"""A network that cuts connections."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from math import inf

import trio

from odin_ws.address import Address
from odin_ws.testing.ports import LOOPBACK

__all__ = ["cutting_relay"]

# Less than a message: a cut falls anywhere.
_READ_BYTES = 100


@asynccontextmanager
async def cutting_relay(target: Address, first: int, more: int) -> AsyncIterator[Address]:
    """Relay to `target`, from the address that the block gets.

    Each connection is cut when so many bytes have come from the target: the first after `first`,
    each further one after `more` bytes more than the one before. So there is an end to it.
    """
    left = first

    async def relay(near: trio.SocketStream) -> None:
        nonlocal left
        allowed, left = left, left + more
        async with near, await trio.open_tcp_stream(*target) as far, trio.open_nursery() as nursery:
            nursery.start_soon(_pass_on, near, far)
            await _pass_on(far, near, allowed)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, relay, 0, host=LOOPBACK))
        yield Address(LOOPBACK, listener.socket.getsockname()[1])
        nursery.cancel_scope.cancel()


async def _pass_on(
    source: trio.SocketStream, sink: trio.SocketStream, maximum: float = inf
) -> None:
    """Until so many bytes have been passed on, or either side is gone."""
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while maximum > 0 and (data := await source.receive_some(_READ_BYTES)):
            maximum -= len(data)
            await sink.send_all(data)
