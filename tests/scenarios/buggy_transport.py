"""A transport with a bug, to test how the server handles exceptions of its own code."""

from __future__ import annotations

import trio

from odin_ws.listener.transport import Transport
from odin_ws.testing.memory_connection import transport_pair
from odin_ws.testing.scenario import Scenario
from tests.scenarios.wire import RawClient, request

__all__ = ["BuggyTransport", "open_buggy"]


class BuggyTransport:
    """A transport that raises an unexpected exception on request."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._waiting = trio.CancelScope()
        self._failing = False

    def fail(self) -> None:
        """Raise from the receive that waits now, or from the next one; later ones work again."""
        self._failing = True
        self._waiting.cancel()

    def send_nowait(self, data: bytes | memoryview) -> int:
        """See Transport."""
        return self._transport.send_nowait(data)

    async def wait_writable(self) -> None:
        """See Transport."""
        await self._transport.wait_writable()

    async def receive_now(self, max_bytes: int) -> bytes | None:
        """See Transport."""
        return await self._transport.receive_now(max_bytes)

    async def receive_some(self, max_bytes: int) -> bytes:
        """See Transport; raises after `fail`."""
        with trio.CancelScope() as self._waiting:
            if not self._failing:
                return await self._transport.receive_some(max_bytes)
        self._failing = False
        raise ZeroDivisionError("a bug in one connection")

    def unacknowledged(self) -> int:
        """See Transport."""
        return self._transport.unacknowledged()

    def send_eof(self) -> None:
        """See Transport."""
        self._transport.send_eof()

    def close(self) -> None:
        """See Transport."""
        self._transport.close()


async def open_buggy(scenario: Scenario) -> tuple[RawClient, BuggyTransport]:
    """Return an upgraded connection and its transport."""
    transport, stream = transport_pair()
    buggy = BuggyTransport(transport)
    await scenario.attach(buggy)
    client = RawClient(stream)
    await stream.send_all(request())
    assert (await client.head()).startswith(b"HTTP/1.1 101 ")
    return client, buggy
