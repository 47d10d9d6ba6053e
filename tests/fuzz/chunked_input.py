"""Bytes from a fuzzer, as a network brings them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import trio
from trio.testing import MockClock

from odin_ws.listener.transport import Transport
from odin_ws.testing.memory_connection import transport_pair
from tests.virtual_time import in_virtual_time

__all__ = ["pieces", "source_status"]

T = TypeVar("T")

# How long a piece is, by the first byte: in one go, byte by byte, or as networks cut.
_SIZES: Final = (1 << 20, 1, 7, 100)


def pieces(data: bytes) -> list[bytes]:
    """All but the first byte, which says how it is cut."""
    size = _SIZES[data[0] % len(_SIZES)] if data else 1
    return [data[at : at + size] for at in range(1, len(data), size)]


def source_status(data: bytes, read: Callable[[Transport], Awaitable[T]]) -> T | None:
    """What a reader makes of it, from a peer that goes away then; None where that is all it sees.

    What the reader raises is raised here.
    """

    async def main(_clock: MockClock) -> T | None:
        wire, stream = transport_pair()
        for piece in pieces(data):
            await stream.send_all(piece)
        await stream.send_eof()
        try:
            with trio.fail_after(60):
                return await read(wire)
        except trio.BrokenResourceError:
            return None

    return in_virtual_time(main)
