"""Builds and connects the parts of the service from the settings; starts nothing."""

from __future__ import annotations

import socket
from functools import partial
from typing import Final

import attrs

from odin_ws.announcements import broadcast_offset_gaps
from odin_ws.auth.grants import Grant, full_grant
from odin_ws.auth.origins import Origins
from odin_ws.canary.credential import CanaryCredential
from odin_ws.catalogue import Catalogue
from odin_ws.connection.keepalive import Keepalive
from odin_ws.connection.open_connections import RETURNS_PER_SECOND, OpenConnections
from odin_ws.connection.token_expiry import Expiry
from odin_ws.connection_options import CanaryLimits, ConnectionLimits
from odin_ws.handshake.admission import Admission
from odin_ws.handshake.authenticator import Authenticator, AuthPolicy
from odin_ws.handshake.forwarded import TrustedProxies
from odin_ws.handshake.handshake import HandshakeLimits, Handshaker
from odin_ws.handshake.memory_budget import MemoryBudget
from odin_ws.handshake.rate_limiter import PerAddressLimit, RateLimiter, RateLimits
from odin_ws.history import History, SnapshotCache
from odin_ws.hub import Hub, Ingest, Stream
from odin_ws.kafka.dead_letters import DeadLetterQueue
from odin_ws.kafka.log_reader import KafkaLogReader
from odin_ws.kafka.options import KafkaOptions
from odin_ws.kafka.security import KafkaSecurity
from odin_ws.kafka.source import KafkaSource
from odin_ws.kafka.source_protocol import Source
from odin_ws.lifecycle import Lifecycle
from odin_ws.listener.certificate import Certificate
from odin_ws.listener.read_scheduler import ReadScheduler
from odin_ws.log_reader import LogReader
from odin_ws.pattern import channel_name
from odin_ws.resources.container import Resources, own_cgroup
from odin_ws.resources.tcp_memory import tcp_memory
from odin_ws.resume import ReplayContext, ReplayLimits, ReplayStats, ReplayWindow, ScanPool
from odin_ws.server import ConnectionServer
from odin_ws.service import Service
from odin_ws.session.session import SessionLimits
from odin_ws.session.subscription_admission import SubscriptionLimits
from odin_ws.settings import Settings
from odin_ws.settings.handshake import PUBLIC_CONNECT_RATE, PUBLIC_CONNECTIONS

__all__ = ["Upstream", "build", "canary_channel", "history_records", "kafka", "read_certificate"]

# Bytes of a retained record of some hundred bytes: bounds the records that are read at the start.
_RETAINED_BYTES: Final = 2048

# The part of the kernel's memory for TCP, or of the process's memory, that unacknowledged bytes of
# replays may take: socket buffers take up to twice their bytes, and live messages need some too. At
# least enough for 64 chunks.
_WINDOW_PART: Final = 0.125
_MIN_WINDOW_BYTES: Final = 4 << 20

# A fetch and its processing take about 2 ms of CPU. Without a broadcast rate, fetches are this far
# apart, so that 1,000 records per second are not 1,000 fetches.
_SHORTEST_SLOT: Final = 0.005


# The token of the channel that the canary subscribes to.
_CANARY_TOKEN: Final = "odin-ws-canary"  # noqa: S105 -- a record's key

# The canary's command rate and burst. It sends two commands.
_CANARY_COMMANDS: Final = (10.0, 10)


@attrs.frozen
class Upstream:
    """The source of records: new ones, and a reader of old ones.

    `dead_letters`: the queue for skipped records, if any.
    """

    source: Source
    log_reader: LogReader
    dead_letters: DeadLetterQueue | None = None


def build(
    settings: Settings,
    catalogue: Catalogue,
    upstream: Upstream,
    certificate: Certificate | None = None,
    canary: CanaryCredential | None = None,
) -> Service:
    """Build and connect the parts; starts nothing. Raises SettingsError.

    `canary`: the credential of the service's own canary, if it has one.
    """
    connections = OpenConnections(catalogue, RETURNS_PER_SECOND / settings.ws_workers)
    hub = _hub(settings, catalogue, connections, upstream.dead_letters)
    lifecycle = Lifecycle()
    budget = MemoryBudget()
    resources = _resources(settings, budget)
    replays = ReplayStats()
    read_scheduler = ReadScheduler(lambda: hub.stats.busy_seconds, lambda: replays.send_seconds)
    scans = ScanPool(
        hub,
        upstream.log_reader,
        settings.ws_replay_consumers,
        read_scheduler.wait_for_chunk,
        read_scheduler.wait_for_work_slice,
    )
    limits = ReplayLimits(settings.ws_max_replay_records)
    server = ConnectionServer(
        ReplayContext(hub, scans.log_reader, limits, scans, replays, _window(settings, resources)),
        connections,
        Admission(settings.ws_max_connections, resources.overload, lifecycle, budget=budget),
        Keepalive(settings.ws_ping_interval_seconds, settings.ws_pong_timeout_seconds),
        _limits(settings, budget),
        handshaker=_handshaker(settings, certificate, canary),
        authenticator=_authenticator(settings, catalogue),
        is_ready=lambda: service.ready,
        canary=None if canary is None else _canary_limits(settings, catalogue),
    )
    service = Service(
        settings,
        upstream.source.status,
        hub,
        server,
        resources,
        read_scheduler,
        lifecycle,
        certificate,
    )
    if upstream.dead_letters is not None:
        service.dead_letters = upstream.dead_letters.stats
    return service


def _resources(settings: Settings, budget: MemoryBudget) -> Resources:
    return Resources(
        settings.ws_cpu_limit,
        settings.ws_memory_limit,
        own_cgroup(),
        settings.ws_workers,
        max_loop_delay=settings.ws_max_loop_delay_seconds,
        budget=budget,
    )


def _window(settings: Settings, resources: Resources) -> ReplayWindow:
    # Socket buffers count as memory of the container too.
    memory = min(tcp_memory() // settings.ws_workers, resources.memory_limit)
    return ReplayWindow(
        max(_MIN_WINDOW_BYTES, int(_WINDOW_PART * memory)), settings.ws_write_timeout_seconds
    )


def _hub(
    settings: Settings,
    catalogue: Catalogue,
    connections: OpenConnections,
    dead_letters: DeadLetterQueue | None,
) -> Hub:
    rate = settings.ws_max_broadcast_rate
    ingest = Ingest(
        Stream(catalogue),
        History(catalogue, settings.ws_history_bytes, settings.ws_history_seconds),
        SnapshotCache(catalogue, settings.ws_snapshot_bytes),
        settings.ws_max_record_bytes,
        before_assignment=connections.flush_event_streams,
        on_offset_gaps=partial(broadcast_offset_gaps, connections),
        on_moved=connections.close_rebalanced_now,
        on_invalid_record=None if dead_letters is None else dead_letters.put,
    )
    return Hub(
        ingest,
        interval=1 / rate if rate else 0.0,
        # Two cycles' worth may be queued for a subscriber that catches up, before it counts as
        # slow.
        cycle_bytes=settings.ws_send_queue_bytes // 2,
        max_filters=settings.ws_max_filters,
    )


def _authenticator(settings: Settings, catalogue: Catalogue) -> Authenticator:
    rules = AuthPolicy(
        full_grant(catalogue),
        Origins(settings.ws_allowed_origins),
        settings.ws_max_connections_per_user,
        settings.ws_token_in_query,
    )
    jwt_verifier = None
    if settings.ws_auth != "none":
        # Imports PyJWT and cryptography.
        from odin_ws.auth.jwt_verifier import open_jwt_verifier  # noqa: PLC0415

        jwt_verifier = open_jwt_verifier(settings, catalogue)
    return Authenticator(jwt_verifier, rules, Expiry(settings.ws_token_expiry_notice_seconds))


def read_certificate(settings: Settings) -> Certificate | None:
    """Load the certificate of the settings; None without TLS. Raises CertificateError."""
    if settings.ws_tls_cert is None or settings.ws_tls_key is None:
        return None
    return Certificate(
        settings.ws_tls_cert, settings.ws_tls_key, 86_400 * settings.ws_tls_expiry_warning_days
    )


def _handshaker(
    settings: Settings, certificate: Certificate | None, canary: CanaryCredential | None
) -> Handshaker:
    limits = HandshakeLimits(
        max_pending=settings.ws_max_pending_handshakes,
        max_header_bytes=settings.ws_max_header_bytes,
        timeout_seconds=settings.ws_handshake_timeout_seconds,
        trusted_proxies=TrustedProxies(settings.ws_trusted_proxies, settings.ws_forwarded_header),
        proxy_protocol=settings.ws_proxy_protocol == "required",
    )
    # Fewer than the maximum number of connections.
    public = min(PUBLIC_CONNECTIONS, max(1, settings.ws_max_connections // 2))
    addresses = RateLimits(
        settings.ws_connect_rate,
        PerAddressLimit.of(settings.ws_connect_rate_per_ip, PUBLIC_CONNECT_RATE),
        PerAddressLimit.of(settings.ws_max_connections_per_ip, public),
    )
    return Handshaker(limits, RateLimiter(addresses), certificate, canary)


def _limits(settings: Settings, budget: MemoryBudget) -> ConnectionLimits:
    subscriptions = SubscriptionLimits(
        patterns=settings.ws_max_subscriptions,
        pattern_bytes=settings.ws_max_subscription_bytes,
        filters=settings.ws_max_filters_per_connection,
        budget=budget,
        threshold_bytes=settings.ws_conflation_threshold_bytes,
        held_bytes=settings.ws_send_queue_bytes,
        grace=settings.ws_write_timeout_seconds,
        stuck=settings.ws_pong_timeout_seconds,
    )
    return ConnectionLimits(
        message_bytes=settings.ws_max_message_bytes,
        message_frames=settings.ws_max_fragments,
        message_seconds=settings.ws_message_timeout_seconds,
        send_queue_bytes=settings.ws_send_queue_bytes,
        write_timeout=settings.ws_write_timeout_seconds,
        compression=settings.ws_compression == "shared",
        session=SessionLimits(settings.ws_command_rate, settings.ws_command_burst, subscriptions),
    )


def canary_channel(catalogue: Catalogue) -> str:
    """Return the channel that the canary subscribes to; no records have its token."""
    return channel_name(_CANARY_TOKEN, next(iter(catalogue.categories)))


def _canary_limits(settings: Settings, catalogue: Catalogue) -> CanaryLimits:
    # The canary reads only its channel; a low WS_COMMAND_RATE does not apply to it.
    grant = Grant({next(iter(catalogue.categories)): frozenset({_CANARY_TOKEN})})
    subscriptions = _limits(settings, MemoryBudget()).session.subscriptions
    return CanaryLimits(grant, SessionLimits(*_CANARY_COMMANDS, subscriptions))


def history_records(settings: Settings) -> int:
    """Return how many records of history are read at the start at most."""
    return settings.ws_history_bytes // _RETAINED_BYTES


def kafka(settings: Settings, catalogue: Catalogue, security: KafkaSecurity) -> Upstream:
    """Return the Kafka source and log reader of the settings."""
    rate = settings.ws_max_broadcast_rate
    in_group = settings.kafka_assignment == "group"
    options = KafkaOptions(
        security=security,
        group=settings.kafka_consumer_group if in_group else None,
        max_wait=settings.kafka_fetch_max_wait_seconds,
        # Fetches are at most as frequent as writes to subscribers.
        slot=max(_SHORTEST_SLOT, 1 / rate if rate else 0.0),
        rate=settings.ws_max_kafka_rate,
        probe=settings.kafka_probe_seconds,
        history_seconds=settings.ws_history_seconds,
        # A group member starts at the group's offsets, without history.
        history_records=0 if in_group else history_records(settings),
        header_names=frozenset(settings.ws_record_headers),
    )
    topic = settings.kafka_dead_letter_topic
    return Upstream(
        KafkaSource(catalogue, options),
        KafkaLogReader(options, settings.ws_replay_consumers),
        DeadLetterQueue(security, topic, socket.gethostname()) if topic else None,
    )
