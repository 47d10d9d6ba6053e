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
from odin_ws.announcements import tell_of_feed, tell_of_jumps, tell_of_rebalances
from odin_ws.auth.grants import full_grant
from odin_ws.auth.origins import Origins
from odin_ws.catalogue import Catalogue
from odin_ws.connection.connection import CLOSE_SECONDS
from odin_ws.connection.keepalive import Keepalive
from odin_ws.connection.token_expiry import Expiry
from odin_ws.handshake.admission import Admission
from odin_ws.handshake.authenticator import Doorkeeper, DoorRules
from odin_ws.handshake.forwarded import TrustedProxies
from odin_ws.handshake.handshake import Entrance, EntranceLimits
from odin_ws.handshake.memory_budget import MemoryBudget
from odin_ws.handshake.rate_limiter import AddressLimits, ConnectLimits, PerAddress
from odin_ws.history import LastMessages, Retention
from odin_ws.hub import Hub, Intake
from odin_ws.kafka.dead_letters import DeadLetters
from odin_ws.kafka.log_reader import KafkaLogReader
from odin_ws.kafka.options import KafkaOptions
from odin_ws.kafka.security import KafkaAccess
from odin_ws.kafka.source import KafkaSource
from odin_ws.kafka.source_protocol import Source
from odin_ws.listener.accept_loop import accept_connections, bound_address, open_listening_socket
from odin_ws.listener.read_scheduler import Turns, giving_turns
from odin_ws.listener.tls import Certificate
from odin_ws.listener.transport import Transport
from odin_ws.log_reader import Archive
from odin_ws.ops.app import ops_app
from odin_ws.ops.page_cache import PAGE_SECONDS
from odin_ws.ops.resources import Resources, own_cgroup
from odin_ws.ops.server import serve_ops
from odin_ws.ops.service_view import View
from odin_ws.records import Item
from odin_ws.resume import ReplayContext, ReplayLimits, ReplayStats, Scans
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
    "run_feed",
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
    archive: Archive
    dead_letters: DeadLetters | None = None


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
        run_feed(view, upstream),
        giving_turns(view.turns),
        subscribers(view, partial(accept_connections, listening, view.turns)),
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
    intake = Intake(
        catalogue,
        Retention(catalogue, settings.ws_retention_bytes, settings.ws_retention_seconds),
        LastMessages(catalogue, settings.ws_snapshot_bytes),
        settings.ws_max_record_bytes,
    )
    hub = Hub(
        intake,
        interval=1 / rate if rate else 0.0,
        # Two cycles' worth may wait for a subscriber that is catching up, before it counts as slow.
        cycle_bytes=settings.ws_outbox_bytes // 2,
    )
    budget = MemoryBudget()
    resources = Resources(
        settings.ws_cpu_limit,
        settings.ws_memory_limit,
        own_cgroup(),
        settings.ws_workers,
        max_loop_delay=settings.ws_max_loop_delay,
        budget=budget,
    )
    replays = ReplayStats()
    turns = Turns(lambda: hub.stats.busy_seconds, lambda: replays.send_seconds)
    scans = Scans(
        hub,
        upstream.archive,
        settings.ws_replay_readers,
        turns.take_for_replay,
        turns.take_for_work,
    )
    limits = ReplayLimits(settings.ws_replay_max_records)
    server = ConnectionServer(
        ReplayContext(hub, scans.archive, limits, scans, replays),
        Admission(settings.ws_max_connections, resources.overload, budget=budget),
        Keepalive(settings.ws_ping_interval, settings.ws_pong_timeout),
        _limits(settings, budget),
        entrance=_entrance(settings, certificate),
        doorkeeper=_doorkeeper(settings, catalogue, hub),
    )
    intake.jumped = partial(tell_of_jumps, server)
    view = View(settings, upstream.source.feed, hub, server, resources, turns, certificate)
    if upstream.dead_letters is not None:
        intake.passed_by = upstream.dead_letters.put
        view.dead_letters = upstream.dead_letters.stats
    return view


def _doorkeeper(settings: Settings, catalogue: Catalogue, hub: Hub) -> Doorkeeper:
    rules = DoorRules(
        full_grant(catalogue),
        Origins(settings.ws_origins),
        settings.ws_max_connections_per_user,
        settings.ws_token_in_query,
    )
    authority = None
    if settings.ws_auth != "none":
        # It loads PyJWT and cryptography.
        from odin_ws.auth.authority import open_authority  # noqa: PLC0415

        authority = open_authority(settings, catalogue)
    return Doorkeeper(authority, rules, Expiry(hub, settings.ws_token_notice))


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


def _entrance(settings: Settings, certificate: Certificate | None) -> Entrance:
    limits = EntranceLimits(
        pending=settings.ws_max_pending,
        head_bytes=settings.ws_head_max_bytes,
        head_seconds=settings.ws_head_timeout,
        trusted=TrustedProxies(settings.ws_trusted_proxies, settings.ws_forwarded_header),
        proxy_protocol=settings.ws_proxy_protocol == "required",
    )
    # Never all of the places there are.
    public = min(PUBLIC_CONNECTIONS, max(1, settings.ws_max_connections // 2))
    addresses = AddressLimits(
        settings.ws_connect_rate,
        PerAddress.of(settings.ws_connect_rate_per_ip, PUBLIC_CONNECT_RATE),
        PerAddress.of(settings.ws_max_connections_per_ip, public),
    )
    return Entrance(limits, ConnectLimits(addresses), certificate)


def _limits(settings: Settings, budget: MemoryBudget) -> ConnectionLimits:
    subscriptions = SubscriptionLimits(
        patterns=settings.ws_max_subscriptions,
        pattern_bytes=settings.ws_max_subscription_bytes,
        budget=budget,
        mark_bytes=settings.ws_outbox_mark_bytes,
        held_bytes=settings.ws_outbox_bytes,
        grace=settings.ws_outbox_seconds,
        stuck=settings.ws_pong_timeout,
    )
    return ConnectionLimits(
        message_bytes=settings.ws_max_frame_bytes,
        message_frames=settings.ws_max_fragments,
        message_seconds=settings.ws_message_timeout,
        outbox_bytes=settings.ws_outbox_bytes,
        outbox_seconds=settings.ws_outbox_seconds,
        compression=settings.ws_compression == "shared",
        session=SessionLimits(settings.ws_command_rate, settings.ws_command_burst, subscriptions),
    )


def history_records(settings: Settings) -> int:
    """How many records of the past are read at the start at most."""
    return settings.ws_retention_bytes // _RETAINED_BYTES


def kafka(settings: Settings, catalogue: Catalogue, access: KafkaAccess) -> Upstream:
    """The Kafka that `access` leads to, read as the settings say."""
    rate = settings.ws_max_broadcast_rate
    in_group = settings.kafka_assignment == "group"
    options = KafkaOptions(
        access=access,
        group=settings.kafka_consumer_group if in_group else None,
        max_wait=settings.kafka_fetch_max_wait_ms / 1000,
        # Nothing is written more often than that, so nothing is fetched more often.
        slot=max(_SHORTEST_SLOT, 1 / rate if rate else 0.0),
        rate=settings.ws_max_kafka_rate,
        probe=settings.kafka_probe_seconds,
        history_seconds=settings.ws_retention_seconds,
        history_records=history_records(settings),
    )
    topic = settings.kafka_dead_letter_topic
    return Upstream(
        KafkaSource(catalogue, options),
        KafkaLogReader(options, settings.ws_replay_readers),
        DeadLetters(access, topic, socket.gethostname()) if topic else None,
    )


@asynccontextmanager
async def _observed(view: View, listening: socket.socket) -> AsyncIterator[None]:
    """Health and metrics."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(view.resources.run)
        nursery.start_soon(view.resources.loop.run)
        nursery.start_soon(view.watch_feed)
        # A worker's pages are asked by its supervisor alone, which shares what it makes of them.
        seconds = 0.0 if listening.family is socket.AF_UNIX else PAGE_SECONDS
        async with serve_ops(ops_app(view, seconds), listening, view.ops):
            yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def run_feed(view: View, upstream: Upstream) -> AsyncIterator[None]:
    """The way of the records: source, bounded channel, hub; and what there is to tell about it."""
    send, receive = trio.open_memory_channel[Item](_CHANNEL_BATCHES)
    letters = upstream.dead_letters
    async with letters.writing() if letters else nullcontext(), trio.open_nursery() as nursery:
        nursery.start_soon(upstream.source.run, send)
        nursery.start_soon(view.server.scans.run)
        nursery.start_soon(view.hub.run, receive)
        nursery.start_soon(tell_of_feed, view.feed, view.server)
        nursery.start_soon(tell_of_rebalances, view.hub.intake, view.server)
        yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def subscribers(view: View, accept: Accept) -> AsyncIterator[None]:
    """Accept and serve subscribers; at the end of the block let nobody in and send all away."""
    settings, server = view.settings, view.server
    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as accepting:
            accepting.start_soon(server.keepalive.run)
            accepting.start_soon(server.doorkeeper.run)
            accepting.start_soon(server.tell_positions, settings.ws_positions_interval)
            accepting.start_soon(accept, server.serve, connections)
            yield
            log.info("draining", connections=server.admission.active)
            view.draining = True
            # Load balancers see the readiness first; whom they still send is served.
            await trio.sleep(settings.ws_drain_delay)
            accepting.cancel_scope.cancel()
        connections.cancel_scope.deadline = trio.current_time() + settings.ws_drain_seconds
        await server.send_away(max(0.0, settings.ws_drain_seconds - CLOSE_SECONDS))
