"""The connection server: serves, counts, announces to and closes all connections."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Final

import attrs
import structlog
import trio

from odin_ws.auth.grants import Grant
from odin_ws.auth.revocations import Revocation
from odin_ws.connection.connection import CommandHandler, Connection, Reader
from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.connection.framing import WEBSOCKET, Framing
from odin_ws.connection.keepalive import Keepalive
from odin_ws.connection_options import CanaryLimits, ConnectionLimits, ConnectionStats
from odin_ws.handshake.admission import Admission
from odin_ws.handshake.authenticator import Authenticator
from odin_ws.handshake.credentials import select_subprotocol
from odin_ws.handshake.handshake import Handshaker, IncomingConnection
from odin_ws.handshake.request import (
    PATH,
    HandshakeRequest,
    HTTPRejection,
    check_upgrade,
    upgrade_response,
)
from odin_ws.http_api.event_stream import EventReader, EventSession
from odin_ws.http_api.http_api import SNAPSHOT_PATH, HttpApi
from odin_ws.hub import Subscriber
from odin_ws.listener.transport import Transport
from odin_ws.protocol.message_reader import FrameReader
from odin_ws.protocol.permessage_deflate import agree
from odin_ws.protocol.responses import positions_notice, reconnect_advice
from odin_ws.protocol.wire_format import WireFormat, wire_format
from odin_ws.resume import ReplayContext
from odin_ws.session.session import ClientSession, SessionStats
from odin_ws.steps import finish
from odin_ws.time_slice import TimeSlice

__all__ = ["ConnectionServer"]

log = structlog.get_logger("odin_ws.connection")

# Interval of waves in the drain.
_WAVE_SECONDS: Final = 0.1

# After a drain at most this many clients reconnect per second: fewer than an instance upgrades
# while it serves others (docs/performance.md); at least a second of jitter spreads each wave.
_RETURNS: Final = 1000
_LEAST_JITTER_SECONDS: Final = 1.0

# Clients with positions are updated in portions: of 12,000 in 10 s, 24 times per second.
_POSITIONS_SLICE: Final = 50

# Announcements are rare: this many writes at a time take the event loop a millisecond or two.
_ANNOUNCE_SLICE: Final = 200

# The canary's own timeout is shorter; another holder of its credential gets no longer than this.
_CANARY_SECONDS: Final = 15.0

# The wire format of clients that requested no other.
_PLAIN: Final = wire_format()


class ConnectionServer:
    """Serves connections; an error in one ends only that one."""

    def __init__(  # noqa: PLR0913 -- its parts
        self,
        context: ReplayContext,
        admission: Admission,
        keepalive: Keepalive,
        limits: ConnectionLimits,
        *,
        handshaker: Handshaker,
        authenticator: Authenticator,
        canary: CanaryLimits | None = None,
    ) -> None:
        self._canary = canary
        self.stats = ConnectionStats()
        self.admission = admission
        self.keepalive = keepalive
        self.handshaker = handshaker
        self.authenticator = authenticator
        self.http = HttpApi(
            context,
            authenticator.origins,
            limits.session.subscriptions,
            max_snapshot_bytes=limits.send_queue_bytes,
            # Other headers come with it.
            max_id_bytes=handshaker.max_header_bytes // 4,
        )
        self.replays = context.stats
        self.scans = context.scans
        self.connections: set[Connection] = set()
        self._context = context
        self._hub = context.hub
        self._on_drained = context.hub.release
        self._limits = limits
        # Current announcements by subject, which new clients get first.
        self.current_notices: dict[str, bytes] = {}

    async def serve(self, wire: Transport, peer: str) -> None:
        """Serve one connection for its whole life. Raises nothing but cancellation."""
        try:
            async with self.handshaker.accept(wire, peer) as incoming:
                try:
                    await self._serve(incoming)
                except HTTPRejection as rejection:
                    await self._dismiss(incoming, rejection)
        except* trio.BrokenResourceError:
            # The peer disconnected before the upgrade: there is no connection to count.
            log.debug("connection lost before the upgrade", peer=peer)
        except* Exception:  # the boundary: one connection's bug must not end others
            self.stats.errors += 1
            log.exception("connection failed", peer=peer)
        finally:
            wire.close()

    async def _dismiss(self, incoming: IncomingConnection, rejection: HTTPRejection) -> None:
        self.admission.count(rejection)
        status, reason = int(rejection.status), rejection.label
        log.debug("rejected", peer=incoming.peer, status=status, reason=reason)
        await self.handshaker.reject(incoming, rejection)

    async def _serve(self, incoming: IncomingConnection) -> None:
        """Read the request, admit, serve. Raises HTTPRejection."""
        request = await self.handshaker.read_request(incoming)
        if request is None:
            return
        if incoming.is_canary and self._canary is not None:
            await self._serve_canary(incoming, request, self._canary)
            return
        if request.path == PATH:
            await self._serve_websocket(incoming, request)
            return
        try:
            answer = self.http.respond(request)
            if answer is None:
                await self._serve_http(incoming, request)
            else:
                await self.handshaker.answer(incoming, answer)
        except HTTPRejection as rejection:
            if not self.http.is_read_by_pages(request):
                raise
            # Without a cause or a local variable: frames and exceptions must not hold each other.
            raise self.http.rejection(request, rejection) from None

    async def _serve_websocket(
        self, incoming: IncomingConnection, request: HandshakeRequest
    ) -> None:
        """Admit, upgrade, serve. Raises HTTPRejection."""
        # Capacity is checked before authentication, which costs more than a rejection.
        with (
            self.admission.admit(request) as form,
            self.handshaker.rate_limiter.count_connection(incoming.client_address),
        ):
            grant = await self.authenticator.authenticate(request)
            with self.authenticator.count_connection(grant):
                limits, stats = self._limits, self.stats.sessions
                served = self._upgrade(incoming, request, form, grant, limits=limits, stats=stats)
                await self._run(*served, request.rest)

    async def _serve_http(self, incoming: IncomingConnection, request: HandshakeRequest) -> None:
        """Admit and serve a plain HTTP request. Raises HTTPRejection."""
        with (
            self.admission.admit_request(),
            self.handshaker.rate_limiter.count_connection(incoming.client_address),
        ):
            grant = await self.authenticator.authenticate(request)
            with self.authenticator.count_connection(grant):
                if request.path == SNAPSHOT_PATH:
                    with self.http.snapshots.counted():
                        answer = await self.http.snapshot(request, grant)
                        seconds = self._limits.write_timeout
                        await self.handshaker.answer(incoming, answer, seconds)
                else:
                    await self._serve_events(incoming, request, grant)

    async def _serve_events(
        self, incoming: IncomingConnection, request: HandshakeRequest, grant: Grant
    ) -> None:
        """Serve a stream of events as a connection. Raises HTTPRejection."""
        query, command = await self.http.read_subscription(request, grant)
        framing = self.http.framing(query)
        connection = self._connection(incoming, framing.form, grant, framing)
        session = EventSession(
            connection,
            framing,
            self._context,
            limits=self._limits.session.subscriptions,
            stats=self.stats.sessions,
            command=command,
        )
        head = self.http.stream_head(request)
        await self._run(connection, session, EventReader(), head, request.rest)

    async def _serve_canary(
        self, incoming: IncomingConnection, request: HandshakeRequest, limits: CanaryLimits
    ) -> None:
        """Serve our own canary, which is no client: not counted, and no limit applies."""
        check_upgrade(request)
        one = attrs.evolve(self._limits, session=limits.session)
        served = self._upgrade(
            incoming, request, _PLAIN, limits.grant, limits=one, stats=SessionStats()
        )
        connection, session, reader, answer = served
        with trio.move_on_after(_CANARY_SECONDS):
            try:
                await connection.run(answer, session, reader, request.rest)
            finally:
                await self._leave(connection.subscriber)
                connection.abandon()

    def _upgrade(  # noqa: PLR0913 -- the canary has its own limits and counts
        self,
        incoming: IncomingConnection,
        request: HandshakeRequest,
        form: WireFormat,
        grant: Grant,
        *,
        limits: ConnectionLimits,
        stats: SessionStats,
    ) -> tuple[Connection, ClientSession, FrameReader, bytes]:
        """Build the objects of an upgraded connection, and its handshake response."""
        offers = request.headers.get("sec-websocket-extensions")
        agreed = agree(offers) if offers and limits.compression else None
        form = form if agreed is None else form.with_window(agreed.window_bits)
        connection = self._connection(incoming, form, grant)
        session = ClientSession(
            connection, self._context, limits.session, stats, self.authenticator
        )
        reader = FrameReader(
            limits.message_bytes, limits.message_frames, deflate=agreed is not None
        )
        extensions = None if agreed is None else agreed.answer
        answer = upgrade_response(request, select_subprotocol(request), extensions)
        return connection, session, reader, answer

    def _connection(
        self,
        incoming: IncomingConnection,
        form: WireFormat,
        grant: Grant,
        framing: Framing = WEBSOCKET,
    ) -> Connection:
        limits = self._limits
        return Connection(
            incoming.transport,
            incoming.peer,
            form,
            grant,
            send_queue_bytes=limits.send_queue_bytes,
            grace=limits.write_timeout,
            message_seconds=limits.message_seconds,
            on_drained=self._on_drained,
            on_open=self._on_open,
            framing=framing,
        )

    async def _run(
        self,
        connection: Connection,
        session: CommandHandler,
        reader: Reader,
        answer: bytes,
        rest: bytes,
    ) -> None:
        """Send the handshake response and serve a connection, counted until it has ended."""
        self.stats.opened += 1
        self.connections.add(connection)
        try:
            with self.keepalive.watch(connection), self.authenticator.watch_expiry(connection):
                try:
                    await connection.run(answer, session, reader, rest)
                except* Exception:  # to send 1011 while the socket is open; reported above
                    await connection.fail()
                    raise
                finally:
                    await self._leave(connection.subscriber)
        finally:
            self._forget(connection)

    async def _leave(self, subscriber: Subscriber) -> None:
        """Remove a subscriber in time slices: many may leave together, with many patterns."""
        leaving = self._hub.leave(subscriber)
        try:
            await TimeSlice(self.scans.wait_for_work_slice).run(leaving)
        finally:
            # If the process stops: without time slices.
            finish(leaving)

    def _forget(self, connection: Connection) -> None:
        """Count an ended connection and drop references to it."""
        stats = self.stats
        self.connections.remove(connection)
        connection.abandon()
        reason = connection.closing or DisconnectReason.DRAINING
        stats.closed[reason] += 1
        stats.duration.observe(trio.current_time() - connection.opened_at)
        stats.bytes_sent += connection.send_queue.bytes_sent
        stats.bytes_received += connection.bytes_received
        log.debug("closed", peer=connection.peer, reason=reason.value.label)

    async def announce(self, payload: bytes, topics: AbstractSet[str] | None = None) -> None:
        """Send an announcement to all connections, in order with their messages.

        `topics`: only to connections with a subscription in one of them.
        """
        topics_of = self._hub.topics_of
        for count, connection in enumerate(self._open(), 1):
            if topics is None or not topics.isdisjoint(topics_of(connection.subscriber)):
                connection.send_notice(payload, self._hub)
            if not count % _ANNOUNCE_SLICE:
                await trio.lowlevel.checkpoint()

    def announce_now(self, payload: bytes) -> None:
        """Send an announcement to all connections synchronously: for rare and urgent ones."""
        for connection in self._open():
            self._hub.settle(connection.subscriber)
            connection.send_notice(payload, self._hub)

    def _open(self) -> list[Connection]:
        # Connections that open later get the current announcements in their greeting.
        return [connection for connection in self.connections if connection.is_open]

    async def send_positions(self, interval: float) -> None:
        """Send positions to clients that keep them, each every `interval` seconds.

        Otherwise the position of a quiet partition would be as old as the subscription, and a
        resume would read all of the log since then.
        """
        while True:
            following = [one for one in self.connections if one.subscriber.wants_positions]
            slices = range(0, max(1, len(following)), _POSITIONS_SLICE)
            for begin in slices:
                await trio.sleep(interval / len(slices))
                self._send_positions(following[begin : begin + _POSITIONS_SLICE])

    def _send_positions(self, connections: Sequence[Connection]) -> None:
        notices: dict[tuple[str, ...], bytes] = {}
        for connection in connections:
            # Messages of a running replay may be before these positions.
            if not connection.is_caught_up:
                continue
            hub, subscriber = self._hub, connection.subscriber
            topics = tuple(hub.topics_of(subscriber))
            if subscriber.paces is not None:
                positions = hub.sent_positions(subscriber, topics)
                notice = positions_notice(positions, hub.stream.ids_of(topics))
            elif topics in notices:
                notice = notices[topics]
            else:
                notice = notices[topics] = positions_notice(
                    hub.stream.positions_of(topics), hub.stream.ids_of(topics)
                )
            connection.send_notice(notice, hub)

    async def close_all(self, seconds: float) -> None:
        """Close all connections in waves over `seconds`, so that clients do not return all at once.

        Each client gets a reconnect time: after the waves and their jitter at most `_RETURNS`
        clients per second.
        """
        waiting = list(self.connections)
        jitter = max(_LEAST_JITTER_SECONDS, len(waiting) / _RETURNS - seconds)
        waves = max(1, round(seconds / _WAVE_SECONDS))
        size = math.ceil(len(waiting) / waves)
        while waiting:
            wave, waiting = waiting[:size], waiting[size:]
            for connection in wave:
                after_ms = round(1000 * random.uniform(0, jitter))  # noqa: S311 -- no secret
                # Pending messages come before the advice and the close.
                self._hub.settle(connection.subscriber)
                connection.send_notice(reconnect_advice(after_ms), self._hub)
                connection.close(DisconnectReason.DRAINING)
            if waiting:
                await trio.sleep(_WAVE_SECONDS)

    async def close_rebalanced(self, topics: AbstractSet[str]) -> None:
        """Close connections with a subscription in topics that are no longer served completely.

        Each client gets a reconnect time: at most `_RETURNS` clients per second.
        """
        topics_of = self._hub.topics_of
        concerned = [
            one for one in self._open() if not topics.isdisjoint(topics_of(one.subscriber))
        ]
        jitter = max(_LEAST_JITTER_SECONDS, len(concerned) / _RETURNS)
        reason = DisconnectReason.REBALANCED.value.label
        for count, connection in enumerate(concerned, 1):
            after_ms = round(1000 * random.uniform(0, jitter))  # noqa: S311 -- no secret
            self._hub.settle(connection.subscriber)
            connection.send_notice(reconnect_advice(after_ms, reason), self._hub)
            connection.close(DisconnectReason.REBALANCED)
            if not count % _ANNOUNCE_SLICE:
                await trio.lowlevel.checkpoint()

    def flush_event_streams(self) -> None:
        """Write pending messages to event streams before the hub's positions change their meaning.

        The ids of pending messages contain these positions.
        """
        for subscriber in [one.subscriber for one in self.connections]:
            if subscriber.form.event_ids is not None:
                self._hub.settle(subscriber)

    def revoke(self, revocation: Revocation) -> int:
        """Close all connections of a revoked user or JWT at once; returns how many."""
        concerned = [one for one in self.connections if revocation.concerns(one.grant)]
        for connection in concerned:
            connection.close(DisconnectReason.REVOKED)
        return len(concerned)

    def _on_open(self, connection: Connection) -> None:
        """Send the current announcements to a new connection."""
        for payload in self.current_notices.values():
            connection.send_notice(payload, self._hub)
