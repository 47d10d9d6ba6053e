"""Serves one HTTP request on a stream with an ASGI app (h11)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import attrs
import h11
import trio
from starlette.types import ASGIApp, Message, Scope

__all__ = ["BadRequest", "HttpExchange", "StreamRules"]

# Maximum size of a head; h11 rejects a larger one with 431. A request line, a token and a browser's
# headers have 2 KiB.
_MAX_HEAD_BYTES: Final = 16 * 1024
_READ_BYTES: Final = 16 * 1024

# A request has one or two segments. After 3 reads the server pauses before each read: a client
# that sends single bytes would wake the event loop for each byte.
_PROMPT_READS: Final = 3
_PAUSE_SECONDS: Final = 0.05

# Maximum bytes from a client during a stream: they are dropped; more close the connection.
_STREAM_INPUT_BYTES: Final = 64 * 1024

# Seconds for a client to close first after its response: a reset would discard the response.
_LINGER_SECONDS: Final = 1.0
_LINGER_BYTES: Final = 64 * 1024


class BadRequest(Exception):
    """The client did not send valid HTTP; a 4xx was sent if possible."""


@attrs.frozen
class StreamRules:
    """The limits of a response in several parts."""

    time_limit: trio.CancelScope
    """The limit around the exchange; for a stream the deadline of each part."""
    part_seconds: float
    """Seconds in which the client must receive a part."""
    begin: Callable[[], None]
    """Called before the first part."""


class HttpExchange:
    """Reads one request, sends the app's response, and closes the connection.

    A response in one part is sent after the app has returned, so that a slow client does not block
    the app. A response in several parts (ASGI's `more_body`) is a stream: the app waits until each
    part is sent, and nothing is buffered.

    Args:
        stream: the connection.
        app: the ASGI app.
        server: the local address of the connection, if known.
        rules: the limits of a stream.
    """

    def __init__(
        self,
        stream: trio.abc.HalfCloseableStream,
        app: ASGIApp,
        server: tuple[str, int | None] | None,
        rules: StreamRules,
    ) -> None:
        self._stream = stream
        self._app = app
        self._server = server
        self._rules = rules
        self._streaming = False
        self._head_sent = trio.Event()  # set after the head of a stream
        self._has_body = True
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD_BYTES)
        self._reads = 0
        self._whole = False
        self._start: Message | None = None
        self._body = b""

    async def run(self) -> None:
        """Serve the request; does nothing if the client disconnects before.

        Raises BadRequest, trio.BrokenResourceError, and exceptions of the app after its response
        was sent.
        """
        try:
            request = await self._next_event()
            if not isinstance(request, h11.Request):
                return
            self._has_body = request.method != b"HEAD"
            try:
                await self._app(self._scope(request), self._receive, self._send)
            except (h11.RemoteProtocolError, trio.BrokenResourceError):
                raise
            except Exception:
                # Starlette has passed its error response to `_send`; the caller logs the exception.
                if not self._streaming:
                    await self._respond()
                raise
            await self._respond()
        except h11.RemoteProtocolError as error:
            await self._reject(error)
            raise BadRequest(str(error)) from error

    async def _next_event(self) -> h11.Event | type[h11.PAUSED]:
        """Return the next event of the request. Raises h11.RemoteProtocolError."""
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event  # type: ignore[return-value]  # NEED_DATA is the other sentinel
            if self._http.they_are_waiting_for_100_continue:
                await self._write([h11.InformationalResponse(status_code=100, headers=[])])
            self._http.receive_data(await self._read())

    async def _read(self) -> bytes:
        """Return the next bytes; pauses before each read after the first `_PROMPT_READS` reads."""
        self._reads += 1
        if self._reads > _PROMPT_READS:
            await trio.sleep(_PAUSE_SECONDS)
        return bytes(await self._stream.receive_some(_READ_BYTES))

    def _scope(self, request: h11.Request) -> Scope:
        path, _, query = request.target.partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": request.http_version.decode("ascii"),
            "method": request.method.decode("ascii"),
            "scheme": "http",
            "path": unquote_to_bytes(path).decode("utf-8", "replace"),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": list(request.headers),
            "client": None,
            "server": self._server,
        }

    async def _receive(self) -> Message:
        """See ASGI: return the request's body, and after the body wait for the disconnection.

        The wait also ends if the client sends more than is dropped during a stream.
        """
        event = None if self._whole else await self._next_event()
        if isinstance(event, h11.Data):
            return {"type": "http.request", "body": bytes(event.data), "more_body": True}
        if isinstance(event, h11.EndOfMessage):
            self._whole = True
            return {"type": "http.request", "body": b"", "more_body": False}
        if self._has_body:
            await self._disconnected()
        else:
            # A HEAD request ends after the head, also for a stream.
            await self._head_sent.wait()
        return {"type": "http.disconnect"}

    async def _disconnected(self) -> None:
        """Wait until the client disconnects, or exceeds the bytes dropped during a stream."""
        remaining = _STREAM_INPUT_BYTES
        try:
            while remaining > 0 and (data := await self._read()):
                remaining -= len(data)
        except trio.BrokenResourceError:
            return

    async def _send(self, message: Message) -> None:
        """See ASGI: send the response. Raises trio.BrokenResourceError for a stream."""
        if message["type"] == "http.response.start":
            self._start, self._body = message, b""
        elif self._streaming or message.get("more_body", False):
            await self._send_part(message.get("body", b""))
        else:
            self._body = message.get("body", b"")

    async def _send_part(self, body: bytes) -> None:
        """Send a part of a stream, with the head before the first; waits until it is written."""
        events: list[Any] = []
        if not self._streaming and self._start is not None:
            self._streaming = True
            self._rules.begin()
            events.append(_head(HTTPStatus(self._start["status"]), self._start["headers"]))
        if body and self._has_body:
            events.append(h11.Data(body))
        self._limit_part()
        await self._write(events)
        self._head_sent.set()
        self._rules.time_limit.deadline = math.inf

    def _limit_part(self) -> None:
        """Set the deadline of a part to `part_seconds` from now."""
        self._rules.time_limit.deadline = trio.current_time() + self._rules.part_seconds

    async def _respond(self) -> None:
        """Send the whole response, or the end of a stream, and end the connection."""
        if self._streaming:
            self._limit_part()
            await self._end([h11.EndOfMessage()])
        elif self._start is not None:
            body = self._body if self._has_body else b""
            await self._send_whole(HTTPStatus(self._start["status"]), self._start["headers"], body)

    async def _reject(self, error: h11.RemoteProtocolError) -> None:
        """Send a 4xx with the reason, unless a response has begun."""
        if self._http.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            body = f"bad request: {error}\n".encode("ascii", "backslashreplace")
            headers = [(b"content-type", b"text/plain; charset=us-ascii")]
            headers.append((b"content-length", str(len(body)).encode()))
            await self._send_whole(HTTPStatus(error.error_status_hint), headers, body)

    async def _send_whole(
        self, status: HTTPStatus, headers: Iterable[tuple[bytes, bytes]], body: bytes
    ) -> None:
        data = [h11.Data(body)] if body else []
        await self._end([_head(status, headers), *data, h11.EndOfMessage()])

    async def _end(self, events: Iterable[Any]) -> None:
        """Send the last events, and let the client close first."""
        await self._write(events)
        await self._linger()

    async def _write(self, events: Iterable[Any]) -> None:
        await self._stream.send_all(b"".join(self._http.send(event) or b"" for event in events))

    async def _linger(self) -> None:
        """Half-close the connection; drop received bytes while the client reads the response."""
        await self._stream.send_eof()
        remaining = _LINGER_BYTES
        with trio.move_on_after(_LINGER_SECONDS):
            while remaining > 0 and (data := await self._read()):
                remaining -= len(data)


def _head(status: HTTPStatus, headers: Iterable[tuple[bytes, bytes]]) -> h11.Response:
    """Return the head of a response; without a length its body is sent in chunks."""
    own = [(b"date", formatdate(usegmt=True).encode()), (b"connection", b"close")]
    return h11.Response(status_code=status, reason=status.phrase.encode(), headers=[*headers, *own])
