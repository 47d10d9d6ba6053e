"""An send queue on a wire that takes what a test says, and frames to send through it."""

from __future__ import annotations

from typing import Final

import trio

from odin_ws.connection.send_queue import SendQueue
from odin_ws.protocol.frames import close_frame, text_frame
from tests.connection.fakes import FakeTransport
from tests.wire_decoder import messages

__all__ = ["CLOSE", "GRACE", "LIMIT", "Sender", "frame", "numbers"]

LIMIT: Final = 100
GRACE: Final = 10.0
CLOSE: Final = close_frame(1008, "slow")


class Sender:
    """An send queue with its transport, and what a connection does around it."""

    def __init__(
        self, nursery: trio.Nursery, *, room: int | None = None, limit: int = LIMIT
    ) -> None:
        self.transport = FakeTransport(room=room)
        self.drains = 0
        self.slow_at: list[float] = []
        self.idle = 0
        self._nursery = nursery
        self.send_queue = SendQueue(
            self.transport,
            limit=limit,
            grace=GRACE,
            wake=self._wake,
            slow=self._slow,
            idle=self._idle,
        )

    def _wake(self) -> None:
        self.drains += 1
        self._nursery.start_soon(self.send_queue.drain)

    def _slow(self) -> None:
        self.slow_at.append(trio.current_time())
        self.send_queue.finish(CLOSE, flush=False)

    def _idle(self) -> None:
        assert self.send_queue.empty
        self.idle += 1


def frame(number: int, size: int = 10) -> bytes:
    """A text frame that tells its number, of `size` bytes at least."""
    return text_frame(b'{"n":%3d%b}' % (number, b" " * (size - 9)))


def numbers(data: bytes | bytearray) -> list[int]:
    """The numbers of such frames."""
    return [message["n"] for message in messages(bytes(data))]
