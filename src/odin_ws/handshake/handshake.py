"""From an accepted socket to a head: who calls, in the clear or over TLS, and for what."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from http import HTTPStatus
from typing import Final

import attrs
import trio

from odin_ws.handshake.forwarded import ClientAddress, TrustedProxies
from odin_ws.handshake.handshake_limiter import HandshakeLimiter
from odin_ws.handshake.proxy_protocol import read_proxy_header
from odin_ws.handshake.rate_limiter import RateLimiter
from odin_ws.handshake.request import HandshakeRequest, HTTPRejection, rejection_response
from odin_ws.handshake.request_parser import read_request
from odin_ws.handshake.retry_after import retry_after
from odin_ws.listener.tls import Certificate, HandshakeFailed, TlsTransport, open_tls
from odin_ws.listener.transport import Transport

__all__ = ["HandshakeLimits", "Handshaker", "IncomingConnection"]

# For a rejection to be read; who is rejected has no say in how long that takes.
_FAREWELL_SECONDS: Final = 1.0


@attrs.frozen
class HandshakeLimits:
    """Limits of handshakes. `timeout_seconds`: for the request, and for what comes before it.

    `proxy_protocol`: whether each connection begins with a PROXY header, from a trusted proxy.
    """

    max_pending: int
    max_header_bytes: int
    timeout_seconds: float
    trusted_proxies: TrustedProxies
    proxy_protocol: bool


@attrs.define(eq=False)
class IncomingConnection:
    """Who is on its way in. `client_address`: its address, as far as it is known.

    `reply_transport`: where an answer can be read; None before TLS is agreed on.
    """

    wire: Transport
    transport: Transport
    client_address: ClientAddress
    reply_transport: Transport | None

    @property
    def peer(self) -> str:
        """The address as logs and operators see it."""
        return self.client_address.address


class Handshaker:
    """Meets callers, reads what they want, and answers those that are turned away."""

    def __init__(
        self, limits: HandshakeLimits, rate_limiter: RateLimiter, certificate: Certificate | None
    ) -> None:
        self.limiter = HandshakeLimiter(limits.max_pending)
        self.rate_limiter = rate_limiter
        self._limits = limits
        self._certificate = certificate

    def accept(self, wire: Transport, peer: str) -> AbstractAsyncContextManager[IncomingConnection]:
        """A caller, for the length of its connection; nothing has been read of it yet."""
        if self._certificate is None:
            return nullcontext(IncomingConnection(wire, wire, ClientAddress(peer), wire))
        return _over_tls(self._certificate, wire, peer)

    async def read_request(self, incoming: IncomingConnection) -> HandshakeRequest | None:
        """Learn who it is and what it wants; None where it has left. Raises HTTPRejection."""
        limits = self._limits
        with trio.CancelScope() as scope:
            self.limiter.add(scope)
            try:
                return await self._read_request(incoming, scope)
            finally:
                in_time = self.limiter.discard(scope)
        if in_time:
            text = f"the request did not come in {limits.timeout_seconds:g} s"
            raise HTTPRejection(HTTPStatus.REQUEST_TIMEOUT, "handshake_timeout", text)
        text = f"{limits.max_pending} others have come since"
        raise HTTPRejection(
            HTTPStatus.SERVICE_UNAVAILABLE, "max_pending_handshakes", text, [retry_after()]
        )

    async def _read_request(
        self, incoming: IncomingConnection, scope: trio.CancelScope
    ) -> HandshakeRequest | None:
        limits = self._limits
        if limits.proxy_protocol:
            await self._read_proxy_header(incoming)
        # The sooner the better; but a proxy may say in the head for whom it asks.
        is_forwarded = incoming.client_address.named and incoming.peer in limits.trusted_proxies
        if not is_forwarded:
            self.rate_limiter.check_rate(incoming.client_address)
        if isinstance(incoming.transport, TlsTransport):
            await self._start_tls(incoming, incoming.transport)
        scope.deadline = trio.current_time() + limits.timeout_seconds
        request = await read_request(
            incoming.transport,
            max_bytes=limits.max_header_bytes,
            forwarded=limits.trusted_proxies.header if is_forwarded else None,
        )
        if is_forwarded and request is not None:
            incoming.client_address = limits.trusted_proxies.client(incoming.peer, request.headers)
            self.rate_limiter.check_rate(incoming.client_address)
        return request

    async def _read_proxy_header(self, incoming: IncomingConnection) -> None:
        """Learn from a PROXY header for whom a proxy has connected."""
        if incoming.peer not in self._limits.trusted_proxies:
            text = "only trusted proxies connect here"
            raise HTTPRejection(HTTPStatus.BAD_REQUEST, "bad_proxy_header", text)
        client = await read_proxy_header(incoming.wire, seconds=self._limits.timeout_seconds)
        # A proxy that speaks TCP and names nobody passes on whatever stands in its client's head.
        incoming.client_address = (
            ClientAddress(incoming.peer, named=False) if client is None else ClientAddress(client)
        )

    async def _start_tls(self, incoming: IncomingConnection, transport: TlsTransport) -> None:
        """Agree on TLS."""
        with trio.move_on_after(self._limits.timeout_seconds):
            try:
                await transport.handshake()
            except HandshakeFailed as error:
                if error.plain_http:
                    incoming.reply_transport = incoming.wire
                label = "no_tls" if error.plain_http else "tls_failed"
                text = "TLS is spoken here: wss"
                raise HTTPRejection(HTTPStatus.BAD_REQUEST, label, text) from error
            incoming.reply_transport = transport
            return
        text = f"no TLS in {self._limits.timeout_seconds:g} s"
        raise HTTPRejection(HTTPStatus.REQUEST_TIMEOUT, "tls_failed", text)

    async def reject(self, incoming: IncomingConnection, rejection: HTTPRejection) -> None:
        """Say why it is turned away, where it can read that, and let it."""
        out = incoming.reply_transport or incoming.wire
        answer = b"" if incoming.reply_transport is None else rejection_response(rejection)
        if rejection.label == "max_pending_handshakes":
            # It has to make room at once: what the kernel does not take now is not sent.
            out.send_nowait(answer)
            return
        with trio.move_on_after(_FAREWELL_SECONDS) as scope:
            self.limiter.add(scope)
            try:
                await _say(out, answer)
            finally:
                self.limiter.discard(scope)


async def _say(out: Transport, answer: bytes) -> None:
    """Send all of an answer, and wait until the peer has ended the connection."""
    view = memoryview(answer)
    while view:
        view = view[out.send_nowait(view) :]
        if view:
            await out.wait_writable()
    out.send_eof()
    while await out.receive_some(4096):
        pass


@asynccontextmanager
async def _over_tls(
    certificate: Certificate, wire: Transport, peer: str
) -> AsyncIterator[IncomingConnection]:
    async with open_tls(wire, certificate.context) as transport:
        yield IncomingConnection(wire, transport, ClientAddress(peer), None)
