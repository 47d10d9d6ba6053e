"""The connection server: serves each connection from its request to its end, and counts it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import attrs
import structlog
import trio

from odin_ws.auth.grants import Grant
from odin_ws.connection.client_input import CommandHandler, Reader
from odin_ws.connection.connection import Connection
from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.connection.framing import WEBSOCKET, Framing
from odin_ws.connection.keepalive import Keepalive
from odin_ws.connection.open_connections import OpenConnections
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
from odin_ws.protocol.permessage_deflate import negotiate
from odin_ws.protocol.wire_format import WireFormat, wire_format
from odin_ws.resume import ReplayContext
from odin_ws.session.session import ClientSession, SessionStats
from odin_ws.steps import finish
from odin_ws.time_slice import TimeSlice

__all__ = ["ConnectionServer"]

log = structlog.get_logger("odin_ws.connection")

# The canary's own timeout is shorter; another holder of its credential gets no longer than this.
_CANARY_SECONDS: Final = 15.0

# The wire format of clients that requested no other.
_PLAIN: Final = wire_format()


class ConnectionServer:
    """Serves connections; an error in one ends only that one."""

    def __init__(  # noqa: PLR0913 -- its parts
        self,
        context: ReplayContext,
        connections: OpenConnections,
        admission: Admission,
        keepalive: Keepalive,
        limits: ConnectionLimits,
        *,
        handshaker: Handshaker,
        authenticator: Authenticator,
        is_ready: Callable[[], bool],
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
            is_ready=is_ready,
            max_snapshot_bytes=limits.send_queue_bytes,
            # A request has other headers too.
            max_id_bytes=handshaker.max_header_bytes // 4,
        )
        self.replays = context.stats
        self.scans = context.scans
        self.replay_window = context.window
        self.connections = connections
        self._notices = connections.current_notices
        self._context = context
        self._hub = context.hub
        self._limits = limits

    async def serve(self, wire: Transport, peer: str) -> None:
        """Serve one connection for its whole life. Raises nothing but cancellation."""
        try:
            async with self.handshaker.accept(wire, peer) as incoming:
                try:
                    if await self.handshaker.read_request(incoming) is not None:
                        await self._serve_request(incoming)
                except HTTPRejection as rejection:
                    await self._reject(incoming, rejection)
        except* trio.BrokenResourceError:
            # The peer disconnected before the upgrade: there is no connection to count.
            log.debug("connection lost before the upgrade", peer=peer)
        except* Exception:  # the boundary: one connection's bug must not end others
            self.stats.errors += 1
            log.exception("connection failed", peer=peer)
        finally:
            wire.close()

    async def _reject(self, incoming: IncomingConnection, rejection: HTTPRejection) -> None:
        request = incoming.request
        if request is not None and self.http.is_read_by_pages(request):
            rejection = self.http.rejection(request, rejection)
        self.admission.count(rejection)
        status, reason = int(rejection.status), rejection.label
        log.debug("rejected", peer=incoming.peer, status=status, reason=reason)
        await self.handshaker.reject(incoming, rejection)

    def _serve_request(self, incoming: IncomingConnection) -> Awaitable[None]:
        """Admit, serve. Raises HTTPRejection.

        Not async itself: its frame would stay for as long as the connection.
        """
        request = incoming.request
        assert request is not None, "it was read"
        if incoming.is_canary and self._canary is not None:
            return self._serve_canary(incoming, request, self._canary)
        if request.path == PATH:
            return self._serve_websocket(incoming, request)
        response = self.http.respond(request)
        if response is None:
            return self._serve_http(incoming, request)
        return self.handshaker.send_response(incoming, response)

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
                running = self._run(*served, request.rest)
                # An open connection keeps neither its request nor its response.
                incoming.request = None
                del request, served
                await running

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
                        response = await self.http.snapshot(request, grant)
                        seconds = self._limits.write_timeout
                        await self.handshaker.send_large_response(incoming, response, seconds)
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
        canary_limits = attrs.evolve(self._limits, session=limits.session)
        served = self._upgrade(
            incoming, request, _PLAIN, limits.grant, limits=canary_limits, stats=SessionStats()
        )
        connection, session, reader, response = served
        with trio.move_on_after(_CANARY_SECONDS):
            try:
                await connection.run(
                    response, session, reader, request.rest, self._notices.values()
                )
            finally:
                await self._release_slot(connection.subscriber)
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
        agreed = negotiate(offers) if offers and limits.compression else None
        form = form if agreed is None else form.with_window(agreed.window_bits)
        connection = self._connection(incoming, form, grant)
        session = ClientSession(
            connection, self._context, limits.session, stats, self.authenticator
        )
        reader = FrameReader(
            limits.message_bytes, limits.message_frames, deflate=agreed is not None
        )
        extensions = None if agreed is None else agreed.response
        response = upgrade_response(request, select_subprotocol(request), extensions)
        return connection, session, reader, response

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
            hub=self._hub,
            framing=framing,
        )

    async def _run(
        self,
        connection: Connection,
        session: CommandHandler,
        reader: Reader,
        response: bytes,
        rest: bytes,
    ) -> None:
        """Send the handshake response and serve a connection, counted until it has ended.

        Raises HTTPRejection if the server has begun to close its connections.
        """
        self.admission.check_serving()
        self.stats.opened += 1
        self.connections.add(connection)
        try:
            with self.keepalive.watch(connection), self.authenticator.watch_expiry(connection):
                running = connection.run(response, session, reader, rest, self._notices.values())
                del response, rest
                try:
                    await running
                except* Exception:  # to send 1011 while the socket is open; reported above
                    await connection.fail()
                    raise
                finally:
                    await self._release_slot(connection.subscriber)
        finally:
            self._forget(connection)

    async def _release_slot(self, subscriber: Subscriber) -> None:
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
