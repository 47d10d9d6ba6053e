"""The one nursery: everything is opened here in order, and closed in the reverse order.

What must outlive is outside: the ops port tells of everything, so it stops last; the feed goes on
until the last subscriber has left.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import Final

import attrs
import structlog
import trio

from odin_ws.address import Address
from odin_ws.announcements import (
    broadcast_feed_status,
    broadcast_offset_gaps,
    close_rebalanced_subscribers,
)
from odin_ws.auth.grants import full_grant
from odin_ws.auth.origins import Origins
from odin_ws.catalogue import Catalogue
from odin_ws.connection.connection import CLOSE_SECONDS
from odin_ws.connection.keepalive import Keepalive
from odin_ws.connection.token_expiry import Expiry
from odin_ws.handshake.admission import Admission
from odin_ws.handshake.authenticator import Authenticator, AuthPolicy
from odin_ws.handshake.forwarded import TrustedProxies
from odin_ws.handshake.handshake import HandshakeLimits, Handshaker
from odin_ws.handshake.memory_budget import MemoryBudget
from odin_ws.handshake.rate_limiter import PerAddressLimit, RateLimiter, RateLimits
from odin_ws.history import History, SnapshotCache
from odin_ws.hub import Hub, Ingest
from odin_ws.kafka.dead_letters import DeadLetterQueue
from odin_ws.kafka.log_reader import KafkaLogReader
from odin_ws.kafka.options import KafkaOptions
from odin_ws.kafka.security import KafkaSecurity
from odin_ws.kafka.source import KafkaSource
from odin_ws.kafka.source_protocol import Source
from odin_ws.listener.accept_loop import accept_connections, bound_address, open_listening_socket
from odin_ws.listener.read_scheduler import ReadScheduler, running_read_scheduler
from odin_ws.listener.tls import Certificate
from odin_ws.listener.transport import Transport
from odin_ws.log_reader import LogReader
from odin_ws.ops.app import ops_app
from odin_ws.ops.page_cache import PAGE_SECONDS
from odin_ws.ops.resources import Resources, own_cgroup
from odin_ws.ops.server import serve_ops
from odin_ws.ops.service_view import View
from odin_ws.records import Item
from odin_ws.resume import ReplayContext, ReplayLimits, ReplayStats, ScanPool
from odin_ws.server import ConnectionLimits, ConnectionServer
from odin_ws.session.session import SessionLimits
from odin_ws.session.subscription_limits import SubscriptionLimits
from odin_ws.settings import Settings
from odin_ws.settings.handshake import PUBLIC_CONNECT_RATE, PUBLIC_CONNECTIONS

__all__ = [
    "Accept",
    "Addresses",
    "Upstream",
    "build",
    "history_records",
    "kafka",
    "run_ingest",
    "running",
    "serve",
    "subscribers",
]

log = structlog.get_logger("odin_ws.service")

# What a retained record of a few hundred bytes takes: so many are read at the start at most.
_RETAINED_BYTES: Final = 2048

# Batches of at most 2,000 records between source and hub: enough that neither waits for the
# other's scheduling, few enough that a busy hub stops the fetching within milliseconds.
_CHANNEL_BATCHES: Final = 4

# A fetch and what follows from it is some 2 ms of CPU. Without a broadcast rate fetches are still
# this far apart, so that 1,000 records a second are not 1,000 fetches.
_SHORTEST_SLOT: Final = 0.005


# Accepts connections until cancelled: gives each to the function, in a task of the nursery.
Accept = Callable[[Callable[[Transport, str], Awaitable[None]], trio.Nursery], Awaitable[None]]


@attrs.frozen
class Addresses:
    """Where the service listens, with the ports it really got."""

    subscribers: Address
    ops: Address


@attrs.frozen
class Upstream:
    """Where the records come from: as they are published, and again later.

    `dead_letters`: where those go that cannot be delivered, if anywhere.
    """

    source: Source
    log_reader: LogReader
    dead_letters: DeadLetterQueue | None = None


async def serve(
    settings: Settings,
    catalogue: Catalogue,
    upstream: Upstream,
    stop: trio.Event,
    *,
    task_status: trio.TaskStatus[Addresses] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the service until `stop` is set, then drain. Cancelling it stops at once."""
    with (
        open_listening_socket(settings.ws_ops_addr) as ops_socket,
        open_listening_socket(settings.ws_addr) as listening,
    ):
        addresses = Addresses(bound_address(listening), bound_address(ops_socket))
        async with running(settings, catalogue, upstream, listening, ops_socket):
            log.info("serving", subscribers=str(addresses.subscribers), ops=str(addresses.ops))
            task_status.started(addresses)
            await stop.wait()


@asynccontextmanager
async def running(
    settings: Settings,
    catalogue: Catalogue,
    upstream: Upstream,
    listening: socket.socket,
    ops_socket: socket.socket,
) -> AsyncIterator[None]:
    """Serve on two listening sockets for the length of the block, then drain.

    Raises CertificateError.
    """
    certificate = read_certificate(settings)
    view = build(settings, catalogue, upstream, certificate)
    async with (
        # First: once the ops port answers, a signal finds somebody who waits for it.
        _renewed(certificate),
        _observed(view, ops_socket),
        run_ingest(view, upstream),
        running_read_scheduler(view.read_scheduler),
        subscribers(view, partial(accept_connections, listening, view.read_scheduler)),
    ):
        yield
    log.info("stopped", disconnects=view.server.stats.closed.total())


def build(
    settings: Settings,
    catalogue: Catalogue,
    upstream: Upstream,
    certificate: Certificate | None = None,
) -> View:
    """Make the parts and join them; nothing runs yet. Raises SettingsError."""
    rate = settings.ws_max_broadcast_rate
    ingest = Ingest(
        catalogue,
        History(catalogue, settings.ws_history_bytes, settings.ws_history_seconds),
        SnapshotCache(catalogue, settings.ws_snapshot_bytes),
        settings.ws_max_record_bytes,
    )
    hub = Hub(
        ingest,
        interval=1 / rate if rate else 0.0,
        # Two cycles' worth may wait for a subscriber that is catching up, before it counts as slow.
        cycle_bytes=settings.ws_send_queue_bytes // 2,
    )
    budget = MemoryBudget()
    resources = Resources(
        settings.ws_cpu_limit,
        settings.ws_memory_limit,
        own_cgroup(),
        settings.ws_workers,
        max_loop_delay=settings.ws_max_loop_delay_seconds,
        budget=budget,
    )
    replays = ReplayStats()
    read_scheduler = ReadScheduler(lambda: hub.stats.busy_seconds, lambda: replays.send_seconds)
    scans = ScanPool(
        hub,
        upstream.log_reader,
        settings.ws_replay_consumers,
        read_scheduler.take_for_replay,
        read_scheduler.wait_for_work_slice,
    )
    limits = ReplayLimits(settings.ws_max_replay_records)
    server = ConnectionServer(
        ReplayContext(hub, scans.log_reader, limits, scans, replays),
        Admission(settings.ws_max_connections, resources.overload, budget=budget),
        Keepalive(settings.ws_ping_interval_seconds, settings.ws_pong_timeout_seconds),
        _limits(settings, budget),
        handshaker=_handshaker(settings, certificate),
        authenticator=_authenticator(settings, catalogue, hub),
    )
    ingest.on_offset_gaps = partial(broadcast_offset_gaps, server)
    view = View(
        settings, upstream.source.status, hub, server, resources, read_scheduler, certificate
    )
    if upstream.dead_letters is not None:
        ingest.on_invalid_record = upstream.dead_letters.put
        view.dead_letters = upstream.dead_letters.stats
    return view


def _authenticator(settings: Settings, catalogue: Catalogue, hub: Hub) -> Authenticator:
    rules = AuthPolicy(
        full_grant(catalogue),
        Origins(settings.ws_allowed_origins),
        settings.ws_max_connections_per_user,
        settings.ws_token_in_query,
    )
    jwt_verifier = None
    if settings.ws_auth != "none":
        # It loads PyJWT and cryptography.
        from odin_ws.auth.jwt_verifier import open_jwt_verifier  # noqa: PLC0415

        jwt_verifier = open_jwt_verifier(settings, catalogue)
    return Authenticator(jwt_verifier, rules, Expiry(hub, settings.ws_token_expiry_notice_seconds))


def read_certificate(settings: Settings) -> Certificate | None:
    """What the settings name; None where TLS is not ours to speak. Raises CertificateError."""
    if settings.ws_tls_cert is None or settings.ws_tls_key is None:
        return None
    return Certificate(
        settings.ws_tls_cert, settings.ws_tls_key, 86_400 * settings.ws_tls_expiry_warning_days
    )


@asynccontextmanager
async def _renewed(certificate: Certificate | None) -> AsyncIterator[None]:
    """For the length of the block, read the certificate again when a signal asks for it."""
    async with trio.open_nursery() as nursery:
        if certificate is not None:
            nursery.start_soon(certificate.run)
        yield
        nursery.cancel_scope.cancel()


def _handshaker(settings: Settings, certificate: Certificate | None) -> Handshaker:
    limits = HandshakeLimits(
        max_pending=settings.ws_max_pending_handshakes,
        max_header_bytes=settings.ws_max_header_bytes,
        timeout_seconds=settings.ws_handshake_timeout_seconds,
        trusted_proxies=TrustedProxies(settings.ws_trusted_proxies, settings.ws_forwarded_header),
        proxy_protocol=settings.ws_proxy_protocol == "required",
    )
    # Never all of the places there are.
    public = min(PUBLIC_CONNECTIONS, max(1, settings.ws_max_connections // 2))
    addresses = RateLimits(
        settings.ws_connect_rate,
        PerAddressLimit.of(settings.ws_connect_rate_per_ip, PUBLIC_CONNECT_RATE),
        PerAddressLimit.of(settings.ws_max_connections_per_ip, public),
    )
    return Handshaker(limits, RateLimiter(addresses), certificate)


def _limits(settings: Settings, budget: MemoryBudget) -> ConnectionLimits:
    subscriptions = SubscriptionLimits(
        patterns=settings.ws_max_subscriptions,
        pattern_bytes=settings.ws_max_subscription_bytes,
        budget=budget,
        threshold_bytes=settings.ws_conflation_threshold_bytes,
        held_bytes=settings.ws_send_queue_bytes,
        grace=settings.ws_write_timeout_seconds,
        stuck=settings.ws_pong_timeout_seconds,
    )
    return ConnectionLimits(
        retained_bytes=settings.ws_max_message_bytes,
        message_frames=settings.ws_max_fragments,
        message_seconds=settings.ws_message_timeout_seconds,
        send_queue_bytes=settings.ws_send_queue_bytes,
        write_timeout=settings.ws_write_timeout_seconds,
        compression=settings.ws_compression == "shared",
        session=SessionLimits(settings.ws_command_rate, settings.ws_command_burst, subscriptions),
    )


def history_records(settings: Settings) -> int:
    """How many records of the past are read at the start at most."""
    return settings.ws_history_bytes // _RETAINED_BYTES


def kafka(settings: Settings, catalogue: Catalogue, security: KafkaSecurity) -> Upstream:
    """The Kafka that `security` leads to, read as the settings say."""
    rate = settings.ws_max_broadcast_rate
    in_group = settings.kafka_assignment == "group"
    options = KafkaOptions(
        security=security,
        group=settings.kafka_consumer_group if in_group else None,
        max_wait=settings.kafka_fetch_max_wait_seconds,
        # Nothing is written more often than that, so nothing is fetched more often.
        slot=max(_SHORTEST_SLOT, 1 / rate if rate else 0.0),
        rate=settings.ws_max_kafka_rate,
        probe=settings.kafka_probe_seconds,
        history_seconds=settings.ws_history_seconds,
        history_records=history_records(settings),
    )
    topic = settings.kafka_dead_letter_topic
    return Upstream(
        KafkaSource(catalogue, options),
        KafkaLogReader(options, settings.ws_replay_consumers),
        DeadLetterQueue(security, topic, socket.gethostname()) if topic else None,
    )


@asynccontextmanager
async def _observed(view: View, listening: socket.socket) -> AsyncIterator[None]:
    """Health and metrics."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(view.resources.run)
        nursery.start_soon(view.resources.loop.run)
        nursery.start_soon(view.watch_source)
        # A worker's pages are asked by its supervisor alone, which shares what it makes of them.
        seconds = 0.0 if listening.family is socket.AF_UNIX else PAGE_SECONDS
        async with serve_ops(ops_app(view, seconds), listening, view.ops):
            yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def run_ingest(view: View, upstream: Upstream) -> AsyncIterator[None]:
    """The way of the records: source, bounded channel, hub; and what there is to tell about it."""
    send, receive = trio.open_memory_channel[Item](_CHANNEL_BATCHES)
    dead_letters = upstream.dead_letters
    async with (
        dead_letters.running() if dead_letters else nullcontext(),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(upstream.source.run, send)
        nursery.start_soon(view.server.scans.run)
        nursery.start_soon(view.hub.run, receive)
        nursery.start_soon(broadcast_feed_status, view.source_status, view.server)
        nursery.start_soon(close_rebalanced_subscribers, view.hub.ingest, view.server)
        yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def subscribers(view: View, accept: Accept) -> AsyncIterator[None]:
    """Accept and serve subscribers; at the end of the block let nobody in and send all away."""
    settings, server = view.settings, view.server
    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as accepting:
            accepting.start_soon(server.keepalive.run)
            accepting.start_soon(server.authenticator.run)
            accepting.start_soon(server.send_positions, settings.ws_positions_interval_seconds)
            accepting.start_soon(accept, server.serve, connections)
            yield
            log.info("draining", connections=server.admission.active)
            view.draining = True
            # Load balancers see the readiness first; whom they still send is served.
            await trio.sleep(settings.ws_drain_delay_seconds)
            accepting.cancel_scope.cancel()
        connections.cancel_scope.deadline = trio.current_time() + settings.ws_drain_timeout_seconds
        await server.close_all(max(0.0, settings.ws_drain_timeout_seconds - CLOSE_SECONDS))
