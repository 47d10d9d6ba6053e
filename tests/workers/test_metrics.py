"""Metrics of several workers are one, by rules, and what ended workers counted stays."""

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
from odin_ws.listener.tls import Certificate
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

# What happens to a worker: it is seen to have counted so much more, or it ends.
moves = st.lists(
    st.tuples(st.integers(1, 3), st.one_of(st.integers(0, 1000), st.none())), max_size=30
)


def value(found: Iterable[Metric], name: str, **labels: str) -> float:
    """The only sample of that name and those labels."""
    (one,) = (
        sample.value
        for family in found
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    )
    return one


async def test_every_gauge_of_a_worker_has_a_rule(tmp_path: Path) -> None:
    """Who adds a gauge says what several of it are together; no rule is left of one that went."""
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


async def test_only_known_kinds_are_added_up() -> None:
    """Counters, gauges and histograms can be merged; a summary could not."""
    catalogue = default_catalogue()
    log = MemoryLog(catalogue.topics)
    service = build(Settings(), catalogue, Upstream(MemorySource(log), MemoryLogReader(log)))
    kinds = {family.type for family in metrics_registry(service, OpsStats()).collect()}
    assert kinds <= {"counter", "gauge", "histogram"}


def test_the_rule_of_a_gauge_holds() -> None:
    """Connections are added, shares of equal parts averaged; of lags and CPU the worst tells."""
    parts = [
        families(gauges={ACTIVE: 5, HEADROOM: 40, CPU: 40, "ws_kafka_lag_records": 3}),
        families(gauges={ACTIVE: 7, HEADROOM: 60, CPU: 60, "ws_kafka_lag_records": 9}),
    ]
    merged = merge_families(parts)
    assert value(merged, ACTIVE) == 12
    assert value(merged, HEADROOM) == 50
    assert value(merged, CPU) == 60
    assert value(merged, "ws_kafka_lag_records") == 9


def test_those_who_wait_for_a_turn_are_added_and_the_first_certificate_expires() -> None:
    """A worker that has not read the new certificate yet is the one to look at."""
    expires = "ws_tls_certificate_expires_timestamp_seconds"
    parts = [
        families(gauges={"ws_read_scheduler_waiting": 5, expires: 2e9}),
        families(gauges={"ws_read_scheduler_waiting": 7, expires: 1.9e9}),
    ]
    merged = merge_families(parts)
    assert value(merged, "ws_read_scheduler_waiting") == 12
    assert value(merged, expires) == 1.9e9


def test_one_worker_without_kafka_is_not_connected() -> None:
    """Some subscribers get nothing then, so the instance does not say that all is well."""
    parts = [families(gauges={"ws_kafka_connected": state}) for state in (1, 0)]
    assert value(merge_families(parts), "ws_kafka_connected") == 0


def test_a_gauge_without_a_rule_is_a_bug() -> None:
    """It is not guessed what it could mean."""
    with pytest.raises(KeyError, match="ws_of_tomorrow"):
        merge_families([families(gauges={"ws_of_tomorrow": 1})])


def test_labels_are_kept_apart() -> None:
    """Samples with the same labels are added, and one that only one worker has is kept."""
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
    """Buckets, count and sum of all workers together are those of one that saw everything."""
    parts: list[list[Metric]] = [
        [HistogramMetricFamily("h", "h", buckets=[("1.0", low), ("+Inf", both)], sum_value=both)]
        for low, both in ((2, 5), (4, 4))
    ]
    merged = merge_families(parts)
    assert value(merged, "h_bucket", le="1.0") == 6
    assert value(merged, "h_bucket", le="+Inf") == value(merged, "h_count") == 9
    assert value(merged, "h_sum") == 9


@given(moves)
def test_counters_never_go_back(sequence: list[tuple[int, int | None]]) -> None:
    """Whoever counts and whoever ends: the total is everything that was ever seen."""
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
def test_gauges_are_of_those_that_run(sequence: list[tuple[int, int | None]]) -> None:
    """A worker that has ended has no connections any more."""
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


def test_the_supervisors_own_process_counts() -> None:
    """What it uses itself is added to what the workers use."""
    own = CollectorRegistry()
    ProcessCollector(registry=own)
    totals = MergedMetrics()
    totals.update(1, families(gauges={"process_open_fds": 10_000}))
    assert value(totals.families(own.collect()), "process_open_fds") > 10_000
