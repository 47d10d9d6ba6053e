"""Brokers on loopback that answer as a test says, written with aiokafka's own structures."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import attrs
import trio
from aiokafka.protocol.metadata import MetadataResponse_v4
from aiokafka.protocol.offset import OffsetResponse_v1

from odin_ws.testing.ports import LOOPBACK

__all__ = ["API_VERSIONS", "LIST_OFFSETS", "METADATA", "LoopbackBroker", "loopback_broker"]

LIST_OFFSETS: Final = 2
METADATA: Final = 3
API_VERSIONS: Final = 18

Answer = Callable[[bytes], Awaitable[bytes]]


@attrs.define(eq=False)
class LoopbackBroker:
    """One broker. `listed`: the brokers that its metadata names, by node id.

    `hangs`: it answers nothing. `garbles`: API keys that it answers with bytes of no sense.
    `versions`: by API key. `asked`: counts requests by API key. `open`: connections now;
    `accepted`: in all.
    """

    port: int = 0
    listed: Mapping[int, tuple[str, int]] = attrs.field(factory=dict)
    hangs: bool = False
    garbles: Mapping[int, bytes] = attrs.field(factory=dict)
    versions: Mapping[int, tuple[int, int]] = attrs.field(
        factory=lambda: {LIST_OFFSETS: (0, 1), METADATA: (0, 4), API_VERSIONS: (0, 0)}
    )
    asked: Counter[int] = attrs.field(factory=Counter)
    open: int = 0
    accepted: int = 0
    closed: trio.Event = attrs.field(factory=trio.Event)
    scopes: list[trio.CancelScope] = attrs.field(factory=list)
    responses: dict[int, Answer] = attrs.field(factory=dict)

    @property
    def address(self) -> str:
        """As in KAFKA_BROKERS."""
        return f"{LOOPBACK}:{self.port}"

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answer every request of a connection."""
        self.open += 1
        self.accepted += 1
        scope = trio.CancelScope()
        self.scopes.append(scope)
        try:
            with scope:
                await self._serve(stream)
        except trio.BrokenResourceError:
            # The client has closed without reading the answer.
            pass
        finally:
            self.open -= 1
            self.closed.set()

    async def _serve(self, stream: trio.SocketStream) -> None:
        data = b""
        while more := await stream.receive_some():
            data += more
            while len(data) >= 4 and len(data) >= (end := 4 + struct.unpack_from("!i", data)[0]):
                key, _version, correlation = struct.unpack_from("!hhi", data, 4)
                self.asked[key] += 1
                request, data = data[12:end], data[end:]
                if not self.hangs:
                    response = struct.pack("!i", correlation) + await self._answer(key, request)
                    await stream.send_all(struct.pack("!i", len(response)) + response)

    def disconnect(self) -> None:
        """Close all connections."""
        for scope in self.scopes:
            scope.cancel()
        self.scopes.clear()

    async def _answer(self, key: int, request: bytes) -> bytes:
        if key in self.garbles:
            return self.garbles[key]
        if key in self.responses:
            return await self.responses[key](request)
        if key == API_VERSIONS:
            several = [struct.pack("!hhh", api, *span) for api, span in self.versions.items()]
            return struct.pack("!hi", 0, len(several)) + b"".join(several)
        if key == METADATA:
            brokers = [(node, *address, None) for node, address in self.listed.items()]
            return bytes(MetadataResponse_v4(0, brokers, "cluster", 0, []).encode())
        topics: Sequence[Any] = [("odin.trades", [(0, 0, -1, 7)])]
        return bytes(OffsetResponse_v1(topics).encode())


@asynccontextmanager
async def loopback_broker(**options: Any) -> AsyncIterator[LoopbackBroker]:
    """A broker that runs for the length of the block; its metadata names itself as node 0."""
    broker = LoopbackBroker(**options)
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, broker.serve, 0, host=LOOPBACK)
        listeners = await nursery.start(serve)
        broker.port = listeners[0].socket.getsockname()[1]
        broker.listed = {0: (LOOPBACK, broker.port), **broker.listed}
        yield broker
        nursery.cancel_scope.cancel()
