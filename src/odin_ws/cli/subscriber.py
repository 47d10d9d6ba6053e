"""A small WebSocket client: what `tail` and `demo` need of one."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import attrs
import orjson
import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    WebSocketConnection,
    wrap_client_stream,
)

from odin_ws.cli.running import CommandFailed, leaves
from odin_ws.cli.text import printable

__all__ = ["Acknowledged", "Message", "Subscriber", "SubscriberClosed", "open_subscriber"]

_Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]

_CONNECT_SECONDS: Final = 10
_ANSWER_SECONDS: Final = 10

# How long the server may take to answer our close; after that the connection is cut.
_CLOSE_SECONDS: Final = 2

# The server's own limit on a record can be set to 16 MiB; an envelope comes on top.
_MAX_MESSAGE_BYTES: Final = 32 << 20

# Without room for some, every message would wake up two tasks.
_QUEUED_MESSAGES: Final = 256

_SUBSCRIBE_ID: Final = 1

# RFC 6455, 7.1.5: no close frame came.
_ABNORMAL: Final = 1006

_REFUSAL_BYTES: Final = 200


@attrs.frozen
class Message:
    """What the server sent: the text as it came, and its fields."""

    text: str
    fields: Mapping[str, Any]

    @property
    def type(self) -> str:
        """`message` for a record, the names of docs/protocol.md for everything else."""
        return str(self.fields.get("type", ""))


@attrs.frozen
class Acknowledged:
    """The answer to a subscribe: the names that took effect; and those that did not, with why."""

    subscribed: Sequence[str]
    rejected: Sequence[Mapping[str, str]]


@attrs.frozen
class SubscriberClosed(Exception):
    """The connection has ended; 1006 stands for an end without a close frame."""

    code: int
    reason: str

    def __str__(self) -> str:
        if self.code == _ABNORMAL:
            return "the connection was lost"
        return f"closed by the server: {self.code} {printable(self.reason)}".rstrip()


class Subscriber:
    """One connection; get it from `open_subscriber`."""

    def __init__(self, connection: WebSocketConnection) -> None:
        self._connection = connection
        self._early: deque[Message] = deque()

    async def subscribe(self, selection: Mapping[str, Sequence[str]]) -> Acknowledged:
        """Subscribe to `channels`, `topics`, `bundles`, `tokens` (docs/protocol.md).

        Raises CommandFailed where the server refuses the command or does not answer, and
        SubscriberClosed.
        """
        command = {"type": "subscribe", "id": _SUBSCRIBE_ID, "data": selection}
        with trio.move_on_after(_ANSWER_SECONDS):
            try:
                await self._connection.send_message(orjson.dumps(command).decode())
            except ConnectionClosed as error:
                raise _closed(error) from error
            while (answer := await self._read()).fields.get("id") != _SUBSCRIBE_ID:
                self._early.append(answer)
            if answer.type == "error":
                raise CommandFailed(printable(str(answer.fields.get("message"))))
            return Acknowledged(answer.fields["subscribed"], answer.fields.get("rejected", ()))
        raise CommandFailed(f"the server did not answer `subscribe` within {_ANSWER_SECONDS} s")

    async def receive(self) -> Message:
        """The next message; waits for ever. Raises SubscriberClosed when there is none to come."""
        return self._early.popleft() if self._early else await self._read()

    async def _read(self) -> Message:
        try:
            text = await self._connection.get_message()
        except ConnectionClosed as error:
            raise _closed(error) from error
        try:
            fields = orjson.loads(text)
        except orjson.JSONDecodeError:
            fields = None
        if not isinstance(fields, dict) or isinstance(text, bytes):
            raise CommandFailed("what the server sends is not the protocol of odin-ws")
        return Message(text, fields)


@asynccontextmanager
async def open_subscriber(url: str) -> AsyncIterator[Subscriber]:
    """Connect to `url` (ws: or wss:), and close at the end of the block.

    Raises CommandFailed where that does not work within some seconds.
    """
    refusals: list[BaseException] = []
    try:
        async with trio.open_nursery() as nursery:
            connection, reading = await nursery.start(_hold, url)
            try:
                yield Subscriber(connection)
            finally:
                with trio.move_on_after(_CLOSE_SECONDS, shield=True):
                    await connection.aclose()
                reading.cancel()
    except* ConnectionRejected as group:
        refusals.extend(leaves(group))
    if refusals:
        raise CommandFailed(f"{url}: {_refusal(refusals[0])}")


async def _hold(
    url: str, *, task_status: trio.TaskStatus[tuple[WebSocketConnection, trio.CancelScope]]
) -> None:
    """Connect, and read until the scope that is given with the connection is cancelled.

    Nothing else ends the reading: when the command is cancelled, the server should hear that we
    leave, and we its answer.
    """
    with trio.CancelScope() as reading:
        async with await _connect(url) as stream, trio.open_nursery() as nursery:
            connection = await _upgrade(nursery, stream, url)
            reading.shield = True
            task_status.started((connection, reading))


async def _connect(url: str) -> _Stream:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise CommandFailed(f"{url}: {error}") from error
    host = parts.hostname
    if host is None or parts.scheme not in {"ws", "wss"}:
        raise CommandFailed(f"{url}: a WebSocket's address is ws://host:port/path, or wss://")
    with trio.move_on_after(_CONNECT_SECONDS):
        try:
            if parts.scheme == "ws":
                return await trio.open_tcp_stream(host, port or 80)
            stream = await trio.open_ssl_over_tcp_stream(host, port or 443, https_compatible=True)
            await stream.do_handshake()
        except (OSError, trio.BrokenResourceError) as error:
            raise CommandFailed(f"{url}: {_root(error)}") from error
        return stream
    raise CommandFailed(f"{url}: no connection within {_CONNECT_SECONDS} s")


async def _upgrade(nursery: trio.Nursery, stream: _Stream, url: str) -> WebSocketConnection:
    # Not the library's open_websocket: where a server is silent its time-out ends nothing.
    parts = urlsplit(url)
    path = urlunsplit(("", "", parts.path or "/", parts.query, ""))
    with trio.move_on_after(_CONNECT_SECONDS):
        return await wrap_client_stream(
            nursery,
            stream,
            parts.netloc.rpartition("@")[2],
            path,
            max_message_size=_MAX_MESSAGE_BYTES,
            message_queue_size=_QUEUED_MESSAGES,
        )
    raise CommandFailed(f"{url}: no WebSocket there: no answer within {_CONNECT_SECONDS} s")


def _root(error: BaseException) -> BaseException:
    """What the kernel or the TLS library said; trio puts its own words around that."""
    match error.__cause__:
        case None:
            return error
        case BaseExceptionGroup() as group:
            return next(leaves(group))
        case cause:
            return cause


def _refusal(error: BaseException) -> str:
    if not isinstance(error, ConnectionRejected):
        return str(error)
    body = (error.body or b"")[:_REFUSAL_BYTES].decode(errors="replace").strip()
    return f"refused with {error.status_code}: {printable(body)}".rstrip(": ")


def _closed(error: ConnectionClosed) -> SubscriberClosed:
    if error.reason is None:
        return SubscriberClosed(_ABNORMAL, "")
    return SubscriberClosed(error.reason.code, error.reason.reason or "")
