"""All connections: who is connected, how they are served, and how they are sent away."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final

import attrs
import structlog
import trio

from odin_ws.connection.addresses import TrustedProxies
from odin_ws.connection.admission import Admission, busy
from odin_ws.connection.closing import Close
from odin_ws.connection.connection import Connection
from odin_ws.connection.head import Head, Refusal, read_head, refuse, upgrade
from odin_ws.connection.keepalive import Keepalive
from odin_ws.connection.limits import AddressLimits, ConnectLimits
from odin_ws.connection.pending import Pending
from odin_ws.connection.proxy_protocol import read_proxy_header
from odin_ws.connection.session import Session, SessionLimits, SessionStats
from odin_ws.connection.tls import Certificate, HandshakeFailed, TlsTransport, open_tls
from odin_ws.connection.transport import Transport
from odin_ws.distribution import Distribution
from odin_ws.protocol.answers import positions_notice, reconnect_advice
from odin_ws.protocol.envelope import Dialect
from odin_ws.protocol.frames import text_frame
from odin_ws.protocol.incoming import FrameReader
from odin_ws.resume import ReplayContext

__all__ = ["ConnectionLimits", "ConnectionServer", "ConnectionStats"]

log = structlog.get_logger("odin_ws.connection")

# Every so often the drain sends some away.
_WAVE_SECONDS: Final = 0.1

# After a drain no more than so many clients a second come back: below what an instance upgrades
# while it serves others (docs/performance.md); a second of jitter at least breaks up each wave.
_RETURNS: Final = 1000
_LEAST_JITTER_SECONDS: Final = 1.0

# Of those who keep positions, so many are told at a time: of 12,000 in 10 s, 24 times a second.
_POSITIONS_SLICE: Final = 50

# Announcements are rare: so many writes at a time keep the loop for a millisecond or two.
_ANNOUNCE_SLICE: Final = 200

# From a page that was closed at once to a week of streaming, in seconds.
_DURATION_BOUNDS: Final = (1, 10, 60, 300, 1800, 3600, 6 * 3600, 24 * 3600, 7 * 24 * 3600)


@attrs.frozen
class ConnectionLimits:
    """What every connection is held to. Sizes in bytes, times in seconds.

    `proxy_protocol`: whether each begins with a PROXY header, from a trusted proxy.
    """

    pending: int
    trusted: TrustedProxies
    proxy_protocol: bool
    addresses: AddressLimits
    head_bytes: int
    head_seconds: float
    message_bytes: int
    message_frames: int
    message_seconds: float
    outbox_bytes: int
    outbox_seconds: float
    session: SessionLimits


@attrs.define(eq=False)
class ConnectionStats:
    """What happened to connections since the start; each is counted once, when it ends."""

    opened: int = 0
    closed: Counter[Close] = attrs.field(factory=Counter)
    errors: int = 0
    bytes_sent: int = 0  # of ended connections
    bytes_received: int = 0  # of ended connections
    duration: Distribution = attrs.field(factory=lambda: Distribution(_DURATION_BOUNDS))
    sessions: SessionStats = attrs.field(factory=SessionStats)


class ConnectionServer:
    """Serves connections, each contained: what fails in one ends that one."""

    def __init__(
        self,
        context: ReplayContext,
        admission: Admission,
        keepalive: Keepalive,
        limits: ConnectionLimits,
        certificate: Certificate | None = None,
    ) -> None:
        self.stats = ConnectionStats()
        self.admission = admission
        self.keepalive = keepalive
        self.replays = context.stats
        self.connections: set[Connection] = set()
        self.pending = Pending(limits.pending)
        self.addresses = ConnectLimits(limits.addresses)
        self._context = context
        self._hub = context.hub
        self._taken = context.hub.release
        self._limits = limits
        self._certificate = certificate
        # What newcomers are told first.
        self.standing: bytes | None = None

    async def serve(self, wire: Transport, peer: str) -> None:
        """The whole life of one connection. Raises nothing but cancellation."""
        try:
            if self._certificate is None:
                await self._admit(wire, wire, peer)
            else:
                async with open_tls(wire, self._certificate.context) as transport:
                    await self._admit(wire, transport, peer)
        except* trio.BrokenResourceError:
            # The peer went away before the upgrade: there is no connection to count.
            log.debug("lost before the upgrade", peer=peer)
        except* Exception:  # the boundary: one connection's bug is not the others'
            self.stats.errors += 1
            log.exception("a connection failed", peer=peer)
        finally:
            wire.close()

    async def _admit(self, wire: Transport, transport: Transport, peer: str) -> None:
        limits, head = self._limits, None
        # Where an answer can be read: not before TLS is agreed on.
        speaking = wire if transport is wire else None
        try:
            with self.pending.wait() as waiting:
                if limits.proxy_protocol:
                    peer = await self._introduced(wire, peer)
                # The sooner the better; but a proxy may say in the head for whom it asks.
                if not (told_later := peer in limits.trusted):
                    self.addresses.knock(peer)
                if isinstance(transport, TlsTransport):
                    await _secure(transport, limits.head_seconds)
                    speaking = transport
                head = await read_head(
                    transport, max_bytes=limits.head_bytes, seconds=limits.head_seconds
                )
                if told_later and head is not None:
                    peer = limits.trusted.client(peer, head.headers)
                    self.addresses.knock(peer)
            if waiting.cancelled_caught:
                refusal = busy("max_pending", f"{limits.pending} others have come since")
                answer = self._refuse(refusal, peer)
                # It has to make room at once: what the kernel does not take now is not sent.
                if speaking is not None:
                    speaking.send_nowait(answer)
            elif head is not None:
                with self.admission.admit(head) as dialect, self.addresses.hold(peer):
                    await self._serve_upgraded(transport, peer, head, dialect)
        except Refusal as refusal:
            answer = self._refuse(refusal, peer)
            if refusal.label == "no_tls":
                speaking = wire
            with self.pending.wait():
                await _send_last(speaking or wire, answer if speaking is not None else b"")

    async def _introduced(self, transport: Transport, peer: str) -> str:
        """For whom a proxy has connected, by its PROXY header. Raises Refusal."""
        if peer not in self._limits.trusted:
            raise Refusal(
                HTTPStatus.BAD_REQUEST, "bad_proxy_header", "only trusted proxies connect here"
            )
        return await read_proxy_header(transport, seconds=self._limits.head_seconds) or peer

    def _refuse(self, refusal: Refusal, peer: str) -> bytes:
        """Count and log a refusal; returns the answer."""
        self.admission.count(refusal)
        log.debug("refused", peer=peer, status=int(refusal.status), reason=refusal.label)
        return refuse(refusal)

    async def _serve_upgraded(
        self, transport: Transport, peer: str, head: Head, dialect: Dialect
    ) -> None:
        limits = self._limits
        connection = Connection(
            transport,
            peer,
            dialect,
            outbox_bytes=limits.outbox_bytes,
            grace=limits.outbox_seconds,
            message_seconds=limits.message_seconds,
            taken=self._taken,
            greeting=self._greeting,
        )
        session = Session(connection, self._context, limits.session, self.stats.sessions)
        with self._registered(connection):
            try:
                reader = FrameReader(limits.message_bytes, limits.message_frames)
                await connection.run(upgrade(head), session, reader, head.rest)
            except* Exception:  # to say 1011 while the socket is still there; reported above
                await connection.fail()
                raise

    @contextmanager
    def _registered(self, connection: Connection) -> Iterator[None]:
        stats = self.stats
        stats.opened += 1
        self.connections.add(connection)
        try:
            with self.keepalive.watch(connection):
                yield
        finally:
            self.connections.remove(connection)
            self._hub.leave(connection.subscriber)
            # Cancelled before anything closed it, so the process is going down: its last chance.
            connection.close(Close.DRAINING)
            reason = connection.closing or Close.DRAINING
            stats.closed[reason] += 1
            stats.duration.observe(trio.current_time() - connection.opened_at)
            stats.bytes_sent += connection.outbox.bytes_sent
            stats.bytes_received += connection.bytes_received
            log.debug("closed", peer=connection.peer, reason=reason.value.label)

    async def announce(self, payload: bytes) -> None:
        """Tell everybody who is there, in order with their messages."""
        frame = text_frame(payload)
        for count, connection in enumerate(self._open(), 1):
            connection.tell(frame, self._hub)
            if not count % _ANNOUNCE_SLICE:
                await trio.lowlevel.checkpoint()

    def announce_now(self, payload: bytes) -> None:
        """Tell everybody before anything else happens: for what is as rare as it is urgent."""
        frame = text_frame(payload)
        for connection in self._open():
            connection.tell(frame, self._hub)

    def _open(self) -> list[Connection]:
        # Who opens from here on is greeted with what stands.
        return [connection for connection in self.connections if connection.is_open]

    async def tell_positions(self, interval: float) -> None:
        """Tell those who keep positions how far they are, each every `interval` seconds.

        Else a quiet partition's position would be as old as the subscription: to resume from it,
        all of the log since then would have to be read.
        """
        while True:
            following = [one for one in self.connections if one.subscriber.follows]
            slices = range(0, max(1, len(following)), _POSITIONS_SLICE)
            for begin in slices:
                await trio.sleep(interval / len(slices))
                self._tell_positions(following[begin : begin + _POSITIONS_SLICE])

    def _tell_positions(self, connections: Sequence[Connection]) -> None:
        frames: dict[tuple[str, ...], bytes] = {}
        for connection in connections:
            if not connection.is_up_to_date:
                continue
            topics = tuple(self._hub.intake.catalogue.topics_of(connection.subscriber.patterns))
            frame = frames.get(topics)
            if frame is None:
                frame = frames[topics] = text_frame(positions_notice(self._hub.positions(topics)))
            connection.tell(frame, self._hub)

    async def send_away(self, seconds: float) -> None:
        """Begin to close everybody, in waves over `seconds`, so that not all return at once.

        Each is told when to come back: after the waves and their jitter it is `_RETURNS` clients a
        second at most.
        """
        self.admission.draining = True
        waiting = list(self.connections)
        jitter = max(_LEAST_JITTER_SECONDS, len(waiting) / _RETURNS - seconds)
        waves = max(1, round(seconds / _WAVE_SECONDS))
        size = math.ceil(len(waiting) / waves)
        while waiting:
            wave, waiting = waiting[:size], waiting[size:]
            for connection in wave:
                after_ms = round(1000 * random.uniform(0, jitter))  # noqa: S311 -- no secret
                # What this cycle still owes it comes before the advice and the close.
                connection.tell(text_frame(reconnect_advice(after_ms)), self._hub)
                connection.close(Close.DRAINING)
            if waiting:
                await trio.sleep(_WAVE_SECONDS)

    def _greeting(self, connection: Connection) -> None:
        """What a newcomer has to know."""
        if self.standing is not None:
            connection.tell(text_frame(self.standing), self._hub)


async def _secure(transport: TlsTransport, seconds: float) -> None:
    """Agree on TLS. Raises Refusal, which can only be answered where the peer speaks HTTP."""
    with trio.move_on_after(seconds):
        try:
            await transport.handshake()
        except HandshakeFailed as error:
            label = "no_tls" if error.plain_http else "tls_failed"
            text = "TLS is spoken here: wss"
            raise Refusal(HTTPStatus.BAD_REQUEST, label, text) from error
        return
    raise Refusal(HTTPStatus.REQUEST_TIMEOUT, "tls_failed", f"no TLS in {seconds:g} s")


async def _send_last(transport: Transport, data: bytes) -> None:
    """Send a refusal and let the peer read it; it has no say in how long that takes."""
    with trio.move_on_after(1):
        view = memoryview(data)
        while view:
            view = view[transport.send_nowait(view) :]
            if view:
                await transport.wait_writable()
        transport.send_eof()
        while await transport.receive_some(4096):
            pass
