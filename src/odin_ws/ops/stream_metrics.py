"""Metrics of the stream: messages, Kafka, delivery, history, replays and scans."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs
from prometheus_client.core import (
    GaugeMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from odin_ws.history.record_decoder import InvalidRecord
from odin_ws.ops.metric_families import counter, gauge, histogram, labelled_counter
from odin_ws.protocol.errors import ErrorCode
from odin_ws.resume import LossReason
from odin_ws.resume.replay_limits import RECOVERED
from odin_ws.service import Service

__all__ = ["StreamCollector"]

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


class StreamCollector(Collector):
    """Collects the counters of a service's hub, source and replays."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        yield from self._messages()
        yield from self._kafka()
        yield from self._kafka_topics()
        yield from self._delivery()
        yield from self._past()
        yield from self._scans()

    def _messages(self) -> Iterator[Metric]:
        service = self._service
        sessions = service.server.stats.sessions
        yield counter(
            "ws_messages_sent", "Messages sent to subscribers", service.hub.stats.messages_sent
        )
        yield counter(
            "ws_messages_skipped",
            "Messages skipped by conflation or by a max_rate",
            service.hub.stats.messages_skipped,
        )
        yield counter("ws_messages_received", "Commands from clients", sessions.commands)
        yield labelled_counter(
            "ws_commands_rejected",
            "Commands rejected with an error",
            "code",
            dict.fromkeys(ErrorCode, 0) | sessions.rejected_commands,
        )
        yield labelled_counter(
            "ws_names_rejected",
            "Names rejected in commands",
            "code",
            dict.fromkeys(_OF_NAMES, 0) | sessions.rejected_names,
        )
        yield counter(
            "ws_rate_limited_messages",
            "Commands above a client's rate limit",
            sessions.rate_limited,
        )
        yield counter("ws_bytes_sent", "Bytes written to sockets", service.bytes_sent())
        yield counter("ws_bytes_received", "Bytes read from clients", service.bytes_received())

    def _kafka(self) -> Iterator[Metric]:
        source_status, stats = self._service.source_status, self._service.hub.stats
        yield gauge("ws_kafka_connected", "1 while the feed is live", self._service.kafka_is_live)
        yield gauge(
            "ws_kafka_paced", "1 while WS_MAX_KAFKA_RATE holds records back", source_status.paced
        )
        yield labelled_counter(
            "ws_kafka_messages_received", "Records read", "topic", stats.received
        )
        yield labelled_counter(
            "ws_kafka_messages_failed",
            "Records skipped as invalid",
            "reason",
            dict.fromkeys(InvalidRecord, 0) | stats.invalid_records,
        )
        yield labelled_counter(
            "ws_dead_letters",
            "Records for KAFKA_DEAD_LETTER_TOPIC: written, dropped (queue full), failed",
            "result",
            attrs.asdict(self._service.dead_letters),
        )
        yield counter(
            "ws_kafka_unknown_event_types",
            "Records delivered with an event type that the catalogue lacks",
            stats.unknown_types,
        )
        yield counter(
            "ws_kafka_records_lost",
            "Records deleted before they were read",
            source_status.lost_records,
        )
        yield from self._partitions()

    def _partitions(self) -> Iterator[Metric]:
        source_status = self._service.source_status
        yield gauge(
            "ws_kafka_partitions_held",
            "Partitions whose newest records an open transaction holds back",
            source_status.held_partitions,
        )

    def _kafka_topics(self) -> Iterator[Metric]:
        source_status = self._service.source_status
        troubled = GaugeMetricFamily(
            "ws_kafka_partitions_not_read", "Partitions with a problem, by topic", labels=["topic"]
        )
        for topic in self._service.hub.stream.topics:
            topic_problems = (
                problem for problem in source_status.problems if problem.topic == topic
            )
            troubled.add_metric(
                [topic], sum(max(1, len(problem.partitions)) for problem in topic_problems)
            )
        yield troubled
        lag = GaugeMetricFamily(
            "ws_kafka_lag_records", "Records not read yet, at the last probe", labels=["topic"]
        )
        for topic, records in source_status.lag.items():
            lag.add_metric([topic], records)
        yield lag

    def _delivery(self) -> Iterator[Metric]:
        hub = self._service.hub
        yield histogram(
            "ws_record_age_seconds", "Age of records when they were delivered", hub.stats.age
        )
        yield histogram("ws_dispatch_cycle_seconds", "Time of a dispatch cycle", hub.stats.cycle)
        yield gauge("ws_subscribed_patterns", "Patterns that have a subscriber", len(hub.index))
        yield gauge("ws_filters", "Distinct filters of all subscriptions", len(hub.filters))
        yield counter(
            "ws_filter_comparisons",
            "Comparisons of filters with live records",
            hub.stats.filter_comparisons,
        )
        compressed = hub.stats.compressed
        yield counter(
            "ws_compressed_texts",
            "Messages and batches that were compressed, each once for all its clients",
            compressed.texts,
        )
        yield counter(
            "ws_compression_input_bytes", "Bytes before compression", compressed.input_bytes
        )
        yield counter(
            "ws_compression_output_bytes", "Bytes after compression", compressed.output_bytes
        )
        yield counter("ws_compression_cpu_seconds", "CPU time of compression", compressed.seconds)
        backlogs = self._service.backlogs()
        yield gauge("ws_send_queue_backlog_bytes", "Bytes in all send queues", sum(backlogs))
        yield gauge(
            "ws_send_queue_backlog_max_bytes",
            "Bytes in the fullest send queue",
            backlogs[-1] if backlogs else 0,
        )

    def _past(self) -> Iterator[Metric]:
        hub, replays = self._service.hub, self._service.server.replays
        yield gauge("ws_history_messages", "Messages in history", len(hub.history))
        yield gauge("ws_history_bytes", "Memory of history", hub.history.size)
        yield gauge("ws_snapshot_channels", "Channels in the snapshot cache", len(hub.snapshots))
        yield gauge("ws_replays_active", "Replays running or waiting", replays.active)
        yield labelled_counter(
            "ws_replays",
            "Replays started or rejected",
            "result",
            dict.fromkeys((RECOVERED, *LossReason), 0)
            | replays.results
            | {_NOT_AVAILABLE: replays.unavailable},
        )
        yield labelled_counter(
            "ws_replayed_messages",
            "Messages replayed, by source",
            "from",
            {"history": replays.from_history, "log": replays.from_log},
        )

    def _scans(self) -> Iterator[Metric]:
        scans, history = self._service.server.scans.stats, self._service.hub.history
        yield counter("ws_scans", "Scans of the log started", scans.started)
        yield gauge("ws_scans_active", "Running scans", scans.active)
        yield gauge("ws_scan_clients", "Clients attached to scans", scans.clients)
        yield gauge("ws_scan_clients_waiting", "Clients waiting for a scan", scans.waiting)
        yield counter(
            "ws_scan_records", "Records read from the log, each once per scan", scans.records
        )
        yield counter(
            "ws_scan_records_matched", "Records of scans that match a client", scans.matched
        )
        yield counter(
            "ws_scan_cpu_seconds",
            "CPU time of matching and decoding records in scans",
            scans.seconds,
        )
        yield counter(
            "ws_scan_clients_detached",
            "Clients detached because they delayed their scan",
            scans.detached,
        )
        yield counter("ws_scans_failed", "Scans failed because Kafka did not respond", scans.failed)
        yield counter(
            "ws_history_pins_broken",
            "Pins of history broken because it reached twice its size",
            history.broken_pins,
        )
