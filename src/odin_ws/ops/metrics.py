"""/metrics: names, help and values of all Prometheus metrics.

The hot path counts in plain integers and does not import the metrics library. Names are the
original server's if they still apply.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from odin_ws import __version__
from odin_ws.auth.faults import JwtFault
from odin_ws.canary.steps import Step
from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.distribution import Distribution
from odin_ws.handshake.admission import CAPACITY_REJECTIONS
from odin_ws.handshake.authenticator import AUTH_REJECTIONS
from odin_ws.handshake.rate_limiter import RATE_LIMIT_REJECTIONS
from odin_ws.handshake.request import REQUEST_REJECTIONS
from odin_ws.history.record_decoder import InvalidRecord
from odin_ws.http_api.http_api import HTTP_REJECTIONS, HTTP_RESOURCES
from odin_ws.log_queue import dropped_lines
from odin_ws.ops.stats import OPS_REJECTIONS, OpsStats
from odin_ws.pause_clock import pauses
from odin_ws.protocol.errors import ErrorCode
from odin_ws.resume import LossReason
from odin_ws.resume.replay_limits import RECOVERED
from odin_ws.service import Service

__all__ = ["build_info", "log_lines", "metrics_registry", "metrics_text", "ops_rejections"]

# Error codes of rejected names.
_OF_NAMES: Final = (
    ErrorCode.INVALID_CHANNEL,
    ErrorCode.UNKNOWN_TOPIC,
    ErrorCode.UNKNOWN_BUNDLE,
    ErrorCode.NOT_SUBSCRIBED,
    ErrorCode.FORBIDDEN,
    ErrorCode.TOO_MANY_SUBSCRIPTIONS,
)

# Error codes of replays that cannot begin, in lower case.
_NOT_AVAILABLE: Final = "not_available"


def metrics_registry(service: Service, ops: OpsStats) -> CollectorRegistry:
    """A registry of everything there is to know about one service."""
    registry = CollectorRegistry()
    registry.register(_ServiceCollector(service, ops))
    ProcessCollector(registry=registry)
    return registry


def metrics_text(registry: CollectorRegistry) -> bytes:
    """The metrics in Prometheus' text format."""
    return generate_latest(registry)


def build_info() -> Metric:
    """What runs: during a rolling update the instances differ in it."""
    family = GaugeMetricFamily(
        "odin_ws_build_info", "Always 1; the labels say what runs", labels=["version", "python"]
    )
    family.add_metric([__version__, platform.python_version()], 1)
    return family


def ops_rejections(stats: OpsStats) -> Metric:
    """The requests that an ops port has rejected."""
    return _labelled_counter(
        "ws_ops_requests_rejected",
        "Requests and connections that the ops port rejected",
        "reason",
        dict.fromkeys(OPS_REJECTIONS, 0) | stats.rejected,
    )


def log_lines() -> Metric:
    """Return the counters of this process's log."""
    return _counter(
        "ws_log_lines_dropped",
        "Log lines dropped because stderr was not read or not writable",
        dropped_lines(),
    )


class _ServiceCollector(Collector):
    def __init__(self, service: Service, ops: OpsStats) -> None:
        self._service = service
        self._ops = ops

    def collect(self) -> Iterator[Metric]:
        yield build_info()
        yield ops_rejections(self._ops)
        yield from self._connections()
        yield from self._tls()
        yield from self._canary()
        yield from self._ops_auth()
        yield from self._messages()
        yield from self._capacity()
        yield from self._kafka()
        yield from self._delivery()
        yield from self._past()
        yield from self._scans()

    def _connections(self) -> Iterator[Metric]:
        service, server = self._service, self._service.server
        stats = server.stats
        yield _counter("ws_connections", "Connections upgraded", stats.opened)
        yield _gauge("ws_connections_active", "Open connections", server.admission.active)
        yield _gauge(
            "ws_sse_connections_active",
            "Of these, streams of Server-Sent Events",
            sum(one.subscriber.form.event_ids is not None for one in server.connections),
        )
        yield _gauge(
            "ws_connections_pending",
            "Connections in the handshake or being closed",
            len(server.handshaker.limiter),
        )
        yield _gauge(
            "ws_read_scheduler_waiting",
            "Connections that wait for a read turn",
            service.read_scheduler.waiting,
        )
        yield _gauge(
            "ws_replays_waiting",
            "Replays that wait for a turn",
            service.read_scheduler.replaying,
        )
        yield _gauge(
            "ws_time_slices_waiting",
            "Clients whose command waits for a time slice",
            service.read_scheduler.working,
        )
        yield _gauge(
            "ws_connections_max", "WS_MAX_CONNECTIONS", service.settings.ws_max_connections
        )
        yield _labelled_counter(
            "ws_connections_failed",
            "Handshakes rejected",
            "reason",
            # Each label exists from the start: an alert on its rate needs a first zero.
            dict.fromkeys(
                (
                    *REQUEST_REJECTIONS,
                    *AUTH_REJECTIONS,
                    *RATE_LIMIT_REJECTIONS,
                    *CAPACITY_REJECTIONS,
                    *HTTP_REJECTIONS,
                ),
                0,
            )
            | server.admission.rejections,
        )
        yield _labelled_counter(
            "ws_http_requests",
            "HTTP requests without an upgrade",
            "resource",
            dict.fromkeys(HTTP_RESOURCES, 0) | server.http.requests,
        )
        disconnects = CounterMetricFamily(
            "ws_disconnects", "Connections closed", labels=["reason", "initiated_by"]
        )
        for close in DisconnectReason:
            reason = close.value
            disconnects.add_metric([reason.label, reason.by], stats.closed[close])
        yield disconnects
        yield _histogram(
            "ws_connection_duration_seconds", "Duration of connections", stats.duration
        )
        yield _counter(
            "ws_slow_clients_disconnected", "Closed as slow", stats.closed[DisconnectReason.SLOW]
        )
        yield _counter("ws_errors", "Connections closed by an internal error", stats.errors)

    def _tls(self) -> Iterator[Metric]:
        certificate = self._service.certificate
        # Without one there is nothing to be alerted of, which a 0 would do.
        if certificate is not None and certificate.expires is not None:
            yield _gauge(
                "ws_tls_certificate_expires_timestamp_seconds",
                "Earliest expiry of the certificates in WS_TLS_CERT",
                certificate.expires,
            )

    def _canary(self) -> Iterator[Metric]:
        canary, on = self._service.canary, bool(self._service.settings.ws_canary_seconds)
        up = float(canary.failure is None) if canary.tries else None
        yield _gauge("ws_canary_up", "1 if the canary's last try succeeded", up)
        seconds = GaugeMetricFamily(
            "ws_canary_step_seconds",
            "Time of each step of the canary when it succeeded last",
            labels=["step"],
        )
        for step, took in canary.seconds.items():
            seconds.add_metric([step], took)
        yield seconds
        yield _counter("ws_canary_tries", "Tries of the canary that have ended", canary.tries)
        yield _labelled_counter(
            "ws_canary_failures",
            "Tries of the canary that failed, by the step",
            "step",
            dict.fromkeys(Step if on else (), 0) | canary.failures,
        )

    def _ops_auth(self) -> Iterator[Metric]:
        jwt_verifier = self._service.server.authenticator.jwt_verifier
        yield _labelled_counter(
            "ws_jwt_rejected",
            "JWTs rejected in handshakes and `auth` commands",
            "reason",
            dict.fromkeys(JwtFault, 0) | (jwt_verifier.rejections if jwt_verifier else {}),
        )
        yield _gauge(
            "ws_jwt_keys",
            "Keys that verify JWTs",
            jwt_verifier.key_count if jwt_verifier else 0,
        )
        jwks = jwt_verifier.jwks if jwt_verifier else None
        yield _labelled_counter(
            "ws_jwks_reads",
            "Fetches of WS_JWKS",
            "result",
            jwks.results if jwks else dict.fromkeys(("read", "failed"), 0),
        )
        yield _gauge(
            "ws_revocations",
            "Revoked users and JWTs",
            len(jwt_verifier.revocations) if jwt_verifier else 0,
        )

    def _messages(self) -> Iterator[Metric]:
        service = self._service
        sessions = service.server.stats.sessions
        yield _counter(
            "ws_messages_sent", "Messages sent to subscribers", service.hub.stats.messages_sent
        )
        yield _counter(
            "ws_messages_skipped",
            "Messages skipped by conflation or with a rate",
            service.hub.stats.messages_skipped,
        )
        yield _counter("ws_messages_received", "Commands from clients", sessions.commands)
        yield _labelled_counter(
            "ws_commands_rejected",
            "Commands rejected with an error",
            "code",
            dict.fromkeys(ErrorCode, 0) | sessions.rejected_commands,
        )
        yield _labelled_counter(
            "ws_names_rejected",
            "Names rejected in commands",
            "code",
            dict.fromkeys(_OF_NAMES, 0) | sessions.rejected_names,
        )
        yield _counter(
            "ws_rate_limited_messages",
            "Commands above a client's rate limit",
            sessions.rate_limited,
        )
        yield _counter("ws_bytes_sent", "Bytes written to sockets", service.bytes_sent())
        yield _counter("ws_bytes_received", "Bytes read from clients", service.bytes_received())

    def _capacity(self) -> Iterator[Metric]:
        service = self._service
        maximum, active = service.settings.ws_max_connections, service.server.admission.active
        resources = service.resources
        yield _gauge("ws_capacity_max_connections", "Maximum number of connections", maximum)
        yield _gauge(
            "ws_capacity_headroom_percent",
            "Free share of connections in percent",
            100 * (maximum - active) / maximum,
        )
        yield _labelled_counter(
            "ws_capacity_rejections",
            "Connections rejected for lack of capacity (503)",
            "reason",
            dict.fromkeys(CAPACITY_REJECTIONS, 0) | service.server.admission.capacity_rejections,
        )
        # A figure that is unknown has no sample: an old one or a 0 would be believed.
        yield _gauge("ws_memory_bytes", "Memory of the container", resources.memory_bytes)
        yield _gauge(
            "ws_memory_reusable_bytes",
            "Part of it that is free within the process; does not count against the limit",
            resources.memory_reusable,
        )
        yield _gauge("ws_memory_limit_bytes", "Memory limit", resources.memory_limit)
        yield _gauge(
            "ws_cpu_usage_percent",
            "CPU usage in percent of WS_CPU_LIMIT or one core",
            resources.cpu_percent,
        )
        yield _histogram(
            "ws_event_loop_delay_seconds", "How late due tasks run", resources.loop.delays
        )
        count, seconds = pauses()
        yield _counter("ws_pauses", "Pauses of the process of over half a second", count)
        yield _counter(
            "ws_paused_seconds", "Time by which deadlines were extended for pauses", seconds
        )
        yield log_lines()

    def _kafka(self) -> Iterator[Metric]:
        source_status, stats = self._service.source_status, self._service.hub.stats
        yield _gauge("ws_kafka_connected", "1 while the feed is live", self._service.kafka_is_live)
        yield _gauge(
            "ws_kafka_paced", "1 while WS_MAX_KAFKA_RATE holds records back", source_status.paced
        )
        yield _labelled_counter(
            "ws_kafka_messages_received", "Records read", "topic", stats.received
        )
        yield _labelled_counter(
            "ws_kafka_messages_failed",
            "Records skipped as invalid",
            "reason",
            dict.fromkeys(InvalidRecord, 0) | stats.invalid_records,
        )
        yield _labelled_counter(
            "ws_dead_letters",
            "Records for KAFKA_DEAD_LETTER_TOPIC: written, dropped (queue full), failed",
            "result",
            attrs.asdict(self._service.dead_letters),
        )
        yield _counter(
            "ws_kafka_unknown_event_types",
            "Records delivered with an event type that the catalogue lacks",
            stats.unknown_types,
        )
        yield _counter(
            "ws_kafka_records_lost",
            "Records deleted before they were read",
            source_status.lost_records,
        )
        yield _gauge(
            "ws_kafka_partitions_held",
            "Partitions whose newest records an open transaction holds back",
            source_status.held_partitions,
        )
        troubled = GaugeMetricFamily(
            "ws_kafka_partitions_not_read", "Partitions with a problem, by topic", labels=["topic"]
        )
        for topic in self._service.hub.stream.topics:
            several = (one for one in source_status.problems if one.topic == topic)
            troubled.add_metric([topic], sum(max(1, len(one.partitions)) for one in several))
        yield troubled
        lag = GaugeMetricFamily(
            "ws_kafka_lag_records", "Records not read yet, at the last probe", labels=["topic"]
        )
        for topic, records in source_status.lag.items():
            lag.add_metric([topic], records)
        yield lag

    def _delivery(self) -> Iterator[Metric]:
        hub = self._service.hub
        yield _histogram(
            "ws_record_age_seconds", "Age of records when they were delivered", hub.stats.age
        )
        yield _histogram("ws_dispatch_cycle_seconds", "Time of a dispatch cycle", hub.stats.cycle)
        yield _gauge("ws_subscribed_patterns", "Patterns that have a subscriber", hub.patterns)
        yield _gauge("ws_filters", "Distinct filters of all subscriptions", len(hub.filters))
        yield _counter(
            "ws_filter_comparisons",
            "Comparisons of filters with live records",
            hub.stats.filter_comparisons,
        )
        backlogs = self._service.backlogs()
        yield _gauge("ws_send_queue_backlog_bytes", "Bytes in all send queues", sum(backlogs))
        yield _gauge(
            "ws_send_queue_backlog_max_bytes",
            "Bytes in the fullest send queue",
            backlogs[-1] if backlogs else 0,
        )

    def _past(self) -> Iterator[Metric]:
        hub, replays = self._service.hub, self._service.server.replays
        yield _gauge("ws_history_messages", "Messages in history", len(hub.history))
        yield _gauge("ws_history_bytes", "Memory of history", hub.history.size)
        yield _gauge("ws_snapshot_channels", "Channels in the snapshot cache", len(hub.snapshots))
        yield _gauge("ws_replays_active", "Replays running or waiting", replays.active)
        yield _labelled_counter(
            "ws_replays",
            "Replays started or rejected",
            "result",
            dict.fromkeys((RECOVERED, *LossReason), 0)
            | replays.results
            | {_NOT_AVAILABLE: replays.unavailable},
        )
        yield _labelled_counter(
            "ws_replayed_messages",
            "Messages replayed, by source",
            "from",
            {"history": replays.from_history, "log": replays.from_log},
        )

    def _scans(self) -> Iterator[Metric]:
        scans, history = self._service.server.scans.stats, self._service.hub.history
        yield _counter("ws_scans", "Scans of the log started", scans.started)
        yield _gauge("ws_scans_active", "Running scans", scans.active)
        yield _gauge("ws_scan_clients", "Clients attached to scans", scans.clients)
        yield _gauge("ws_scan_clients_waiting", "Clients waiting for a scan", scans.waiting)
        yield _counter(
            "ws_scan_records", "Records read from the log, each once per scan", scans.records
        )
        yield _counter(
            "ws_scan_records_matched", "Records of scans that match a client", scans.matched
        )
        yield _counter(
            "ws_scan_cpu_seconds",
            "CPU time of matching and decoding records in scans",
            scans.seconds,
        )
        yield _counter(
            "ws_scan_clients_detached",
            "Clients detached because they delayed their scan",
            scans.detached,
        )
        yield _counter(
            "ws_scans_failed", "Scans failed because Kafka did not respond", scans.failed
        )
        yield _counter(
            "ws_history_pins_broken",
            "Pins of history broken because it reached twice its size",
            history.broken_pins,
        )


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, value=value)


def _gauge(name: str, text: str, value: float | None) -> GaugeMetricFamily:
    """A gauge; without a sample if its value is unknown."""
    return GaugeMetricFamily(name, text, value=value)


def _labelled_counter(
    name: str, text: str, label: str, counts: Mapping[Any, int]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family


def _histogram(name: str, text: str, values: Distribution) -> HistogramMetricFamily:
    buckets = []
    seen = 0
    for bound, count in zip((*map(str, values.bounds), "+Inf"), values.counts, strict=True):
        seen += count
        buckets.append((bound, seen))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=values.total)
