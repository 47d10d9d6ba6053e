"""The console report of one process: setup, state, samples and tables, as JSON."""

from __future__ import annotations

import platform
import time
from collections.abc import Collection, Mapping
from typing import Any, Final

import trio

from odin_ws import __version__
from odin_ws.ops.clients import clients_report
from odin_ws.ops.console.advice import advise
from odin_ws.ops.console.channels import TABLE_ROWS, busiest_channels, most_subscribed
from odin_ws.ops.console.sampler import SAMPLE_SECONDS, Sampler
from odin_ws.ops.console.series import SERIES_SAMPLES
from odin_ws.ops.health import health_report
from odin_ws.ops.stats import OpsStats
from odin_ws.service import Service

__all__ = ["PARTS", "ConsoleReport"]

# The parts of a report.
PARTS: Final = ("setup", "state", "samples", "tables")

# The console completes names from the channels with the latest changes, at most this number.
_CHANNELS: Final = 1000


class ConsoleReport:
    """Reports of one service. `sampler`: of the same service."""

    def __init__(self, service: Service, sampler: Sampler, stats: OpsStats) -> None:
        self._service = service
        self._sampler = sampler
        self._stats = stats

    async def build(self, parts: Collection[str], after: int) -> dict[str, Any]:
        """Return the requested parts, with the samples after a time (epoch seconds)."""
        report: dict[str, Any] = {}
        if "setup" in parts:
            report["setup"] = self._setup()
        if "state" in parts:
            report["state"] = self._state()
        if "samples" in parts:
            report["samples"] = self._sampler.series.after(after)
        if "tables" in parts:
            report["tables"] = await self._tables()
        return report

    def _setup(self) -> dict[str, Any]:
        """Return the values that are constant while the process runs, and the known tokens."""
        service = self._service
        settings, catalogue = service.settings, service.hub.stream.catalogue
        address = service.address or settings.ws_addr
        return {
            "version": __version__,
            "python": platform.python_version(),
            "started": round(time.time() - (trio.current_time() - service.started_at)),
            "sample_seconds": SAMPLE_SECONDS,
            "samples": SERIES_SAMPLES,
            "topics": {topic.name: topic.category for topic in catalogue.topics.values()},
            "bundles": {name: list(categories) for name, categories in catalogue.bundles.items()},
            "tokens": service.hub.ingest.snapshots.newest_tokens(_CHANNELS),
            "subscribers": {
                "host": address.host,
                "port": address.port,
                "tls": service.certificate is not None,
                "auth": settings.ws_auth,
                "allowed_origins": list(settings.ws_allowed_origins),
            },
            "limits": {
                "connections": settings.ws_max_connections,
                "memory_bytes": service.resources.memory_limit,
                "send_queue_bytes": settings.ws_send_queue_bytes,
                "history": settings.ws_history_bytes > 0,
                "dead_letter_topic": settings.kafka_dead_letter_topic,
            },
        }

    def _state(self) -> dict[str, Any]:
        """Return the current state of the service."""
        service, status = self._service, self._service.source_status
        health = health_report(service)
        return {
            "now": round(time.time(), 3),
            "state": service.lifecycle.state.name.lower(),
            "not_ready": service.not_ready,
            "drain": self._drain(),
            "feed": {
                "status": status.state.value,
                "seconds": round(trio.current_time() - status.since, 1),
                "reason": status.reason,
                "held_partitions": status.held_partitions,
            },
            "topics": self._topics(),
            "health": health,
            "advice": advise(health["errors"], health["warnings"]),
        }

    def _drain(self) -> dict[str, Any] | None:
        """Return the progress of a drain; None before a drain."""
        begun_with = self._sampler.drained_from
        if begun_with is None:
            return None
        settings = self._service.settings
        return {
            "begun_with": begun_with,
            "left": self._service.server.admission.active,
            "seconds": round(trio.current_time() - self._sampler.draining_since, 1),
            "seconds_at_most": settings.ws_drain_delay_seconds + settings.ws_drain_timeout_seconds,
        }

    def _topics(self) -> list[dict[str, Any]]:
        service, status = self._service, self._service.source_status
        partitions = service.hub.stream.partitions_of(service.hub.stream.topics)
        rows = []
        for topic in service.hub.stream.catalogue.topics.values():
            topic_problems = [problem for problem in status.problems if problem.topic == topic.name]
            rows.append(
                {
                    "topic": topic.name,
                    "category": topic.category,
                    "status": self._topic_status(topic.name, troubled=bool(topic_problems)),
                    "partitions": len(partitions[topic.name]),
                    "lag": status.lag.get(topic.name),
                    "problems": [str(problem) for problem in topic_problems],
                }
            )
        return rows

    def _topic_status(self, topic: str, *, troubled: bool) -> str:
        status = self._service.source_status
        if topic in status.missing_topics:
            return "missing"
        if not self._service.kafka_is_live:
            return str(status.state.value)
        return "trouble" if troubled else "live"

    async def _tables(self) -> dict[str, Any]:
        service = self._service
        server, hub = service.server, service.hub
        sessions = server.stats.sessions
        return {
            "clients": await clients_report(service, TABLE_ROWS),
            "channels": busiest_channels(hub),
            "patterns": await most_subscribed(hub),
            "counts": {
                "closed": {
                    reason.value.label: count for reason, count in server.stats.closed.items()
                },
                "rejected": _by_label(server.admission.rejections),
                "errors": _by_label(sessions.rejected_commands + sessions.rejected_names),
                "ops": _by_label(self._stats.rejected),
                "skipped": _by_label(hub.stats.invalid_records),
                "dead_letters": {
                    "written": service.dead_letters.written,
                    "dropped": service.dead_letters.dropped,
                    "failed": service.dead_letters.failed,
                },
            },
        }


def _by_label(counts: Mapping[Any, int]) -> dict[str, int]:
    """Return counts with plain texts as keys, also for keys of an enumeration."""
    return {str(label): count for label, count in counts.items()}
