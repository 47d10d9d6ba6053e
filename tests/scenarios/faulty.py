"""A wire with a bug: what the server meets when its own code for one connection fails."""

from __future__ import annotations

import trio

from odin_ws.listener.transport import Transport
from odin_ws.testing.memory_connection import transport_pair
from odin_ws.testing.scenario import Scenario
from tests.scenarios.wire import RawClient, request

__all__ = ["BuggyTransport", "open_buggy"]


class BuggyTransport:
    """Another transport that raises, when told to, what nobody foresees."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._waiting = trio.CancelScope()
        self._failing = False

    def fail(self) -> None:
        """Raise from one receive, the one that waits now or the next; those after it work again."""
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
        """See Transport, but for `fail`."""
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
    """An upgraded connection and its wire."""
    transport, stream = transport_pair()
    buggy = BuggyTransport(transport)
    await scenario.attach(buggy)
    client = RawClient(stream)
    await stream.send_all(request())
    assert (await client.head()).startswith(b"HTTP/1.1 101 ")
    return client, buggy
