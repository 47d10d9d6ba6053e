"""The stream that trio-websocket sees: our outbox to write to, the head we read to read again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from odin_ws.connection.outbox import Outbox
from odin_ws.connection.transport import Transport

__all__ = ["OutboxStream"]

_CLOSE_OPCODE: Final = 0x88


class OutboxStream(trio.abc.Stream):
    """Makes a WebSocket connection write through the outbox, in order with everybody's messages.

    `head` is read first. What the peer sent behind it follows once the head was answered: the
    library throws away what comes before. `heard` is called with the length of whatever comes
    from the peer. `close_sent`: the code of the close frame the library sent.
    """

    __slots__ = (
        "_answered",
        "_closed",
        "_head",
        "_heard",
        "_outbox",
        "_rest",
        "_transport",
        "close_sent",
    )

    def __init__(
        self,
        transport: Transport,
        outbox: Outbox,
        head: bytes,
        rest: bytes,
        heard: Callable[[int], None],
    ) -> None:
        self.close_sent: int | None = None
        self._transport = transport
        self._outbox = outbox
        self._head = head
        self._rest = rest
        self._answered = trio.Event()
        self._heard = heard
        self._closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Put `data` into the outbox, which is bounded; never waits for the peer."""
        await trio.lowlevel.checkpoint()
        if self._closed:
            raise trio.ClosedResourceError
        frame = bytes(data)
        if frame and frame[0] == _CLOSE_OPCODE:
            self.close_sent = int.from_bytes(frame[2:4], "big")
        self._outbox.write(frame)
        self._answered.set()

    async def wait_send_all_might_not_block(self) -> None:
        """Nothing to wait for: `send_all` does not block."""
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What comes next: the head, then the peer's bytes."""
        if self._closed:
            raise trio.ClosedResourceError
        if self._head:
            await trio.lowlevel.checkpoint()
            data, self._head = self._head, b""
            return data
        await self._answered.wait()
        data, self._rest = self._rest, b""
        if not data:
            data = await self._transport.receive_some(max_bytes or 4096)
        self._heard(len(data))
        return data

    async def aclose(self) -> None:
        """Stop reading and writing; the connection closes the transport when all is sent."""
        self._closed = True
        await trio.lowlevel.checkpoint()
