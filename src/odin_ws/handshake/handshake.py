"""From an accepted socket to a head: who calls, in the clear or over TLS, and for what."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from http import HTTPStatus
from typing import Final

import attrs
import trio

from odin_ws.handshake.forwarded import Source, TrustedProxies
from odin_ws.handshake.handshake_limiter import Pending
from odin_ws.handshake.proxy_protocol import read_proxy_header
from odin_ws.handshake.rate_limiter import ConnectLimits
from odin_ws.handshake.request import Head, Refusal, refuse
from odin_ws.handshake.request_parser import read_head
from odin_ws.handshake.retry_after import retry_after
from odin_ws.listener.tls import Certificate, HandshakeFailed, TlsTransport, open_tls
from odin_ws.listener.transport import Transport

__all__ = ["Caller", "Entrance", "EntranceLimits"]

# For a refusal to be read; who is refused has no say in how long that takes.
_FAREWELL_SECONDS: Final = 1.0


@attrs.frozen
class EntranceLimits:
    """What callers are held to. `head_seconds`: for the head, and as long for what comes before it.

    `proxy_protocol`: whether each connection begins with a PROXY header, from a trusted proxy.
    """

    pending: int
    head_bytes: int
    head_seconds: float
    trusted: TrustedProxies
    proxy_protocol: bool


@attrs.define(eq=False)
class Caller:
    """Who is on its way in. `source`: its address, as far as it is known.

    `speaking`: where an answer can be read; None before TLS is agreed on.
    """

    wire: Transport
    transport: Transport
    source: Source
    speaking: Transport | None

    @property
    def peer(self) -> str:
        """The address as logs and operators see it."""
        return self.source.address


class Entrance:
    """Meets callers, reads what they want, and answers those that are turned away."""

    def __init__(
        self, limits: EntranceLimits, addresses: ConnectLimits, certificate: Certificate | None
    ) -> None:
        self.pending = Pending(limits.pending)
        self.addresses = addresses
        self._limits = limits
        self._certificate = certificate

    def meet(self, wire: Transport, peer: str) -> AbstractAsyncContextManager[Caller]:
        """A caller, for the length of its connection; nothing has been read of it yet."""
        if self._certificate is None:
            return nullcontext(Caller(wire, wire, Source(peer), wire))
        return _over_tls(self._certificate, wire, peer)

    async def read_head(self, caller: Caller) -> Head | None:
        """Learn who it is and what it wants; None where it has left. Raises Refusal."""
        limits = self._limits
        with trio.CancelScope() as scope:
            self.pending.add(scope)
            try:
                return await self._hear(caller, scope)
            finally:
                in_time = self.pending.discard(scope)
        if in_time:
            text = f"the request did not come in {limits.head_seconds:g} s"
            raise Refusal(HTTPStatus.REQUEST_TIMEOUT, "head_timeout", text)
        text = f"{limits.pending} others have come since"
        raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "max_pending", text, [retry_after()])

    async def _hear(self, caller: Caller, scope: trio.CancelScope) -> Head | None:
        limits = self._limits
        if limits.proxy_protocol:
            await self._introduce(caller)
        # The sooner the better; but a proxy may say in the head for whom it asks.
        told_later = caller.source.named and caller.peer in limits.trusted
        if not told_later:
            self.addresses.knock(caller.source)
        if isinstance(caller.transport, TlsTransport):
            await self._secure(caller, caller.transport)
        scope.deadline = trio.current_time() + limits.head_seconds
        head = await read_head(
            caller.transport,
            max_bytes=limits.head_bytes,
            forwarded=limits.trusted.header if told_later else None,
        )
        if told_later and head is not None:
            caller.source = limits.trusted.client(caller.peer, head.headers)
            self.addresses.knock(caller.source)
        return head

    async def _introduce(self, caller: Caller) -> None:
        """Learn from a PROXY header for whom a proxy has connected."""
        if caller.peer not in self._limits.trusted:
            text = "only trusted proxies connect here"
            raise Refusal(HTTPStatus.BAD_REQUEST, "bad_proxy_header", text)
        client = await read_proxy_header(caller.wire, seconds=self._limits.head_seconds)
        # A proxy that speaks TCP and names nobody passes on whatever stands in its client's head.
        caller.source = Source(caller.peer, named=False) if client is None else Source(client)

    async def _secure(self, caller: Caller, transport: TlsTransport) -> None:
        """Agree on TLS."""
        with trio.move_on_after(self._limits.head_seconds):
            try:
                await transport.handshake()
            except HandshakeFailed as error:
                if error.plain_http:
                    caller.speaking = caller.wire
                label = "no_tls" if error.plain_http else "tls_failed"
                text = "TLS is spoken here: wss"
                raise Refusal(HTTPStatus.BAD_REQUEST, label, text) from error
            caller.speaking = transport
            return
        text = f"no TLS in {self._limits.head_seconds:g} s"
        raise Refusal(HTTPStatus.REQUEST_TIMEOUT, "tls_failed", text)

    async def dismiss(self, caller: Caller, refusal: Refusal) -> None:
        """Say why it is turned away, where it can read that, and let it."""
        out = caller.speaking or caller.wire
        answer = b"" if caller.speaking is None else refuse(refusal)
        if refusal.label == "max_pending":
            # It has to make room at once: what the kernel does not take now is not sent.
            out.send_nowait(answer)
            return
        with trio.move_on_after(_FAREWELL_SECONDS) as scope:
            self.pending.add(scope)
            try:
                await _say(out, answer)
            finally:
                self.pending.discard(scope)


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
async def _over_tls(certificate: Certificate, wire: Transport, peer: str) -> AsyncIterator[Caller]:
    async with open_tls(wire, certificate.context) as transport:
        yield Caller(wire, transport, Source(peer), None)
