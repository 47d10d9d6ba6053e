"""An ops server with a few pages, and its clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from trio.testing import MemoryReceiveStream, memory_stream_pair

from odin_ws.ops.server import OpsLimits, OpsServer
from odin_ws.ops.stats import OpsStats

__all__ = ["GET", "Ops", "Stream", "exchange", "response", "run"]

GET = b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n"

Stream = trio.StapledStream[Any, MemoryReceiveStream]

GET = b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Ops:
    """A server of a few pages.

    `reads`: of all connections; `served`: whether each was in time; `parts`: that streams have
    sent; `streams`: that are under way.
    """

    def __init__(self, nursery: trio.Nursery, limits: OpsLimits | None = None) -> None:
        self.asked = 0
        self.parts = 0
        self.streams = 0
        self.reads = 0
        self.served: list[bool] = []
        self.stats = OpsStats()
        self.app = Starlette(
            routes=[
                Route("/page", self._page),
                Route("/large", self._large),
                Route("/fails", self._fails),
                Route("/waits", self._waits),
                Route("/arrived", self._arrived),
                Route("/echo", self._echo, methods=["POST"]),
                Route("/stream", self._stream),
                Route("/breaks", self._breaks),
            ]
        )
        self.server = OpsServer(self.app, self.stats, limits)
        self._nursery = nursery

    async def _page(self, _request: Request) -> Response:
        self.asked += 1
        return PlainTextResponse("a page\n")

    async def _large(self, _request: Request) -> Response:
        return PlainTextResponse("x" * 1_000_000)

    async def _fails(self, _request: Request) -> Response:
        raise RuntimeError("a bug of a page")

    async def _arrived(self, request: Request) -> Response:
        return PlainTextResponse(str(request.scope["server"]))

    async def _waits(self, _request: Request) -> Response:
        await trio.sleep_forever()
        raise AssertionError

    async def _stream(self, request: Request) -> Response:
        query = request.query_params
        return _Stream(self, int(query.get("size", "0")), float(query.get("pause", "1")))

    async def _breaks(self, _request: Request) -> Response:
        async def lines() -> AsyncIterator[str]:
            yield "a line\n"
            raise RuntimeError("a bug of a stream")

        return StreamingResponse(lines())

    async def _echo(self, request: Request) -> Response:
        return Response(await request.body())

    def connect(self, peer: str = "192.0.2.1", capacity: int | None = None) -> Stream:
        """Return the client's end of a new connection; `capacity`: bytes that it holds."""
        client, served = memory_stream_pair()
        served.receive_stream.receive_some_hook = self._count_read
        if capacity is not None:
            served = trio.StapledStream(_Narrow(served, capacity), served)  # type: ignore[arg-type]
        self._nursery.start_soon(self._serve, served, peer)
        return client

    async def _count_read(self) -> None:
        self.reads += 1

    async def _serve(self, stream: Any, peer: str) -> None:
        async with stream:
            self.served.append(await self.server.serve(stream, peer))


class _Stream(StreamingResponse):
    """A line of at least `size` characters every `pause` seconds, forever."""

    def __init__(self, ops: Ops, size: int, pause: float) -> None:
        super().__init__(self)
        self._ops = ops
        self._size = size
        self._pause = pause
        self._first = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        self._ops.streams += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ops.streams -= 1

    def __aiter__(self) -> _Stream:
        return self

    async def __anext__(self) -> str:
        if not self._first:
            await trio.sleep(self._pause)
        self._first = False
        self._ops.parts += 1
        return f"{self._ops.parts}".ljust(self._size) + "\n"


class _Narrow:
    """The sending side of a connection that takes `capacity` bytes: its client reads nothing."""

    def __init__(self, stream: Any, capacity: int) -> None:
        self._stream = stream
        self._left = capacity

    async def send_all(self, data: bytes) -> None:
        """See trio.abc.SendStream."""
        part, self._left = data[: self._left], max(0, self._left - len(data))
        await self._stream.send_all(part)
        if len(part) < len(data):
            await trio.sleep_forever()

    async def aclose(self) -> None:
        """See trio.abc.AsyncResource."""
        await self._stream.aclose()


Test = Callable[[Ops], Awaitable[None]]


async def run(test: Test, limits: OpsLimits | None = None) -> None:
    """Run a test with a server."""
    async with trio.open_nursery() as nursery:
        await test(Ops(nursery, limits))
        nursery.cancel_scope.cancel()


async def response(stream: Stream) -> bytes:
    """Return all bytes until the server ends the connection."""
    received = b""
    while data := await stream.receive_some(65536):
        received += bytes(data)
    await stream.aclose()
    return received


async def exchange(ops: Ops, request: bytes) -> bytes:
    """Send bytes on a new connection; return the response."""
    stream = ops.connect()
    await stream.send_all(request)
    return await response(stream)
