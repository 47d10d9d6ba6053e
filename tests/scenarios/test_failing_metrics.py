"""Failings of the earlier server in metrics, by their numbers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from odin_ws.listener.read_scheduler import ReadScheduler
from odin_ws.testing.scenario import Scenario
from tests.scenarios.container import Container
from tests.scenarios.metric_changes import CHANGES
from tests.scenarios.ops import metric, metric_names

# Metrics that show a setting, with their values.
FIXED = {
    "ws_connections_max": 7,
    "ws_capacity_max_connections": 7,
    "ws_memory_limit_bytes": 1 << 40,
}

# Metrics that sampling changes.
SAMPLED = {"ws_memory_bytes", "ws_cpu_usage_percent", "ws_event_loop_delay_seconds_count"}

# Metrics of a server that requires tokens: see scenarios/auth/test_token_metrics.py.
OF_TOKENS = {
    "ws_jwt_rejected_total",
    "ws_jwt_keys",
    "ws_jwks_reads_total",
    "ws_revocations",
}

# Virtual time has no pauses: see integration/test_pause.py.
OF_PAUSES = {"ws_pauses_total", "ws_paused_seconds_total"}

# A process has to shrink first: see resources/test_allocator.py.
OF_ALLOCATOR = {"ws_memory_reusable_bytes"}

# A scenario has no sockets to read: the tests below let many tasks wait for the read scheduler.
OF_READ_SCHEDULER = {"ws_read_scheduler_waiting", "ws_replays_waiting", "ws_time_slices_waiting"}

# See ops/test_app.py, workers/test_metrics.py and integration/test_logging.py.
OF_THE_PROCESS = {
    "odin_ws_build_info",
    "ws_ops_requests_rejected_total",
    "ws_log_lines_dropped_total",
}

# Not here: ws_tls_certificate_expires_timestamp_seconds exists with TLS only: see
# integration/test_tls.py.

# Only with a dead letter topic: see integration/test_dead_letters.py.
OF_DEAD_LETTERS = {"ws_dead_letters_total"}

# See scenarios/resume/test_many_clients.py and tests/resume/test_scan_pool.py.
OF_SCANS = {
    "ws_history_pins_broken_total",
    "ws_scan_clients",
    "ws_scan_clients_detached_total",
    "ws_scan_clients_waiting",
    "ws_scan_cpu_seconds_total",
    "ws_scan_records_total",
    "ws_scan_records_matched_total",
    "ws_scans_active",
    "ws_scans_failed_total",
    "ws_scans_total",
}
# See scenarios/resume/test_replay_window.py.
OF_THE_WINDOW = {
    "ws_replay_window_bytes",
    "ws_replay_window_used_bytes",
    "ws_replay_window_waiting",
}
# The partitions of a log in memory do not fail: see integration/test_acl.py and
# integration/test_transactions.py.
OF_KAFKA = {"ws_kafka_partitions_held", "ws_kafka_partitions_not_read"}

# See http_api/test_probe.py, http_api/test_snapshot.py and http_api/test_events.py.
OF_HTTP = {"ws_http_requests_total", "ws_sse_connections_active"}

# See scenarios/test_compression.py.
OF_COMPRESSION = {
    "ws_compressed_texts_total",
    "ws_compression_cpu_seconds_total",
    "ws_compression_input_bytes_total",
    "ws_compression_output_bytes_total",
    "ws_deflate_connections_active",
}

# See scenarios/test_canary.py.
OF_THE_CANARY = {
    "ws_canary_up",
    "ws_canary_tries_total",
    "ws_canary_failures_total",
    "ws_canary_step_seconds",
}


async def test_failing_24_each_metric_has_a_test_that_changes_it(
    odin_scenario: Scenario,
) -> None:
    """The tables of the tests name each metric, and no other."""
    tables = (
        CHANGES.keys()
        | FIXED.keys()
        | SAMPLED
        | OF_TOKENS
        | OF_READ_SCHEDULER
        | OF_THE_PROCESS
        | OF_PAUSES
        | OF_ALLOCATOR
        | OF_DEAD_LETTERS
        | OF_KAFKA
        | OF_SCANS
        | OF_THE_WINDOW
        | OF_HTTP
        | OF_COMPRESSION
        | OF_THE_CANARY
    )
    assert await metric_names(odin_scenario) == tables


@pytest.mark.parametrize("name", CHANGES)
async def test_failing_24_metric_changes(odin_scenario: Scenario, name: str) -> None:
    """Its action in CHANGES changes the metric."""
    before = await metric(odin_scenario, name)
    await CHANGES[name](odin_scenario)
    assert await metric(odin_scenario, name) != before


@pytest.mark.odin_settings(ws_max_connections=7, ws_memory_limit=1 << 40)
@pytest.mark.parametrize("name", FIXED)
async def test_failing_24_metric_shows_its_setting(odin_scenario: Scenario, name: str) -> None:
    """It has the value in force."""
    assert await metric(odin_scenario, name) == FIXED[name]


async def test_failing_24_tasks_waiting_for_read_scheduler_are_counted(
    odin_scenario: Scenario,
) -> None:
    """The scheduler of this test does not run, so the tasks wait until they are cancelled."""
    many = 1000
    read_scheduler = odin_scenario.service.read_scheduler = ReadScheduler(lambda: 0.0)
    async with trio.open_nursery() as nursery:
        for _ in range(many):
            nursery.start_soon(read_scheduler.wait_for_read)
        await trio.testing.wait_all_tasks_blocked()
        assert 0 < await metric(odin_scenario, "ws_read_scheduler_waiting") < many
        nursery.cancel_scope.cancel()
    assert await metric(odin_scenario, "ws_read_scheduler_waiting") == 0


@pytest.mark.parametrize(
    ("take", "name"),
    [
        (ReadScheduler.wait_for_chunk, "ws_replays_waiting"),
        (ReadScheduler.wait_for_work_slice, "ws_time_slices_waiting"),
    ],
)
async def test_failing_24_tasks_waiting_for_chunk_or_time_slice_are_counted(
    odin_scenario: Scenario, take: Callable[[ReadScheduler], Awaitable[None]], name: str
) -> None:
    """The scheduler of this test does not run, so the tasks wait until they are cancelled."""
    read_scheduler = odin_scenario.service.read_scheduler = ReadScheduler(lambda: 0.0)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(take, read_scheduler)
        await trio.testing.wait_all_tasks_blocked()
        assert await metric(odin_scenario, name) == 3
        nursery.cancel_scope.cancel()
    assert await metric(odin_scenario, name) == 0


async def test_failing_24_memory_and_cpu_are_sampled(
    container: Container, odin_scenario: Scenario
) -> None:
    """Both show the container's usage one second later."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(odin_scenario.service.resources.run)
        nursery.start_soon(odin_scenario.service.resources.loop.run)
        await trio.sleep(0.55)
        assert await metric(odin_scenario, "ws_event_loop_delay_seconds_count") == 5
        assert await metric(odin_scenario, "ws_memory_bytes") == 0
        container.use(memory=300_000, cpu_seconds=9)
        await trio.sleep(0.6)
        assert await metric(odin_scenario, "ws_memory_bytes") == 300_000
        assert await metric(odin_scenario, "ws_cpu_usage_percent") > 0
        nursery.cancel_scope.cancel()
