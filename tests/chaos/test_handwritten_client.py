"""The handwritten client keeps positions as docs/protocol.md says, and resumes from them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import trio
from trio_websocket import WebSocketConnection, WebSocketRequest, serve_websocket

from odin_ws.testing.ports import LOOPBACK
from tests.chaos import handwritten_client
from tests.chaos.journal import Journal
from tests.chaos.ledger import pack
from tests.chaos.plan import ClientSpec

PATIENCE = 10

ACK = {"subscribed": ["A.trade"], "rejected": [], "categories": {"trade": "odin.trades"}}


class Server:
    """Gives the connections of a client, one after the other."""

    def __init__(self, connections: trio.MemoryReceiveChannel[WebSocketConnection]) -> None:
        self._connections = connections

    async def command(self) -> tuple[WebSocketConnection, dict[str, Any]]:
        """Return the next connection, and its first command."""
        with trio.fail_after(PATIENCE):
            connection = await self._connections.receive()
            command: dict[str, Any] = orjson.loads(await connection.get_message())
        return connection, command


@asynccontextmanager
async def server_with_client(journal: Journal) -> AsyncIterator[Server]:
    """Run a server and a client that connects to it, for the length of the block."""
    arrived, connections = trio.open_memory_channel[WebSocketConnection](1)

    async def handle(request: WebSocketRequest) -> None:
        connection = await request.accept()
        await arrived.send(connection)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        serve = await nursery.start(serve_websocket, handle, LOOPBACK, 0, None)
        url = f"ws://{LOOPBACK}:{serve.port}/ws"
        nursery.start_soon(
            handwritten_client.follow, ClientSpec("c", ("A.trade",), "handwritten", url), journal
        )
        yield Server(connections)
        nursery.cancel_scope.cancel()


async def send(connection: WebSocketConnection, **fields: Any) -> None:
    """Send a JSON object."""
    await connection.send_message(orjson.dumps(fields).decode())


async def test_client_resumes_with_the_largest_offsets() -> None:
    """Acks, messages and `positions` advance a position, and none moves it back."""
    journal = Journal("c")
    async with server_with_client(journal) as server:
        connection, command = await server.command()
        assert command["type"] == "subscribe"
        start = {"odin.trades": {"0": 3, "1": 3, "2": 3}}
        await send(connection, type="subscription_ack", positions=start, **ACK)
        for offset in (4, 5):
            await send(connection, type="message", channel="A.trade", pos=f"0-{offset}", ts=1)
        reached = {"odin.trades": {"0": 4, "1": 9}}
        await send(connection, type="positions", positions=reached)
        await connection.aclose(1012)

        connection, command = await server.command()
        assert command["type"] == "resume"
        assert command["data"]["positions"] == {"odin.trades": {"0": 5, "1": 9, "2": 3}}
    assert list(journal.positions) == [pack(0, 0, 4), pack(0, 0, 5)]
    assert [event.kind for event in journal.events] == ["subscribed", "closed"]
