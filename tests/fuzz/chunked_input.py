"""Splits a fuzzer's bytes into chunks, as a network does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import trio
from trio.testing import MockClock

from odin_ws.listener.transport import Transport
from odin_ws.testing.memory_connection import transport_pair
from tests.virtual_time import in_virtual_time

__all__ = ["chunks", "source_status"]

T = TypeVar("T")

# Chunk size by the first byte: everything at once, byte by byte, or as networks split.
_SIZES: Final = (1 << 20, 1, 7, 100)


def chunks(data: bytes) -> list[bytes]:
    """Split all bytes but the first, which selects the size."""
    size = _SIZES[data[0] % len(_SIZES)] if data else 1
    return [data[at : at + size] for at in range(1, len(data), size)]


def source_status(data: bytes, read: Callable[[Transport], Awaitable[T]]) -> T | None:
    """Return what a reader makes of the bytes of a peer that then closes; None if the peer is gone.

    An exception of the reader is raised here.
    """

    async def main(_clock: MockClock) -> T | None:
        wire, stream = transport_pair()
        for chunk in chunks(data):
            await stream.send_all(chunk)
        await stream.send_eof()
        try:
            with trio.fail_after(60):
                return await read(wire)
        except trio.BrokenResourceError:
            return None

    return in_virtual_time(main)
