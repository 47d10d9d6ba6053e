"""Merged metrics, and counters of exited workers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import HistogramMetricFamily, Metric

from odin_ws.assembly import Upstream, build
from odin_ws.catalogue import default_catalogue
from odin_ws.listener.certificate import Certificate
from odin_ws.ops.metrics import metrics_registry
from odin_ws.ops.stats import OpsStats
from odin_ws.settings import Settings
from odin_ws.testing.memory_log import MemoryLog, MemorySource
from odin_ws.testing.memory_log_reader import MemoryLogReader
from odin_ws.workers.metrics import GAUGES, MergedMetrics, merge_families
from tests.listener.certificates import Authority
from tests.workers.fakes import families

MESSAGES = "ws_messages_sent"
ACTIVE = "ws_connections_active"
HEADROOM = "ws_capacity_headroom_percent"
CPU = "ws_cpu_usage_percent"

# Events of a worker: its counter is seen to have grown by a number, or it exits.
moves = st.lists(
    st.tuples(st.integers(1, 3), st.one_of(st.integers(0, 1000), st.none())), max_size=30
)


def value(found: Iterable[Metric], name: str, **labels: str) -> float:
    """Return the only sample with this name and these labels."""
    (one,) = (
        sample.value
        for family in found
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    )
    return one


async def test_every_gauge_of_a_worker_has_a_rule(tmp_path: Path) -> None:
    """Every rule belongs to a gauge that still exists."""
    catalogue = default_catalogue()
    log = MemoryLog(catalogue.topics)
    authority = Authority(tmp_path)
    service = build(
        Settings(),
        catalogue,
        Upstream(MemorySource(log), MemoryLogReader(log)),
        Certificate(authority.chain, authority.key),
    )
    registry = metrics_registry(service, OpsStats())
    gauges = {family.name for family in registry.collect() if family.type == "gauge"}
    assert gauges == GAUGES.keys()


async def test_only_known_metric_types_are_merged() -> None:
    """Counters, gauges and histograms; summaries raise."""
    catalogue = default_catalogue()
    log = MemoryLog(catalogue.topics)
    service = build(Settings(), catalogue, Upstream(MemorySource(log), MemoryLogReader(log)))
    kinds = {family.type for family in metrics_registry(service, OpsStats()).collect()}
    assert kinds <= {"counter", "gauge", "histogram"}


def test_gauges_are_merged_by_rule() -> None:
    """Sums, means of shares, the maximum of lag and CPU."""
    parts = [
        families(gauges={ACTIVE: 5, HEADROOM: 40, CPU: 40, "ws_kafka_lag_records": 3}),
        families(gauges={ACTIVE: 7, HEADROOM: 60, CPU: 60, "ws_kafka_lag_records": 9}),
    ]
    merged = merge_families(parts)
    assert value(merged, ACTIVE) == 12
    assert value(merged, HEADROOM) == 50
    assert value(merged, CPU) == 60
    assert value(merged, "ws_kafka_lag_records") == 9


def test_waiting_is_summed_and_earliest_expiry_counts() -> None:
    """The earliest expiry is of a worker without the renewed certificate."""
    expires = "ws_tls_certificate_expires_timestamp_seconds"
    parts = [
        families(gauges={"ws_read_scheduler_waiting": 5, expires: 2e9}),
        families(gauges={"ws_read_scheduler_waiting": 7, expires: 1.9e9}),
    ]
    merged = merge_families(parts)
    assert value(merged, "ws_read_scheduler_waiting") == 12
    assert value(merged, expires) == 1.9e9


def test_one_worker_without_kafka_is_not_connected() -> None:
    """Its subscribers get no messages."""
    parts = [families(gauges={"ws_kafka_connected": state}) for state in (1, 0)]
    assert value(merge_families(parts), "ws_kafka_connected") == 0


def test_gauge_without_a_rule_raises() -> None:
    """There is no default rule."""
    with pytest.raises(KeyError, match="ws_of_tomorrow"):
        merge_families([families(gauges={"ws_of_tomorrow": 1})])


def test_samples_are_merged_by_labels() -> None:
    """A sample that only one worker has is kept."""
    parts = []
    for topics in ({"a": 1, "b": 2}, {"b": 3, "c": 4}):
        family = Metric("ws_kafka_messages_received", "Records read", "counter")
        for topic, count in topics.items():
            family.add_sample("ws_kafka_messages_received_total", {"topic": topic}, count)
        parts.append([family])
    merged = merge_families(parts)
    found = [value(merged, "ws_kafka_messages_received_total", topic=one) for one in "abc"]
    assert found == [1, 5, 4]


def test_histograms_are_added_bucket_by_bucket() -> None:
    """Buckets, counts and sums equal those of a single process."""
    parts: list[list[Metric]] = [
        [HistogramMetricFamily("h", "h", buckets=[("1.0", low), ("+Inf", both)], sum_value=both)]
        for low, both in ((2, 5), (4, 4))
    ]
    merged = merge_families(parts)
    assert value(merged, "h_bucket", le="1.0") == 6
    assert value(merged, "h_bucket", le="+Inf") == value(merged, "h_count") == 9
    assert value(merged, "h_sum") == 9


@given(moves)
def test_counters_never_decrease(sequence: list[tuple[int, int | None]]) -> None:
    """Whichever workers exit."""
    totals = MergedMetrics()
    now = dict.fromkeys((1, 2, 3), 0)
    expected = 0
    for worker, more in sequence:
        if more is None:
            totals.ended(worker)
            now[worker] = 0
        else:
            now[worker] += more
            expected += more
            totals.update(worker, families({MESSAGES: now[worker]}))
        found = totals.families(families({MESSAGES: 0}))
        assert value(found, f"{MESSAGES}_total") == expected


@given(moves)
def test_gauges_exclude_exited_workers(sequence: list[tuple[int, int | None]]) -> None:
    """An exited worker has no connections."""
    totals = MergedMetrics()
    now: dict[int, int] = {}
    for worker, connections in sequence:
        if connections is None:
            totals.ended(worker)
            now.pop(worker, None)
        else:
            totals.update(worker, families(gauges={ACTIVE: connections}))
            now[worker] = connections
        found = totals.families(families(gauges={ACTIVE: 0}))
        assert value(found, ACTIVE) == sum(now.values())
        assert totals.of(worker, ACTIVE) == now.get(worker, 0)


def test_supervisor_process_is_included() -> None:
    """Its memory and CPU are added."""
    own = CollectorRegistry()
    ProcessCollector(registry=own)
    totals = MergedMetrics()
    totals.update(1, families(gauges={"process_open_fds": 10_000}))
    assert value(totals.families(own.collect()), "process_open_fds") > 10_000
