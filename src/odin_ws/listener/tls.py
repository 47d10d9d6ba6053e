"""TLS for clients: a transport that encrypts.

`ssl.SSLObject` is OpenSSL without a socket: it reads bytes from memory and writes them there.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from odin_ws.listener.transport import Transport

__all__ = [
    "HandshakeFailed",
    "TlsTransport",
    "open_tls",
]

# The maximum size of a TLS record; only the unsent rest of one record is buffered.
_RECORD_BYTES: Final = 16 << 10

# OpenSSL's buffers keep the size of the largest piece that they were given, per connection.
_READ_BYTES: Final = 4 << 10

# Limit on unsent responses of TLS itself, for peers that request new keys and read nothing.
_MAX_UNSENT_BYTES: Final = 64 << 10

# Time for the last encrypted bytes when the connection closes.
_FLUSH_SECONDS: Final = 5.0


class HandshakeFailed(Exception):
    """The TLS handshake failed. `plain_http`: the peer sent plain HTTP."""

    def __init__(self, reason: str, *, plain_http: bool = False) -> None:
        super().__init__(reason)
        self.plain_http = plain_http


class TlsTransport:
    """See Transport. A task of `nursery` sends what the kernel did not take of a record.

    Bytes count as sent once TLS has encrypted them: they could not be taken back.
    """

    __slots__ = (
        "_ended",
        "_flushed",
        "_from_peer",
        "_nursery",
        "_tls",
        "_to_peer",
        "_unsent",
        "_wire",
    )

    def __init__(self, wire: Transport, context: ssl.SSLContext, nursery: trio.Nursery) -> None:
        self._wire = wire
        self._nursery = nursery
        self._from_peer = ssl.MemoryBIO()
        self._to_peer = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._from_peer, self._to_peer, server_side=True)
        # Encrypted and not taken by the kernel yet; while not empty, a task sends it.
        self._unsent: bytearray | None = None
        self._flushed = trio.Event()
        self._ended = False

    async def handshake(self) -> None:
        """Do the TLS handshake. Raises HandshakeFailed."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._push()
                data = await self._wire.receive_some(_READ_BYTES)
                if not data:
                    raise trio.BrokenResourceError from None
                self._from_peer.write(data)
            except ssl.SSLError as error:
                # Send the alert to the peer.
                self._push()
                http = error.reason in {"HTTP_REQUEST", "HTTPS_PROXY_REQUEST"}
                raise HandshakeFailed(error.reason or str(error), plain_http=http) from error
            else:
                self._push()
                return

    def send_nowait(self, data: bytes | memoryview) -> int:
        """See Transport."""
        sent, size = 0, len(data)
        while self._unsent is None and sent < size:
            part = data if size <= _RECORD_BYTES else memoryview(data)[sent : sent + _RECORD_BYTES]
            try:
                sent += self._tls.write(part)
            except ssl.SSLError as error:
                raise trio.BrokenResourceError from error
            self._push()
        return sent

    def _push(self) -> None:
        """Send encrypted bytes to the kernel. Raises trio.BrokenResourceError."""
        data = self._to_peer.read()
        if self._unsent is not None:
            self._unsent += data
            if len(self._unsent) > _MAX_UNSENT_BYTES:
                raise trio.BrokenResourceError
            return
        sent = self._wire.send_nowait(data) if data else 0
        if sent < len(data):
            self._unsent = bytearray(data[sent:])
            self._flushed = trio.Event()
            self._nursery.start_soon(self._flush)

    async def _flush(self) -> None:
        while self._unsent:
            await self._wire.wait_writable()
            try:
                sent = self._wire.send_nowait(bytes(self._unsent))
            except trio.BrokenResourceError:
                # The next send raises this too.
                break
            del self._unsent[:sent]
        self._unsent = None
        self._flushed.set()
        if self._ended:
            self._wire.send_eof()

    async def flushed(self) -> None:
        """Wait until the kernel has taken everything."""
        await trio.lowlevel.checkpoint()
        while self._unsent is not None:
            await self._flushed.wait()

    async def wait_writable(self) -> None:
        """See Transport."""
        if self._unsent is None:
            await self._wire.wait_writable()
        else:
            await self._flushed.wait()

    async def receive_now(self, max_bytes: int) -> bytes | None:
        """See Transport. Bytes that TLS has not decrypted yet do not count."""
        await trio.lowlevel.checkpoint()
        return self._read(max_bytes)

    async def receive_some(self, max_bytes: int) -> bytes:
        """See Transport. After `send_eof` only reports whether bytes arrive, not which."""
        if self._ended:
            return await self._wire.receive_some(max_bytes)
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            data = self._read(max_bytes)
            if data is not None:
                await trio.lowlevel.cancel_shielded_checkpoint()
                return data
            more = await self._wire.receive_some(_READ_BYTES)
            if more:
                self._from_peer.write(more)
            else:
                self._from_peer.write_eof()

    def _read(self, max_bytes: int) -> bytes | None:
        """Return decrypted bytes, empty at the end, None if there are none."""
        try:
            return self._tls.read(max_bytes)
        except ssl.SSLWantReadError:
            # TLS may have to respond, for example with new keys.
            self._push()
            return None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            # With or without a close_notify: WebSocket has its own close handshake.
            return b""
        except ssl.SSLError as error:
            self._push()
            raise trio.BrokenResourceError from error

    def unacknowledged(self) -> int:
        """See Transport."""
        return self._wire.unacknowledged() + len(self._unsent or b"")

    def send_eof(self) -> None:
        """See Transport."""
        if self._ended:
            return
        self._ended = True
        # OpenSSL still expects the peer's close_notify, or there was no handshake.
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        with contextlib.suppress(trio.BrokenResourceError):
            self._push()
        if self._unsent is None:
            self._wire.send_eof()

    def close(self) -> None:
        """See Transport."""
        self._wire.close()


@asynccontextmanager
async def open_tls(wire: Transport, context: ssl.SSLContext) -> AsyncIterator[TlsTransport]:
    """Open TLS on a connection for the block; the handshake is not done yet."""
    async with trio.open_nursery() as nursery:
        stream = TlsTransport(wire, context, nursery)
        yield stream
        with trio.move_on_after(_FLUSH_SECONDS):
            await stream.flushed()
        nursery.cancel_scope.cancel()
