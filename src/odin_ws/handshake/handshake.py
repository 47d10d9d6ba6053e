"""A handshake up to its request: PROXY header, rate limits, TLS, HTTP request; and rejections."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from http import HTTPStatus
from types import TracebackType
from typing import Final, Self, TypeVar

import attrs
import trio

from odin_ws.canary.credential import CanaryCredential
from odin_ws.handshake.forwarded import ClientAddress, TrustedProxies
from odin_ws.handshake.handshake_limiter import HandshakeLimiter, PendingHandshake
from odin_ws.handshake.proxy_protocol import read_proxy_header
from odin_ws.handshake.rate_limiter import RateLimiter
from odin_ws.handshake.request import HandshakeRequest, HTTPRejection, rejection_response
from odin_ws.handshake.request_parser import parse_plain, read_request
from odin_ws.handshake.retry_after import retry_after
from odin_ws.listener.certificate import Certificate
from odin_ws.listener.tls import HandshakeFailed, TlsTransport, open_tls
from odin_ws.listener.transport import Transport

__all__ = ["HandshakeLimits", "Handshaker", "IncomingConnection"]

T = TypeVar("T")

# Time for a client to read a rejection; the client cannot extend it.
_RESPONSE_SECONDS: Final = 1.0

# Limit of clients that were answered and have not closed yet, and of clients over their rate whose
# request may still arrive: one more drops the oldest. Their descriptors are in the reserve.
_MAX_LINGERING: Final = 64


@attrs.frozen
class HandshakeLimits:
    """Limits of handshakes."""

    max_pending: int
    max_header_bytes: int
    timeout_seconds: float
    """Seconds for the request, and as long for TLS and the PROXY header before it."""
    trusted_proxies: TrustedProxies
    proxy_protocol: bool
    """True if each connection begins with a PROXY header, from a trusted proxy."""


@attrs.define(eq=False)
class IncomingConnection:
    """A connection in the handshake."""

    wire: Transport
    transport: Transport
    client_address: ClientAddress
    """The client's address, as far as known."""
    reply_transport: Transport | None
    """The transport for a response; None before TLS is established."""
    may_be_canary: bool = False
    """True if it comes from the canary's address: then its rate is checked after its credential."""
    is_canary: bool = False
    """True if its request has the credential of our own canary."""
    request: HandshakeRequest | None = None
    """The request, once it was read; set for rejected clients too."""

    @property
    def peer(self) -> str:
        """The address for logs and operators."""
        return self.client_address.address

    async def __aenter__(self) -> Self:
        """Return itself: a connection without TLS has nothing to release."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Do nothing."""


class Handshaker:
    """Accepts connections, reads their requests and sends rejections."""

    def __init__(
        self,
        limits: HandshakeLimits,
        rate_limiter: RateLimiter,
        certificate: Certificate | None,
        canary: CanaryCredential | None = None,
    ) -> None:
        self.limiter = HandshakeLimiter(limits.max_pending)
        self.lingering = HandshakeLimiter(_MAX_LINGERING)
        """Clients whose handshake is decided: their answer was sent, or they are over their rate.
        They drop only one another: a flood of them must not drop the handshakes of others."""
        self.rate_limiter = rate_limiter
        self._limits = limits
        self._certificate = certificate
        self._canary = canary

    @property
    def max_header_bytes(self) -> int:
        """The longest request head."""
        return self._limits.max_header_bytes

    def accept(self, wire: Transport, peer: str) -> AbstractAsyncContextManager[IncomingConnection]:
        """Accept a connection for its whole life; nothing has been read yet."""
        local = self._canary is not None and peer in self._canary.addresses
        if self._certificate is None:
            return IncomingConnection(wire, wire, ClientAddress(peer), wire, local)
        return _over_tls(self._certificate, wire, peer, may_be_canary=local)

    async def read_request(self, incoming: IncomingConnection) -> HandshakeRequest | None:
        """Read the request; None if the client has disconnected. Raises HTTPRejection."""
        waiting = self.limiter.add()
        try:
            if incoming.reply_transport is None or self._limits.proxy_protocol:
                return await self._wait(waiting, partial(self._read_request, incoming, waiting))
            return await self._read_plaintext(incoming, waiting)
        finally:
            self.limiter.discard(waiting)

    async def _read_plaintext(
        self, incoming: IncomingConnection, waiting: PendingHandshake
    ) -> HandshakeRequest | None:
        """Read a request that arrived with the connection, or wait for it.

        Most requests have arrived; a cancel scope with a deadline takes a tenth of the CPU of a
        connect.
        """
        try:
            forwarded = self._check_rate(incoming)
        except HTTPRejection:
            await self._read_rejected(incoming, waiting)
            raise
        max_bytes = self._limits.max_header_bytes
        begun = await incoming.wire.receive_now(max_bytes)
        request = parse_plain(begun, max_bytes, forwarded) if begun else None
        if waiting.evicted or (request is None and begun != b""):
            # The request may still arrive.
            request = await self._wait(waiting, partial(self._read, incoming, forwarded, begun))
        return self._named(incoming, request, forwarded)

    async def _wait(
        self, waiting: PendingHandshake, receive: Callable[[trio.CancelScope], Awaitable[T]]
    ) -> T:
        """Wait for a request until the scope's deadline or until the limiter drops it."""
        limits = self._limits
        with trio.CancelScope() as scope:
            waiting.scope = scope
            if waiting.evicted:
                scope.cancel()
            return await receive(scope)
        if waiting.evicted:
            text = f"too many handshakes: {limits.max_pending} newer ones are pending"
            raise HTTPRejection(
                HTTPStatus.SERVICE_UNAVAILABLE, "max_pending_handshakes", text, [retry_after()]
            )
        text = f"the request did not arrive within {limits.timeout_seconds:g} s"
        raise HTTPRejection(HTTPStatus.REQUEST_TIMEOUT, "handshake_timeout", text)

    async def _read_request(
        self, incoming: IncomingConnection, waiting: PendingHandshake, scope: trio.CancelScope
    ) -> HandshakeRequest | None:
        if self._limits.proxy_protocol:
            await self._read_proxy_header(incoming)
        try:
            forwarded = self._check_rate(incoming)
        except HTTPRejection:
            await self._read_rejected(incoming, waiting)
            raise
        if isinstance(incoming.transport, TlsTransport):
            await self._start_tls(incoming, incoming.transport)
        return self._named(incoming, await self._read(incoming, forwarded, None, scope), forwarded)

    async def _read_rejected(self, incoming: IncomingConnection, waiting: PendingHandshake) -> None:
        """Read the request of a client over its rate, which determines the form of the rejection.

        Waits as long as for a client to read a rejection. Does no TLS handshake: an EventSource
        reconnects if a TLS handshake fails, but not after a 429.
        """
        out = incoming.reply_transport
        if out is None:
            return
        self.limiter.discard(waiting)
        max_bytes = self._limits.max_header_bytes
        with trio.move_on_after(_RESPONSE_SECONDS) as scope:
            lingering = self.lingering.add(scope)
            # An invalid or lost request changes nothing: the client is rejected for its rate.
            try:
                incoming.request = await read_request(out, max_bytes=max_bytes, forwarded=None)
            except (HTTPRejection, trio.BrokenResourceError):
                pass
            finally:
                self.lingering.discard(lingering)

    def _check_rate(self, incoming: IncomingConnection) -> str | None:
        """Charge a connection attempt as early as possible. Raises HTTPRejection.

        Returns the header in which a proxy will name the client, which is charged then.
        """
        trusted_proxies = self._limits.trusted_proxies
        if incoming.client_address.named and incoming.peer in trusted_proxies:
            return trusted_proxies.header
        if not incoming.may_be_canary:
            self.rate_limiter.check_rate(incoming.client_address)
        return None

    def _named(
        self, incoming: IncomingConnection, request: HandshakeRequest | None, forwarded: str | None
    ) -> HandshakeRequest | None:
        """Read from a request which client a proxy names, if any. Raises HTTPRejection."""
        if request is None:
            return None
        incoming.request = request
        if incoming.may_be_canary:
            if self._canary is not None and self._canary.matches(request.headers):
                incoming.is_canary = True
                return request
            self._check_late(incoming, forwarded)
        if forwarded is not None:
            incoming.client_address = self._limits.trusted_proxies.client(
                incoming.peer, request.headers
            )
            self.rate_limiter.check_rate(incoming.client_address)
        return request

    def _check_late(self, incoming: IncomingConnection, forwarded: str | None) -> None:
        """Check the rate of a client from the canary's address that is not the canary.

        Raises HTTPRejection.
        """
        address = incoming.client_address
        trusted = incoming.peer in self._limits.trusted_proxies
        if self._limits.proxy_protocol and not address.named and not trusted:
            raise _no_trusted_proxy()
        if forwarded is None:
            self.rate_limiter.check_rate(address)

    async def _read(
        self,
        incoming: IncomingConnection,
        forwarded: str | None,
        begun: bytes | None,
        scope: trio.CancelScope,
    ) -> HandshakeRequest | None:
        """Read a request that has begun with some bytes; sets the deadline of the scope."""
        limits = self._limits
        scope.deadline = trio.current_time() + limits.timeout_seconds
        return await read_request(
            incoming.transport, max_bytes=limits.max_header_bytes, forwarded=forwarded, begun=begun
        )

    async def _read_proxy_header(self, incoming: IncomingConnection) -> None:
        """Read which client a proxy names in a PROXY header."""
        trusted = incoming.peer in self._limits.trusted_proxies
        if not (trusted or incoming.may_be_canary):
            raise _no_trusted_proxy()
        client = await read_proxy_header(incoming.wire, seconds=self._limits.timeout_seconds)
        if client is not None and not trusted:
            raise _no_trusted_proxy()
        # A TCP proxy that names no client passes on the client's own headers.
        incoming.client_address = (
            ClientAddress(incoming.peer, named=False) if client is None else ClientAddress(client)
        )

    async def _start_tls(self, incoming: IncomingConnection, transport: TlsTransport) -> None:
        """Do the TLS handshake."""
        with trio.move_on_after(self._limits.timeout_seconds):
            try:
                await transport.handshake()
            except HandshakeFailed as error:
                if error.plain_http:
                    incoming.reply_transport = incoming.wire
                label = "no_tls" if error.plain_http else "tls_failed"
                text = "this port requires TLS: use wss"
                raise HTTPRejection(HTTPStatus.BAD_REQUEST, label, text) from error
            incoming.reply_transport = transport
            return
        text = f"no TLS handshake within {self._limits.timeout_seconds:g} s"
        raise HTTPRejection(HTTPStatus.REQUEST_TIMEOUT, "tls_failed", text)

    async def reject(self, incoming: IncomingConnection, rejection: HTTPRejection) -> None:
        """Send a rejection if the client can read it, and wait until it is read."""
        response = b"" if incoming.reply_transport is None else rejection_response(rejection)
        if rejection.label == "max_pending_handshakes":
            # The connection has to make room at once: only what the kernel takes now is sent.
            (incoming.reply_transport or incoming.wire).send_nowait(response)
            return
        await self.send_response(incoming, response)

    async def send_response(self, incoming: IncomingConnection, response: bytes) -> None:
        """Send a short and only response; wait a moment for the client to read it."""
        out = incoming.reply_transport or incoming.wire
        with trio.move_on_after(_RESPONSE_SECONDS) as scope:
            lingering = self.lingering.add(scope)
            try:
                await _send_response(out, response)
            finally:
                self.lingering.discard(lingering)

    async def send_large_response(
        self, incoming: IncomingConnection, response: bytes, seconds: float
    ) -> None:
        """Send a long and only response, for at most `seconds`.

        The caller bounds the number of long responses: other clients do not drop this one.
        """
        with trio.move_on_after(seconds):
            await _send_response(incoming.reply_transport or incoming.wire, response)


def _no_trusted_proxy() -> HTTPRejection:
    text = "only trusted proxies may connect"
    return HTTPRejection(HTTPStatus.BAD_REQUEST, "bad_proxy_header", text)


async def _send_response(out: Transport, response: bytes) -> None:
    """Send a whole response and wait until the peer has closed the connection."""
    view = memoryview(response)
    while view:
        view = view[out.send_nowait(view) :]
        if view:
            await out.wait_writable()
    out.send_eof()
    while await out.receive_some(4096):
        pass


@asynccontextmanager
async def _over_tls(
    certificate: Certificate, wire: Transport, peer: str, *, may_be_canary: bool
) -> AsyncIterator[IncomingConnection]:
    async with open_tls(wire, certificate.context) as transport:
        yield IncomingConnection(wire, transport, ClientAddress(peer), None, may_be_canary)
