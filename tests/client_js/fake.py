"""A scripted server on a port."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import trio
import trio_websocket

from odin_ws.testing.ports import LOOPBACK
from tests.client_js.follower import PATIENCE, Follower, follow

__all__ = ["START", "TRADES", "FakeServer", "Visit"]

CATEGORIES: Final = {"trade": "odin.trades", "balances": "odin.balances"}
TRADES: Final = {"channels": ["*.trade"]}
START: Final = {"odin.trades": {"0": 4, "1": -1}}


class Visit:
    """The server's side of one connection; `offered`: the subprotocols that the client named."""

    def __init__(
        self, websocket: trio_websocket.WebSocketConnection, stream: trio.SocketStream
    ) -> None:
        self.offered: Sequence[str] = ()
        self._websocket = websocket
        self._stream = stream

    async def command(self) -> dict[str, Any]:
        """The next command."""
        with trio.fail_after(PATIENCE):
            command: dict[str, Any] = json.loads(await self._websocket.get_message())
        return command

    async def send_item(self, kind: str, **fields: Any) -> None:
        """Send an object."""
        await self._websocket.send_message(json.dumps({"type": kind} | fields))

    async def accept(
        self, positions: Mapping[str, Mapping[str, int]] | None = None, **more: Any
    ) -> dict[str, Any]:
        """Wait for the command, and answer that all of it took effect; returns the command."""
        command = await self.command()
        response = {
            "subscribed": ["*.trade"],
            "rejected": [],
            "count": 1,
            "positions": {} if positions is None else positions,
            "categories": CATEGORIES,
        }
        if command["type"] == "resume":
            response |= {"recovered": "lost" not in more, "replayed": 0}
        kind = "resume_ack" if command["type"] == "resume" else "subscription_ack"
        await self.send_item(kind, **response | more)
        return command

    async def message(self, seq: int, pos: str, channel: str = "BTC.trade", **more: Any) -> None:
        """Send a message, with an empty record unless `data` is given."""
        head = {"seq": seq, "ts": seq, "channel": channel, "pos": pos, "data": {}}
        await self.send_item("message", **head | more)

    async def close(self, code: int, reason: str = "because") -> None:
        """Close as a server does."""
        with trio.fail_after(PATIENCE):
            await self._websocket.aclose(code, reason)

    async def cut(self) -> None:
        """End without a close frame."""
        await trio.aclose_forcefully(self._stream)

    async def closed(self) -> None:
        """Wait until the client has closed, passing over what it still says."""
        with trio.fail_after(PATIENCE):
            while True:
                try:
                    await self._websocket.get_message()
                except trio_websocket.ConnectionClosed:
                    return


class FakeServer:
    """What clients connect to; each connection waits until the test takes it."""

    def __init__(
        self, nursery: trio.Nursery, listener: trio.SocketListener, node: list[str]
    ) -> None:
        self.url = f"ws://{LOOPBACK}:{listener.socket.getsockname()[1]}/ws"
        self._nursery = nursery
        self._listener = listener
        self._node = node
        self._streams: list[trio.SocketStream] = []

    async def accepted(self) -> trio.SocketStream:
        """The next connection, before any handshake."""
        with trio.fail_after(PATIENCE):
            stream = await self._listener.accept()
        self._streams.append(stream)
        return stream

    async def visit(self) -> Visit:
        """The next connection, upgraded."""
        stream = await self.accepted()
        with trio.fail_after(PATIENCE):
            request = await trio_websocket.wrap_server_stream(self._nursery, stream)
            # As the server does: ours, where it is offered.
            ours = "odin.v1" if "odin.v1" in request.proposed_subprotocols else None
            visit = Visit(await request.accept(subprotocol=ours), stream)
            visit.offered = request.proposed_subprotocols
            return visit

    async def aclose(self) -> None:
        """End every connection, and let nobody connect any more."""
        await self._listener.aclose()
        for stream in self._streams:
            await trio.aclose_forcefully(stream)

    def follow(
        self, subscription: Mapping[str, Any] = TRADES, **options: Any
    ) -> AbstractAsyncContextManager[Follower]:
        """A client of it; see `following.follow`."""
        return follow(self._node, self.url, subscription, **options)
