"""/health: the health report, in the original server's JSON schema."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import trio

from odin_ws import __version__
from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.kafka.source_status import SourceState
from odin_ws.resources.container import Resources
from odin_ws.service import Service

__all__ = ["health_report"]

# Shares of limits above which the report warns; connections are rejected only at 1.
_WARN_PERCENT: Final = 90.0

# Records that wait for longer than this in Kafka are a warning: fetches and dispatch cycles take
# well under a second, and after a change of leaders records are read within some seconds.
_BEHIND_SECONDS: Final = 30.0

_MIB: Final = 1 << 20


def health_report(service: Service) -> dict[str, Any]:
    """Return the report. `status`: healthy; degraded with `warnings`; unhealthy with `errors`."""
    checks = _checks(service)
    errors = _errors(service)
    warnings = _warnings(service, checks)
    status = "unhealthy" if errors else "degraded" if warnings else "healthy"
    return {
        "status": status,
        "healthy": not errors,
        "version": __version__,
        "checks": checks,
        "observability": _observability(service),
        "warnings": warnings,
        "errors": errors,
        "uptime": round(trio.current_time() - service.started_at, 3),
    }


def _errors(service: Service) -> list[str]:
    source_status = service.source_status
    is_done = service.lifecycle.is_draining and source_status.state.value is SourceState.STOPPED
    if service.kafka_is_live or is_done:
        # At the end of a drain nobody is left to be served: the server itself stops the feed.
        return []
    seconds = trio.current_time() - source_status.since
    return [f"kafka: {source_status.state.value} for {seconds:.0f} s: {source_status.reason}"]


def _warnings(service: Service, checks: dict[str, Any]) -> list[str]:
    source_status = service.source_status
    warnings = [
        f"{name}: {checks[name]['percentage']:.0f}%"
        for name in ("capacity", "memory", "cpu")
        if not checks[name]["healthy"]
    ]
    warnings += [
        f"{name}: it cannot be measured"
        for name in ("memory", "cpu")
        if checks[name]["percentage"] is None
    ]
    if source_status.missing_topics:
        warnings.append(
            f"kafka: topics do not exist: {', '.join(sorted(source_status.missing_topics))}"
        )
    warnings += [f"kafka: {problem}" for problem in source_status.problems]
    if service.kafka_is_live and source_status.behind_seconds >= _BEHIND_SECONDS:
        seconds = source_status.behind_seconds
        warnings.append(f"kafka: records of {seconds:.0f} s ago have not been read yet")
    if source_status.paced:
        rate = service.settings.ws_max_kafka_rate
        warnings.append(f"kafka: paced: WS_MAX_KAFKA_RATE={rate:g} holds records back")
    if service.certificate is not None and (problem := service.certificate.warning) is not None:
        warnings.append(f"tls: {problem}")
    if (failure := service.canary.failure) is not None:
        warnings.append(f"canary: the step {failure.step} failed: {failure.reason}")
    if service.lifecycle.is_draining:
        warnings.append("draining")
    return warnings


def _checks(service: Service) -> dict[str, Any]:
    settings, resources = service.settings, service.resources
    return {
        "kafka": _kafka(service),
        "capacity": _capacity(service),
        "canary": _canary(service),
        "history": _history(service),
        "replays": {"active": service.server.replays.active},
        "tasks": {"current": trio.lowlevel.current_statistics().tasks_living},
        "memory": _memory(resources),
        "cpu": {
            "percentage": _rounded(resources.cpu_percent),
            "threshold": _WARN_PERCENT,
            "healthy": resources.cpu_percent is None or resources.cpu_percent < _WARN_PERCENT,
        },
        "limits": {
            "max_kafka_rate": settings.ws_max_kafka_rate,
            "max_broadcast_rate": settings.ws_max_broadcast_rate,
            "max_connections": settings.ws_max_connections,
            "max_subscriptions": settings.ws_max_subscriptions,
            "max_message_bytes": settings.ws_max_message_bytes,
            "send_queue_bytes": settings.ws_send_queue_bytes,
            "cpu_cores": resources.cpu_limit,
        },
    }


def _kafka(service: Service) -> dict[str, Any]:
    status = service.source_status
    return {
        "status": "running" if service.kafka_is_live else "stopped",
        "healthy": service.kafka_is_live,
        "feed": status.state.value,
        "paced": status.paced,
        "lag": dict(status.lag),
        "behind_seconds": round(status.behind_seconds, 1),
        "lost_records": status.lost_records,
        "problems": _problems(service),
        "partitions": service.hub.stream.partitions_of(service.hub.stream.topics),
    }


def _capacity(service: Service) -> dict[str, Any]:
    active, maximum = service.server.admission.active, service.settings.ws_max_connections
    percentage = 100 * active / maximum
    return {
        "current": active,
        "max": maximum,
        "percentage": round(percentage, 1),
        "healthy": percentage < _WARN_PERCENT,
    }


def _memory(resources: Resources) -> dict[str, Any]:
    in_use = resources.memory_in_use
    percentage = None if in_use is None else 100 * in_use / resources.memory_limit
    return {
        "used_mb": None if in_use is None else round(in_use / _MIB, 1),
        "limit_mb": round(resources.memory_limit / _MIB, 1),
        "percentage": _rounded(percentage),
        "healthy": percentage is None or percentage < _WARN_PERCENT,
    }


def _problems(service: Service) -> list[dict[str, Any]]:
    """Return topics and partitions that are not read while the feed is live.

    An unread topic is listed without partitions.
    """
    now = trio.current_time()
    return [
        {
            "topic": problem.topic,
            "partitions": list(problem.partitions),
            "reason": problem.reason,
            "seconds": round(now - problem.since, 1),
        }
        for problem in service.source_status.problems
    ]


def _canary(service: Service) -> dict[str, Any]:
    """Return the canary's results; `milliseconds`: the steps of the last successful try."""
    stats = service.canary
    return {
        "tries": stats.tries,
        "failures": stats.failures.total(),
        "healthy": stats.failure is None,
        "milliseconds": {step: round(1000 * seconds, 1) for step, seconds in stats.seconds.items()},
    }


def _history(service: Service) -> dict[str, Any]:
    history = service.hub.history
    oldest = history.oldest
    return {
        "messages": len(history),
        "bytes": history.size,
        "max_bytes": service.settings.ws_history_bytes,
        "oldest_seconds": 0 if oldest is None else round(trio.current_time() - oldest, 3),
    }


def _observability(service: Service) -> dict[str, Any]:
    closed = service.server.stats.closed
    backlogs = service.backlogs()
    return {
        "disconnects": {
            "total": closed.total(),
            "by_reason": {close.value.label: count for close, count in closed.items()},
        },
        "slow": {
            "disconnected": closed[DisconnectReason.SLOW],
            "backlogged": sum(backlog > 0 for backlog in backlogs),
        },
        "send_queue": {
            "samples": len(backlogs),
            "avg": round(sum(backlogs) / max(1, len(backlogs)), 1),
            "p50": _quantile(backlogs, 0.5),
            "p95": _quantile(backlogs, 0.95),
            "p99": _quantile(backlogs, 0.99),
            "max": backlogs[-1] if backlogs else 0,
        },
    }


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 1)


def _quantile(ascending: Sequence[int], share: float) -> int:
    return ascending[math.ceil(share * len(ascending)) - 1] if ascending else 0
