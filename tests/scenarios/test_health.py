"""The health report has the earlier server's schema, with true values."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from odin_ws.assembly import Upstream, build
from odin_ws.catalogue import default_catalogue
from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.kafka.source_status import SourceState
from odin_ws.lifecycle import ServiceState
from odin_ws.settings import Settings
from odin_ws.testing.memory_log import MemoryLog, MemorySource
from odin_ws.testing.memory_log_reader import MemoryLogReader
from odin_ws.testing.scenario import Scenario, open_scenario
from tests.scenarios.disconnects import end_connection
from tests.scenarios.ops import ops_request, service_request
from tests.scenarios.wire import RawClient

# The earlier server's schema; our report may have further fields.
SCHEMA: dict[str, Any] = {
    "status": str,
    "healthy": bool,
    "checks": {
        "kafka": {"status": str, "healthy": bool},
        "capacity": {"current": int, "max": int, "percentage": float, "healthy": bool},
        "tasks": {"current": int},
        "memory": {"used_mb": float, "limit_mb": float, "percentage": float, "healthy": bool},
        "cpu": {"percentage": float, "threshold": float, "healthy": bool},
        "limits": {"max_kafka_rate": float, "max_broadcast_rate": float},
    },
    "observability": {
        "disconnects": {"total": int, "by_reason": dict},
        "slow": dict,
        "send_queue": {
            "samples": int,
            "avg": float,
            "p50": int,
            "p95": int,
            "p99": int,
            "max": int,
        },
    },
    "warnings": list,
    "errors": list,
    "uptime": float,
}


def mismatches(value: Any, schema: Any, place: str = "") -> list[str]:
    """Return where a value differs from the schema."""
    if not isinstance(schema, dict):
        # JSON has one kind of number.
        fits = isinstance(value, schema) or (schema is float and isinstance(value, int))
        return [] if fits else [f"{place}: {value!r} is no {schema.__name__}"]
    if not isinstance(value, dict) or not schema.keys() <= value.keys():
        return [f"{place}: {value!r} lacks some of {list(schema)}"]
    return [
        line
        for key, expected in schema.items()
        for line in mismatches(value[key], expected, f"{place}.{key}")
    ]


async def health(scenario: Scenario) -> dict[str, Any]:
    """Return the report, with its HTTP status as `http`."""
    response = await ops_request(scenario, "/health")
    report: dict[str, Any] = response.json()
    return report | {"http": response.status_code}


async def test_report_has_schema_of_earlier_server(odin_scenario: Scenario) -> None:
    """Each field that dashboards of the earlier server read exists with the same type."""
    assert mismatches(await health(odin_scenario), SCHEMA) == []


async def test_running_server_is_healthy(odin_scenario: Scenario) -> None:
    """The status is 200 without warnings and errors; Kafka is running."""
    report = await health(odin_scenario)
    assert (report["http"], report["status"], report["healthy"]) == (200, "healthy", True)
    assert (report["warnings"], report["errors"]) == ([], [])
    assert report["checks"]["kafka"]["status"] == "running"
    partitions = report["checks"]["kafka"]["partitions"]
    assert {topic: len(its) for topic, its in partitions.items()} == dict.fromkeys(partitions, 12)
    assert len(partitions) == 8


async def test_uptime_is_in_seconds(odin_scenario: Scenario) -> None:
    """It grows with the clock."""
    await trio.sleep(100)
    assert 100 <= (await health(odin_scenario))["uptime"] < 101


@pytest.mark.odin_settings(ws_max_connections=10)
async def test_capacity_counts_connections_and_warns_from_90_percent(
    odin_scenario: Scenario,
) -> None:
    """From 90% on the status is degraded, still 200, with a warning."""
    for _ in range(8):
        await RawClient.open(odin_scenario)
    report = await health(odin_scenario)
    assert report["checks"]["capacity"] == {
        "current": 8,
        "max": 10,
        "percentage": 80,
        "healthy": True,
    }
    assert report["status"] == "healthy"
    await RawClient.open(odin_scenario)
    report = await health(odin_scenario)
    assert (report["http"], report["status"], report["healthy"]) == (200, "degraded", True)
    assert report["warnings"] == ["capacity: 90%"]


async def test_task_count_includes_connections(odin_scenario: Scenario) -> None:
    """Each connection has at least one task."""
    before = (await health(odin_scenario))["checks"]["tasks"]["current"]
    for _ in range(10):
        await RawClient.open(odin_scenario)
    assert (await health(odin_scenario))["checks"]["tasks"]["current"] >= before + 10


@pytest.mark.parametrize(
    "reason", [DisconnectReason.CLIENT, DisconnectReason.SLOW, DisconnectReason.BINARY]
)
async def test_report_counts_disconnects_by_reason(
    odin_scenario: Scenario, reason: DisconnectReason
) -> None:
    """The reasons have the labels of the table of disconnect reasons."""
    await end_connection(odin_scenario, reason)
    report = (await health(odin_scenario))["observability"]
    assert report["disconnects"] == {"total": 1, "by_reason": {reason.value.label: 1}}
    assert report["slow"]["disconnected"] == (reason is DisconnectReason.SLOW)


async def test_send_queue_percentiles_include_all_connections(odin_scenario: Scenario) -> None:
    """Nine of ten clients have nothing pending; the tenth one shows from p95 on."""
    clients = [await RawClient.open(odin_scenario) for _ in range(9)]
    clients.append(await RawClient.open(odin_scenario, capacity=300))
    for client in clients:
        await client.subscribe("BTC.trade")
    odin_scenario.publish("BTC", "trade", "x" * 1300)
    await trio.sleep(1)
    report = (await health(odin_scenario))["observability"]
    send_queue = report["send_queue"]
    assert (send_queue["samples"], send_queue["p50"]) == (10, 0)
    assert 1000 < send_queue["p95"] == send_queue["p99"] == send_queue["max"] < 1300
    assert send_queue["avg"] == pytest.approx(send_queue["max"] / 10, abs=0.1)
    assert report["slow"]["backlogged"] == 1


@pytest.mark.odin_settings(ws_max_kafka_rate=7, ws_max_broadcast_rate=3)
async def test_report_has_rates_of_settings(odin_scenario: Scenario) -> None:
    """`limits` has the rates in force."""
    limits = (await health(odin_scenario))["checks"]["limits"]
    assert (limits["max_kafka_rate"], limits["max_broadcast_rate"]) == (7, 3)


@pytest.mark.odin_settings(ws_max_kafka_rate=10)
async def test_reaching_max_kafka_rate_is_a_warning(odin_scenario: Scenario) -> None:
    """It is no error, and ends when the backlog is read."""
    for _ in range(50):
        odin_scenario.publish("BTC", "trade")
    await trio.sleep(1)
    report = await health(odin_scenario)
    assert (report["http"], report["status"]) == (200, "degraded")
    assert "WS_MAX_KAFKA_RATE=10" in report["warnings"][0]
    await trio.sleep(30)
    assert (await health(odin_scenario))["status"] == "healthy"


async def test_missing_topics_are_a_warning(odin_scenario: Scenario) -> None:
    """The warning lists them."""
    odin_scenario.service.source_status.set_missing_topics(
        frozenset({"odin.trades", "odin.social"})
    )
    report = await health(odin_scenario)
    assert report["status"] == "degraded"
    assert report["warnings"] == ["kafka: topics do not exist: odin.social, odin.trades"]


async def test_liveness_is_200_while_kafka_is_stalled(odin_scenario: Scenario) -> None:
    """A restart would not repair the broker."""
    odin_scenario.service.source_status.transition(SourceState.STALLED, "no answer")
    assert (await ops_request(odin_scenario, "/health/live")).status_code == 200


async def test_readiness_begins_with_first_live_feed_and_ends_with_drain(
    autojump_clock: MockClock,  # noqa: ARG001 -- virtual time
) -> None:
    """It is 503 before the source is live; 200 from then on, also while the broker is stalled."""
    catalogue = default_catalogue()
    log = MemoryLog(catalogue.topics)
    service = build(Settings(), catalogue, Upstream(MemorySource(log), MemoryLogReader(log)))

    async def ready() -> tuple[int, str]:
        await wait_all_tasks_blocked()
        response = await service_request(service, "/health/ready")
        return response.status_code, response.text

    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.watch_source)
        assert await ready() == (503, "not ready: kafka: not connected yet\n")
        service.source_status.transition(SourceState.LIVE)
        assert await ready() == (200, "ready\n")
        service.source_status.transition(SourceState.STALLED, "no answer")
        assert await ready() == (200, "ready\n")
        service.lifecycle.enter(ServiceState.DRAINING)
        assert await ready() == (503, "not ready: draining\n")


async def test_unknown_page_is_404(odin_scenario: Scenario) -> None:
    """`/healthz` is no page."""
    assert (await ops_request(odin_scenario, "/healthz")).status_code == 404


async def test_reports_of_two_servers_are_separate(odin_scenario: Scenario) -> None:
    """Servers in one process share no state."""
    await RawClient.open(odin_scenario)
    async with open_scenario(log=odin_scenario.log) as other:
        assert (await health(other))["checks"]["capacity"]["current"] == 0
