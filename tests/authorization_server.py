"""An authorization server on loopback, with responses set by a test."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import orjson
import trio

from odin_ws.testing.ports import LOOPBACK

__all__ = ["halves", "response", "server_with"]


@asynccontextmanager
async def server_with(
    answered: bytes | Callable[[bytes], bytes],
) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Serve one response for all requests, or one for each; gives its URL and the requests."""
    requests: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            request = await _read_request(stream)
            requests.append(request)
            data = answered if isinstance(answered, bytes) else answered(request)
            with contextlib.suppress(trio.BrokenResourceError):  # if the client reads no further
                await stream.send_all(data)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host=LOOPBACK))
        yield f"http://{LOOPBACK}:{listeners[0].socket.getsockname()[1]}/token", requests
        nursery.cancel_scope.cancel()


def response(status: str, body: Any) -> bytes:
    """Return an HTTP response; `body` is bytes, or becomes JSON."""
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


def halves(request: bytes) -> tuple[bytes, bytes]:
    """Split a request into head and body."""
    head, _, body = request.partition(b"\r\n\r\n")
    return head + b"\r\n", body


async def _read_request(stream: trio.SocketStream) -> bytes:
    data = b""
    while len(data) < _size_of(data):
        more = await stream.receive_some()
        assert more, data
        data += more
    return data


def _size_of(request: bytes) -> int:
    """The size of the whole request, as far as it is known."""
    head, end, _ = request.partition(b"\r\n\r\n")
    size = re.search(rb"content-length: (\d+)", head.lower())
    return len(head + end) + int(size[1]) if end and size else len(request) + 1
