"""Merges the metrics of workers; keeps the counters of exited workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Final

from prometheus_client.core import Metric

__all__ = ["GAUGES", "MergedMetrics", "merge_families"]

Rule = Callable[[Sequence[float]], float]

# The merge rule of each gauge. Counters and histograms are summed.
GAUGES: Final[Mapping[str, Rule]] = {
    # Each worker has a part of the total.
    "ws_connections_active": sum,
    "ws_connections_max": sum,
    "ws_connections_pending": sum,
    "ws_sse_connections_active": sum,
    "ws_deflate_connections_active": sum,
    "ws_read_scheduler_waiting": sum,
    "ws_replays_waiting": sum,
    "ws_replay_window_bytes": sum,
    "ws_replay_window_used_bytes": sum,
    "ws_replay_window_waiting": sum,
    "ws_time_slices_waiting": sum,
    "ws_capacity_max_connections": sum,
    "ws_memory_bytes": sum,
    "ws_memory_reusable_bytes": sum,
    "ws_memory_limit_bytes": sum,
    "ws_send_queue_backlog_bytes": sum,
    "ws_replays_active": sum,
    "ws_scan_clients": sum,
    "ws_scan_clients_waiting": sum,
    "ws_scans_active": sum,
    # A pattern counts once in each worker with a subscriber to the pattern.
    "ws_subscribed_patterns": sum,
    # A filter counts once in each worker with a subscriber that uses the filter.
    "ws_filters": sum,
    # Shares of limits that are equal in all workers.
    "ws_capacity_headroom_percent": fmean,
    # Relative to one core: a mean would hide a worker whose core is full.
    "ws_cpu_usage_percent": max,
    "odin_ws_build_info": max,
    # Every worker reads all partitions and has the same history: the worst value counts.
    "ws_kafka_connected": min,
    # Each worker's canary tests the shared port.
    "ws_canary_up": min,
    "ws_canary_step_seconds": max,
    "ws_jwt_keys": min,
    "ws_tls_certificate_expires_timestamp_seconds": min,
    "ws_revocations": min,
    "ws_kafka_paced": max,
    "ws_kafka_lag_records": max,
    "ws_kafka_partitions_held": max,
    "ws_kafka_partitions_not_read": max,
    "ws_send_queue_backlog_max_bytes": max,
    "ws_history_messages": max,
    "ws_history_bytes": max,
    "ws_snapshot_channels": max,
    "process_virtual_memory_bytes": sum,
    "process_resident_memory_bytes": sum,
    "process_open_fds": sum,
    "process_max_fds": min,
    "process_start_time_seconds": min,
}


def merge_families(parts: Iterable[Iterable[Metric]]) -> list[Metric]:
    """Merge families by name and samples by labels.

    Raises KeyError for a gauge without a rule in `GAUGES`.
    """
    families: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], list[float]]] = {}
    for family in (family for part in parts for family in part):
        families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
        samples = values.setdefault(family.name, {})
        for sample in family.samples:
            labels = tuple(sample.labels.items())
            samples.setdefault((sample.name, labels), []).append(sample.value)
    for name, merged in families.items():
        rule = GAUGES[name] if merged.type == "gauge" else sum
        for (sample_name, labels), found in values[name].items():
            merged.add_sample(sample_name, dict(labels), rule(found))
    return list(families.values())


class MergedMetrics:
    """The metrics of all workers since the start; counters never decrease when one is replaced.

    A worker is identified by its number. The counts of a worker after its last report are lost when
    the worker exits.
    """

    def __init__(self) -> None:
        self._ended: list[Metric] = []
        self._last: dict[int, list[Metric]] = {}

    def update(self, worker: int, families: Iterable[Metric]) -> None:
        """Store the current metrics of a worker."""
        self._last[worker] = list(families)

    def ended(self, worker: int) -> None:
        """Keep the counters of an exited worker and drop its gauges."""
        counted = [family for family in self._last.pop(worker, []) if family.type != "gauge"]
        self._ended = merge_families([self._ended, counted])

    def families(self, *others: Iterable[Metric]) -> list[Metric]:
        """Return the metrics of all workers merged with `others`.

        A worker that did not respond lately counts with its last report.
        """
        return merge_families([*self._last.values(), self._ended, *others])

    def of(self, worker: int, name: str) -> float:
        """Return a gauge of one worker, 0 before the worker's first report."""
        families = (family for family in self._last.get(worker, ()) if family.name == name)
        return sum(sample.value for family in families for sample in family.samples)
