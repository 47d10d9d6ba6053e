"""A transport without a socket, whose peer and kernel do what a test says."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import trio

__all__ = ["FakeTransport"]


class FakeTransport:
    """Takes as many bytes as it is given room for, and gives what a test has put in.

    `room`: how many bytes the kernel takes until it is given more, None for any number.
    `at_most`: how many it takes at once.
    """

    def __init__(self, received: Iterable[bytes] = (), *, room: int | None = None) -> None:
        self.sent = bytearray()
        self.sends = 0
        self.eof = False
        self.broken = False
        self.room = room
        self.at_most: int | None = None
        self._received = deque(received)
        self._changed = trio.Event()

    # ---- for the test

    def make_room(self, size: int) -> None:
        """Let the kernel take so many bytes more."""
        self.room = (self.room or 0) + size
        self._change()

    def put(self, data: bytes) -> None:
        """Let the peer send; no bytes are the end of its stream."""
        self._received.append(data)
        self._change()

    def break_off(self) -> None:
        """Lose the connection."""
        self.broken = True
        self._change()

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # ---- for the connection: see Transport

    def send_nowait(self, data: bytes | memoryview) -> int:
        """Take what there is room for."""
        self.sends += 1
        if self.broken:
            raise trio.BrokenResourceError
        limits = [limit for limit in (self.room, self.at_most) if limit is not None]
        on_drained = bytes(data[: min(limits, default=len(data))])
        self.sent += on_drained
        if self.room is not None:
            self.room -= len(on_drained)
        return len(on_drained)

    async def wait_writable(self) -> None:
        """Wait for room."""
        await trio.lowlevel.checkpoint()
        while self.room == 0 and not self.broken:
            await self._changed.wait()

    async def receive_now(self, max_bytes: int) -> bytes | None:
        """Give what the peer has sent."""
        return await self.receive_some(max_bytes) if self._received else None

    async def receive_some(self, max_bytes: int) -> bytes:
        """Wait for what the peer sends."""
        await trio.lowlevel.checkpoint()
        while not self._received:
            if self.broken:
                raise trio.BrokenResourceError
            await self._changed.wait()
        data = self._received.popleft()
        if len(data) > max_bytes:
            self._received.appendleft(data[max_bytes:])
        return data[:max_bytes]

    def unacknowledged(self) -> int:
        """The peer has confirmed everything."""
        return 0

    def send_eof(self) -> None:
        """Note it."""
        self.eof = True

    def close(self) -> None:
        """Wake whoever waits."""
        self.break_off()
