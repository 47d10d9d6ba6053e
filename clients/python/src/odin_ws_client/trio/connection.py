"""One WebSocket connection of the client: connect, TLS, upgrade, send, receive, close."""

from __future__ import annotations

import math
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import RemoteProtocolError

from odin_ws_client.core.close_codes import (
    ABNORMAL,
    NORMAL,
    Ended,
    Unacceptable,
    is_permanent_rejection,
    retry_after,
)
from odin_ws_client.core.errors import ConnectFailed, HandshakeRejected
from odin_ws_client.core.url import ServerAddress
from odin_ws_client.trio.inflate import OfferedInflate
from odin_ws_client.trio.wsproto_close_codes import CloseCodes

__all__ = ["Connect", "Connection", "dial", "open_connection"]

Connect = Callable[[], Awaitable[trio.abc.Stream]]

# One read of a socket: some 150 messages of a usual size.
_READ_BYTES: Final = 1 << 16

# The server's own limit on a record can be set to 16 MiB; an envelope comes on top.
_MAX_MESSAGE_BYTES: Final = 32 << 20

# How long the server may take to answer our close; after that the connection is cut.
_CLOSE_SECONDS: Final = 2

# A deadline that is noticed later than this was missed by the client and not by the server.
_LATE_SECONDS: Final = 1.0

_REJECTION_BYTES: Final = 200

_UNSUPPORTED_DATA: Final = 1003
_TOO_BIG: Final = 1009


async def dial(address: ServerAddress, tls: ssl.SSLContext | None) -> trio.abc.Stream:
    """A TCP connection to `address`, with TLS from the first byte where its URL says so.

    Raises OSError.
    """
    if address.secure:
        return await trio.open_ssl_over_tcp_stream(
            address.host, address.port, https_compatible=True, ssl_context=tls
        )
    return await trio.open_tcp_stream(address.host, address.port)


async def open_connection(  # noqa: PLR0913 -- by name
    connect: Connect,
    address: ServerAddress,
    *,
    token: str | None,
    seconds: float,
    silence: float,
    heartbeat: str,
) -> Connection:
    """Connect within `seconds`, with a token where there is one.

    Leave the connection's `async with` to say goodbye.
    After `silence` seconds without a byte from the server `heartbeat` is sent, and after as many
    more the connection has ended. Raises ConnectFailed.
    """
    deadline = trio.current_time() + seconds
    stream = await _connected(connect, deadline, f"no connection within {seconds:g} s")
    connection = Connection(stream, silence, heartbeat)
    try:
        with trio.CancelScope(deadline=deadline):
            await connection.upgrade(address, token)
            return connection
        raise ConnectFailed(f"no WebSocket there: no answer within {seconds:g} s")
    finally:
        if not connection.is_open:
            await trio.aclose_forcefully(stream)


async def _connected(connect: Connect, deadline: float, too_late: str) -> trio.abc.Stream:
    with trio.CancelScope(deadline=deadline):
        try:
            return await connect()
        except (OSError, trio.BrokenResourceError) as error:
            raise _unreachable(error) from error
    raise ConnectFailed(too_late)


class Connection:
    """Text messages to and from a server; get it from `open_connection`."""

    def __init__(self, stream: trio.abc.Stream, silence: float, heartbeat: str) -> None:
        self._stream = stream
        self._silence = silence
        self._heartbeat = heartbeat
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._codes = CloseCodes()
        self._end: Ended | Unacceptable | None = None
        # A write that did not come to its end has left half a frame: no other may follow.
        self._torn = False
        self._woken = False
        self._reading = trio.CancelScope()
        self._parts: list[str] = []
        self._size = 0

    @property
    def is_open(self) -> bool:
        """Whether neither side has begun to close."""
        return self._protocol.state is ConnectionState.OPEN

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, Unacceptable):
            await self._close(error.code, error.reason)
        else:
            await self._close(NORMAL, "")

    async def upgrade(self, address: ServerAddress, token: str | None) -> None:
        """The opening handshake. Raises ConnectFailed."""
        headers = [] if token is None else [(b"Authorization", b"Bearer " + token.encode())]
        request = Request(
            host=address.authority,
            target=address.target,
            extensions=[OfferedInflate(_MAX_MESSAGE_BYTES)],
            extra_headers=headers,
        )
        rejection: RejectConnection | None = None
        body = b""
        try:
            await self._stream.send_all(self._protocol.send(request))
            while data := await self._stream.receive_some(_READ_BYTES):
                for event in self._handshake(bytes(data)):
                    if isinstance(event, AcceptConnection):
                        return
                    if isinstance(event, RejectConnection):
                        rejection = event
                    elif isinstance(event, RejectData):
                        body += event.data
                over = self._protocol.state is ConnectionState.CLOSED
                if rejection is not None and (over or len(body) >= _REJECTION_BYTES):
                    raise _rejected(rejection, body)
        except trio.BrokenResourceError as error:
            raise _unreachable(error) from error
        except (RemoteProtocolError, UnicodeDecodeError) as error:
            why = f"what answers is no WebSocket server: {error}"
            raise ConnectFailed(why, permanent=True) from error
        if rejection is not None:
            raise _rejected(rejection, body)
        raise ConnectFailed("the connection was closed during the handshake")

    def _handshake(self, data: bytes) -> Iterator[Event]:
        """What the server answers; frames that came with it stay in the protocol for `receive`."""
        lines = data.splitlines(keepends=True)
        for number, line in enumerate(lines, 1):
            self._protocol.receive_data(line)
            for event in self._protocol.events():
                if isinstance(event, AcceptConnection):
                    self._receive_frames(b"".join(lines[number:]))
                yield event

    async def send(self, text: str) -> None:
        """Send a message. Raises Ended where the server takes nothing for too long."""
        if self._end is None:
            await self._write(self._protocol.send(TextMessage(text)))

    async def receive(self, deadline: float = math.inf) -> list[str]:
        """Wait for the next messages, those of one read.

        There are none where `deadline` has passed, or somebody calls `wake`.

        Raises Ended, and Unacceptable for what cannot be read.
        """
        # What came with the answer to the handshake.
        texts = await self._texts()
        while not texts:
            if self._end is not None:
                raise self._end
            data = await self._read(deadline)
            if data is None:
                break
            self._receive_frames(data)
            texts = await self._texts()
        return texts

    def _receive_frames(self, data: bytes | bytearray) -> None:
        # Nothing would be the end of the stream.
        if passed := self._codes.pass_on(bytes(data)):
            self._protocol.receive_data(passed)

    def wake(self) -> None:
        """Have `receive` return, or do so at once when it is called: there is something to send.

        Others do not send themselves, so nobody has to wait for his turn.
        """
        self._woken = True
        self._reading.cancel()

    async def _close(self, code: int, reason: str) -> None:
        """Say goodbye if that is still possible, wait for the answer, but not long, and close."""
        with trio.move_on_after(_CLOSE_SECONDS, shield=True):
            if self.is_open and not self._torn:
                with suppress(Ended, trio.BrokenResourceError):  # that it ends is what we want
                    await self._write(self._protocol.send(CloseConnection(code, reason)))
                    await self._until_closed()
            await self._stream.aclose()
            return
        await trio.aclose_forcefully(self._stream)

    async def _until_closed(self) -> None:
        while self._protocol.state is not ConnectionState.CLOSED:
            data = await self._stream.receive_some(_READ_BYTES)
            if not data:
                return
            self._receive_frames(data)
            for _ in self._protocol.events():
                pass  # the protocol looks for the close frame while it reads them

    async def _read(self, deadline: float) -> bytes | bytearray | None:
        asked = False
        while True:
            silent = trio.current_time() + self._silence
            with trio.CancelScope(deadline=min(deadline, silent)) as self._reading:
                if self._woken:
                    self._reading.cancel()
                try:
                    data = await self._stream.receive_some(_READ_BYTES)
                except trio.BrokenResourceError as error:
                    raise Ended(ABNORMAL, "the connection was lost") from error
                if not data:
                    raise Ended(ABNORMAL, "the connection was lost")
                return data
            if self._woken or deadline <= silent:
                self._woken = False
                return None
            # If this process was paused, the answer may be there and was not read yet.
            late = trio.current_time() - silent > _LATE_SECONDS
            if asked and not late:
                break
            await self.send(self._heartbeat)
            asked = True
        self._torn = True  # nobody is there to say goodbye to
        raise Ended(ABNORMAL, f"nothing came from the server for {2 * self._silence:g} s")

    async def _write(self, data: bytes) -> None:
        if self._torn:
            return
        self._torn = True
        with trio.move_on_after(self._silence):
            try:
                await self._stream.send_all(data)
            except trio.BrokenResourceError:
                # Reading tells how it ended: a close frame may still be there.
                return
            self._torn = False
            return
        raise Ended(ABNORMAL, f"the server has taken nothing for {self._silence:g} s")

    async def _texts(self) -> list[str]:
        """The messages that have been read, up to the end if it was read too."""
        texts: list[str] = []
        for event in self._protocol.events():
            if type(event) is TextMessage:
                if event.message_finished and not self._parts:
                    texts.append(event.data)
                elif (text := self._joined(event)) is not None:
                    texts.append(text)
            elif isinstance(event, Ping):
                await self._write(self._protocol.send(event.response()))
            else:
                await self._finish(event)
            if self._end is not None:
                break
        return texts

    def _joined(self, part: TextMessage) -> str | None:
        """The message that `part` completes."""
        self._parts.append(part.data)
        self._size += len(part.data)
        if self._size > _MAX_MESSAGE_BYTES:
            why = f"a message has more than {_MAX_MESSAGE_BYTES} characters"
            self._end = Unacceptable(_TOO_BIG, why, permanent=True)
            return None
        if not part.message_finished:
            return None
        text = "".join(self._parts)
        self._parts.clear()
        self._size = 0
        return text

    async def _finish(self, event: Event) -> None:
        """What is neither a text message nor a ping, most often the end."""
        if isinstance(event, BytesMessage):
            self._end = Unacceptable(_UNSUPPORTED_DATA, "a binary frame", permanent=True)
        elif isinstance(event, CloseConnection):
            if self._protocol.state is ConnectionState.REMOTE_CLOSING:
                code = self._codes.replaced or int(event.code)
                self._end = Ended(code, event.reason or "")
                await self._write(self._protocol.send(CloseConnection(code, event.reason)))
            else:
                # The protocol's way to say that it cannot read a frame.
                self._end = Unacceptable(int(event.code), event.reason or "", permanent=False)


def _rejected(rejection: RejectConnection, body: bytes) -> HandshakeRejected:
    status = rejection.status_code
    text = body[:_REJECTION_BYTES].decode(errors="replace").strip()
    return HandshakeRejected(
        reason=f"rejected with {status}: {text}".rstrip(": "),
        permanent=is_permanent_rejection(status),
        retry_after=retry_after(rejection.headers),
        status=status,
        text=text,
    )


def _unreachable(error: BaseException) -> ConnectFailed:
    root = _root(error)
    # A certificate or a TLS version is as wrong the next time; an end in between is not.
    permanent = isinstance(root, ssl.SSLError) and not isinstance(root, ssl.SSLEOFError)
    return ConnectFailed(str(root) or type(root).__name__, permanent)


def _root(error: BaseException) -> BaseException:
    """What the kernel or the TLS library said; trio puts its own words around that."""
    cause = error.__cause__
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    return error if cause is None else cause
