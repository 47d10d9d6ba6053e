"""Merges the metrics of workers; counters of ended workers are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Final

from prometheus_client.core import Metric

__all__ = ["GAUGES", "MergedMetrics", "merge_families"]

Rule = Callable[[Sequence[float]], float]

# What several workers' gauges are together. Counters and histograms are always sums.
GAUGES: Final[Mapping[str, Rule]] = {
    # Of each there is a part in every worker.
    "ws_connections_active": sum,
    "ws_connections_max": sum,
    "ws_connections_pending": sum,
    "ws_sse_connections_active": sum,
    "ws_read_scheduler_waiting": sum,
    "ws_replays_waiting": sum,
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
    # A pattern counts once in each worker that has a subscriber of it.
    "ws_subscribed_patterns": sum,
    # The same holds for a filter.
    "ws_filters": sum,
    # Shares of equal parts.
    "ws_capacity_headroom_percent": fmean,
    # Each is relative to one core: a mean would hide a worker that is full.
    "ws_cpu_usage_percent": max,
    "odin_ws_build_info": max,
    # Every worker reads everything and keeps the same past: the one that is worst off tells.
    "ws_kafka_connected": min,
    # Each worker tries the port of all.
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
    """One family for all of a name, with one sample for all of the same labels.

    Raises KeyError for a gauge that has no rule in `GAUGES`.
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
    """What all workers have counted since the start; it never goes back when one is replaced.

    A worker is known by its number. What it counted after it was last seen is lost when it ends.
    """

    def __init__(self) -> None:
        self._ended: list[Metric] = []
        self._last: dict[int, list[Metric]] = {}

    def saw(self, worker: int, families: Iterable[Metric]) -> None:
        """A worker's metrics as they are now."""
        self._last[worker] = list(families)

    def ended(self, worker: int) -> None:
        """A worker has ended: its counts stay, its gauges go."""
        counted = [one for one in self._last.pop(worker, []) if one.type != "gauge"]
        self._ended = merge_families([self._ended, counted])

    def families(self, *others: Iterable[Metric]) -> list[Metric]:
        """Everything together, with what others have to add.

        Of a worker that has not answered lately it is what it told last.
        """
        return merge_families([*self._last.values(), self._ended, *others])

    def of(self, worker: int, name: str) -> float:
        """A gauge of one worker, 0 where it has told nothing yet."""
        families = (one for one in self._last.get(worker, ()) if one.name == name)
        return sum(sample.value for family in families for sample in family.samples)
