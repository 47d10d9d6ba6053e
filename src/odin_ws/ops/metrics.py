"""/metrics: names, help and values of all Prometheus metrics.

The hot path counts in plain integers and does not import the metrics library. Metrics of the
original server keep their names.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from odin_ws import __version__
from odin_ws.auth.faults import JwtFault
from odin_ws.canary.steps import Step
from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.handshake.admission import CAPACITY_REJECTIONS
from odin_ws.handshake.authenticator import AUTH_REJECTIONS
from odin_ws.handshake.rate_limiter import RATE_LIMIT_REJECTIONS
from odin_ws.handshake.request import REQUEST_REJECTIONS
from odin_ws.http_api.http_api import HTTP_REJECTIONS, HTTP_RESOURCES
from odin_ws.log_queue import dropped_lines
from odin_ws.ops.metric_families import counter, gauge, histogram, labelled_counter
from odin_ws.ops.stats import OPS_REJECTIONS, OpsStats
from odin_ws.ops.stream_metrics import StreamCollector
from odin_ws.pause_clock import pauses
from odin_ws.protocol.permessage_deflate import NO_WINDOW
from odin_ws.service import Service

__all__ = ["build_info", "log_lines", "metrics_registry", "metrics_text", "ops_rejections"]


def metrics_registry(service: Service, ops: OpsStats) -> CollectorRegistry:
    """Return a registry of all metrics of one service."""
    registry = CollectorRegistry()
    registry.register(_ServiceCollector(service, ops))
    registry.register(StreamCollector(service))
    ProcessCollector(registry=registry)
    return registry


def metrics_text(registry: CollectorRegistry) -> bytes:
    """Return the metrics in Prometheus' text format."""
    return generate_latest(registry)


def build_info() -> Metric:
    """Return the version metric: during a rolling update the instances differ in its labels."""
    family = GaugeMetricFamily(
        "odin_ws_build_info", "Always 1; the labels say what runs", labels=["version", "python"]
    )
    family.add_metric([__version__, platform.python_version()], 1)
    return family


def ops_rejections(stats: OpsStats) -> Metric:
    """Return the counter of requests that an ops port has rejected."""
    return labelled_counter(
        "ws_ops_requests_rejected",
        "Requests and connections that the ops port rejected",
        "reason",
        dict.fromkeys(OPS_REJECTIONS, 0) | stats.rejected,
    )


def log_lines() -> Metric:
    """Return the counters of this process's log."""
    return counter(
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
        yield from self._waiting()
        yield from self._rejections()
        yield from self._disconnects()
        yield from self._tls()
        yield from self._canary()
        yield from self._ops_auth()
        yield from self._capacity()

    def _connections(self) -> Iterator[Metric]:
        server = self._service.server
        yield counter("ws_connections", "Connections upgraded", server.stats.opened)
        yield gauge("ws_connections_active", "Open connections", server.admission.active)
        yield gauge(
            "ws_sse_connections_active",
            "Connections that are streams of Server-Sent Events",
            sum(
                connection.subscriber.form.event_ids is not None
                for connection in server.connections
            ),
        )
        yield gauge(
            "ws_deflate_connections_active",
            "Connections with permessage-deflate",
            sum(
                connection.subscriber.form.window_bits != NO_WINDOW
                for connection in server.connections
            ),
        )
        yield gauge(
            "ws_connections_pending",
            "Connections in the handshake or being closed",
            len(server.handshaker.limiter) + len(server.handshaker.lingering),
        )

    def _waiting(self) -> Iterator[Metric]:
        scheduler = self._service.read_scheduler
        yield gauge(
            "ws_read_scheduler_waiting",
            "Connections that wait for the read scheduler",
            scheduler.waiting,
        )
        yield gauge(
            "ws_replays_waiting", "Replays that wait to send their next chunk", scheduler.replaying
        )
        window = self._service.server.replay_window
        yield gauge(
            "ws_replay_window_bytes",
            "Limit of bytes of replays that clients have not acknowledged",
            window.limit,
        )
        yield gauge(
            "ws_replay_window_used_bytes",
            "Bytes of replays that clients have not acknowledged",
            window.used,
        )
        yield gauge(
            "ws_replay_window_waiting",
            "Replays that wait for other clients' acknowledgements",
            window.waiting,
        )
        yield gauge(
            "ws_time_slices_waiting",
            "Clients whose command waits for a time slice",
            scheduler.working,
        )

    def _rejections(self) -> Iterator[Metric]:
        service, server = self._service, self._service.server
        yield gauge("ws_connections_max", "WS_MAX_CONNECTIONS", service.settings.ws_max_connections)
        yield labelled_counter(
            "ws_connections_failed",
            "Handshakes rejected",
            "reason",
            # Each label exists from the start: an alert on its rate needs an initial zero.
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
        yield labelled_counter(
            "ws_http_requests",
            "HTTP requests without an upgrade",
            "resource",
            dict.fromkeys(HTTP_RESOURCES, 0) | server.http.requests,
        )

    def _disconnects(self) -> Iterator[Metric]:
        stats = self._service.server.stats
        disconnects = CounterMetricFamily(
            "ws_disconnects", "Connections closed", labels=["reason", "initiated_by"]
        )
        for close in DisconnectReason:
            reason = close.value
            disconnects.add_metric([reason.label, reason.by], stats.closed[close])
        yield disconnects
        yield histogram("ws_connection_duration_seconds", "Duration of connections", stats.duration)
        yield counter(
            "ws_slow_clients_disconnected",
            "Clients closed as slow",
            stats.closed[DisconnectReason.SLOW],
        )
        yield counter("ws_errors", "Connections closed by an internal error", stats.errors)

    def _tls(self) -> Iterator[Metric]:
        certificate = self._service.certificate
        # No sample without a certificate: a 0 would raise the alert on expiry.
        if certificate is not None and certificate.expires is not None:
            yield gauge(
                "ws_tls_certificate_expires_timestamp_seconds",
                "Earliest expiry of the certificates in WS_TLS_CERT",
                certificate.expires,
            )

    def _canary(self) -> Iterator[Metric]:
        canary, on = self._service.canary, bool(self._service.settings.ws_canary_seconds)
        up = float(canary.failure is None) if canary.tries else None
        yield gauge("ws_canary_up", "1 if the canary's last try succeeded", up)
        seconds = GaugeMetricFamily(
            "ws_canary_step_seconds",
            "Time that each step of the canary took in its last successful try",
            labels=["step"],
        )
        for step, took in canary.seconds.items():
            seconds.add_metric([step], took)
        yield seconds
        yield counter("ws_canary_tries", "Tries of the canary that have ended", canary.tries)
        yield labelled_counter(
            "ws_canary_failures",
            "Tries of the canary that failed, by the step",
            "step",
            dict.fromkeys(Step if on else (), 0) | canary.failures,
        )

    def _ops_auth(self) -> Iterator[Metric]:
        jwt_verifier = self._service.server.authenticator.jwt_verifier
        yield labelled_counter(
            "ws_jwt_rejected",
            "JWTs rejected in handshakes and `auth` commands",
            "reason",
            dict.fromkeys(JwtFault, 0) | (jwt_verifier.rejections if jwt_verifier else {}),
        )
        yield gauge(
            "ws_jwt_keys",
            "Keys that verify JWTs",
            jwt_verifier.key_count if jwt_verifier else 0,
        )
        jwks = jwt_verifier.jwks if jwt_verifier else None
        yield labelled_counter(
            "ws_jwks_reads",
            "Fetches of WS_JWKS",
            "result",
            jwks.results if jwks else dict.fromkeys(("read", "failed"), 0),
        )
        yield gauge(
            "ws_revocations",
            "Revoked users and JWTs",
            len(jwt_verifier.revocations) if jwt_verifier else 0,
        )

    def _capacity(self) -> Iterator[Metric]:
        service = self._service
        maximum, active = service.settings.ws_max_connections, service.server.admission.active
        resources = service.resources
        yield gauge("ws_capacity_max_connections", "Maximum number of connections", maximum)
        yield gauge(
            "ws_capacity_headroom_percent",
            "Free share of connections in percent",
            100 * (maximum - active) / maximum,
        )
        yield labelled_counter(
            "ws_capacity_rejections",
            "Connections rejected for lack of capacity (503)",
            "reason",
            dict.fromkeys(CAPACITY_REJECTIONS, 0) | service.server.admission.capacity_rejections,
        )
        # An unknown value has no sample: an old value or a 0 would be wrong.
        yield gauge("ws_memory_bytes", "Memory of the container", resources.memory_bytes)
        yield gauge(
            "ws_memory_reusable_bytes",
            "Memory that is free within the process; does not count against the limit",
            resources.memory_reusable,
        )
        yield gauge("ws_memory_limit_bytes", "Memory limit", resources.memory_limit)
        yield gauge(
            "ws_cpu_usage_percent",
            "CPU usage in percent of WS_CPU_LIMIT or one core",
            resources.cpu_percent,
        )
        yield histogram(
            "ws_event_loop_delay_seconds", "Delay of tasks in the event loop", resources.loop.delays
        )
        count, seconds = pauses()
        yield counter("ws_pauses", "Pauses of the process longer than half a second", count)
        yield counter(
            "ws_paused_seconds", "Time by which deadlines were extended for pauses", seconds
        )
        yield log_lines()
