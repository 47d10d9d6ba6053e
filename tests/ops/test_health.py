"""Health reports the state of the running parts, with a reason for each problem."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from odin_ws.assembly import Upstream, build, read_certificate
from odin_ws.catalogue import default_catalogue
from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.kafka.source_status import SourceProblem, SourceState
from odin_ws.lifecycle import ServiceState
from odin_ws.ops.health import health_report
from odin_ws.serve import dispatcher, kafka_ingest, open_record_channel
from odin_ws.service import Service
from odin_ws.settings import Settings
from odin_ws.testing.memory_log import MemoryLog, MemorySource
from odin_ws.testing.memory_log_reader import MemoryLogReader
from tests.listener.certificates import Authority

CATALOGUE = default_catalogue()

# Limits far above what this machine uses.
ROOMY = Settings(ws_max_connections=100, ws_memory_limit=1 << 50, ws_cpu_limit=4)


def make_service(settings: Settings = ROOMY) -> Service:
    """The parts of a service that does not run."""
    return build(settings, CATALOGUE, upstream(MemoryLog(CATALOGUE.topics)))


def upstream(log: MemoryLog, rate: float = 0) -> Upstream:
    """Return a source and a log reader of the same log."""
    return Upstream(MemorySource(log, rate), MemoryLogReader(log))


@asynccontextmanager
async def running(
    settings: Settings = ROOMY, rate: float = 0
) -> AsyncIterator[tuple[Service, MemoryLog]]:
    """Run a service whose records flow."""
    log = MemoryLog(CATALOGUE.topics, 3)
    both = upstream(log, rate)
    service = build(settings, CATALOGUE, both)
    records, dispatched = open_record_channel()
    async with dispatcher(service, dispatched), kafka_ingest(both, records):
        await wait_all_tasks_blocked()
        yield service, log


async def test_live_service_is_healthy(autojump_clock: MockClock) -> None:
    """The report has no warning, and every partition is read."""
    async with running() as (service, _):
        report = health_report(service)
    assert (report["status"], report["healthy"]) == ("healthy", True)
    assert report["warnings"] == report["errors"] == []
    assert report["checks"]["kafka"] == {
        "status": "running",
        "healthy": True,
        "feed": "live",
        "paced": False,
        "lag": {},
        "behind_seconds": 0.0,
        "lost_records": 0,
        "problems": [],
        "partitions": {topic: [0, 1, 2] for topic in CATALOGUE.topics},
    }
    for name in ("capacity", "memory", "cpu"):
        assert report["checks"][name]["healthy"]


async def test_partition_that_is_not_read_degrades_health_and_is_named(
    autojump_clock: MockClock,
) -> None:
    """Other partitions are live, so an orchestrator must not restart the instance."""
    async with running() as (service, _):
        service.source_status.problems = [
            SourceProblem("odin.trades", (1,), "no leader", trio.current_time())
        ]
        await trio.sleep(7)
        report = health_report(service)
    assert (report["status"], report["healthy"]) == ("degraded", True)
    assert report["warnings"] == ["kafka: odin.trades 1: no leader"]
    assert report["checks"]["kafka"]["problems"] == [
        {"topic": "odin.trades", "partitions": [1], "reason": "no leader", "seconds": 7.0}
    ]


async def test_report_has_the_originals_fields(autojump_clock: MockClock) -> None:
    """Dashboards and scripts of the original server can read it; it is plain JSON."""
    report = health_report(make_service())
    assert json.loads(json.dumps(report)) == report
    assert report.keys() == {
        "status",
        "healthy",
        "version",
        "checks",
        "observability",
        "warnings",
        "errors",
        "uptime",
    }
    assert report["checks"].keys() == {
        "kafka",
        "capacity",
        "canary",
        "history",
        "replays",
        "tasks",
        "memory",
        "cpu",
        "limits",
    }
    assert report["observability"].keys() == {"disconnects", "slow", "send_queue"}


async def test_failing_23_service_before_live_is_unhealthy(autojump_clock: MockClock) -> None:
    """The report has the time and the reason."""
    service = make_service()
    await trio.sleep(7)
    report = health_report(service)
    assert (report["status"], report["healthy"]) == ("unhealthy", False)
    assert report["errors"] == ["kafka: starting for 7 s: not connected yet"]
    assert report["checks"]["kafka"]["status"] == "stopped"
    assert not report["checks"]["kafka"]["healthy"]


@pytest.mark.parametrize("status", [SourceState.STALLED, SourceState.STOPPED])
async def test_failing_23_lost_broker_is_unhealthy(
    autojump_clock: MockClock, status: SourceState
) -> None:
    """Until the broker is back."""
    async with running() as (service, _):
        service.source_status.transition(status, "no broker answers")
        await trio.sleep(12.4)
        report = health_report(service)
        assert (report["status"], report["healthy"]) == ("unhealthy", False)
        assert report["errors"] == [f"kafka: {status} for 12 s: no broker answers"]
        assert report["checks"]["kafka"]["feed"] == status
        service.source_status.transition(SourceState.LIVE)
        assert health_report(service)["status"] == "healthy"


def fill_places(service: Service) -> None:
    """Use nine of ten connections."""
    service.server.admission.active = 90


def fill_memory(service: Service) -> None:
    """Use nine tenths of the memory."""
    service.resources.memory_bytes = service.resources.memory_limit * 9 // 10 + 1


def use_cpu(service: Service) -> None:
    """Use nearly all of the CPU."""
    service.resources.cpu_percent = 95.4


def miss_topics(service: Service) -> None:
    """Remove all topics."""
    service.source_status.set_missing_topics(frozenset(CATALOGUE.topics))


def pace(service: Service) -> None:
    """Hold records back."""
    service.source_status.paced = True


def drain(service: Service) -> None:
    """Begin to drain."""
    service.lifecycle.enter(ServiceState.DRAINING)


CONDITIONS: list[tuple[Callable[[Service], None], str]] = [
    (fill_places, "capacity: 90%"),
    (fill_memory, "memory: 90%"),
    (use_cpu, "cpu: 95%"),
    (miss_topics, f"kafka: topics do not exist: {', '.join(sorted(CATALOGUE.topics))}"),
    (pace, "kafka: paced: WS_MAX_KAFKA_RATE=1000 holds records back"),
    (drain, "draining"),
]


@pytest.mark.parametrize(("condition", "warning"), CONDITIONS, ids=[name for _, name in CONDITIONS])
async def test_each_condition_has_its_warning(
    autojump_clock: MockClock, condition: Callable[[Service], None], warning: str
) -> None:
    """The status is `degraded`, which counts as healthy for a load balancer."""
    async with running() as (service, _):
        condition(service)
        report = health_report(service)
    assert (report["status"], report["healthy"]) == ("degraded", True)
    assert report["warnings"] == [warning]
    assert report["errors"] == []


async def test_all_conditions_are_reported_together(autojump_clock: MockClock) -> None:
    """Neither a warning nor an error hides other warnings."""
    service = make_service()
    for condition, _ in CONDITIONS:
        condition(service)
    report = health_report(service)
    assert report["status"] == "unhealthy"
    assert report["warnings"] == [warning for _, warning in CONDITIONS]
    for name in ("capacity", "memory", "cpu"):
        assert not report["checks"][name]["healthy"]


@pytest.mark.parametrize(("active", "healthy"), [(0, True), (89, True), (90, False), (100, False)])
async def test_capacity_has_current_max_and_percentage(
    autojump_clock: MockClock, active: int, *, healthy: bool
) -> None:
    """The capacity of connections."""
    service = make_service()
    service.server.admission.active = active
    assert health_report(service)["checks"]["capacity"] == {
        "current": active,
        "max": 100,
        "percentage": active,
        "healthy": healthy,
    }


async def test_memory_is_in_mebibytes(autojump_clock: MockClock) -> None:
    """The used memory and its limit have the same unit."""
    service = make_service(Settings(ws_memory_limit=400 << 20))
    service.resources.memory_bytes = 100 << 20
    assert health_report(service)["checks"]["memory"] == {
        "used_mb": 100,
        "limit_mb": 400,
        "percentage": 25,
        "healthy": True,
    }


async def test_failing_26_limits_in_force_are_reported(autojump_clock: MockClock) -> None:
    """The limits equal the settings."""
    settings = Settings(
        ws_max_kafka_rate=7,
        ws_max_broadcast_rate=3,
        ws_max_connections=11,
        ws_max_subscriptions=13,
        ws_max_message_bytes=170,
        ws_send_queue_bytes=1900,
        ws_cpu_limit=2.5,
    )
    assert health_report(make_service(settings))["checks"]["limits"] == {
        "max_kafka_rate": 7,
        "max_broadcast_rate": 3,
        "max_connections": 11,
        "max_subscriptions": 13,
        "max_message_bytes": 170,
        "send_queue_bytes": 1900,
        "cpu_cores": 2.5,
    }


async def test_health_is_paced_only_while_the_rate_holds_records_back(
    autojump_clock: MockClock,
) -> None:
    """`paced` disappears once no record waits for WS_MAX_KAFKA_RATE."""
    async with running(rate=10) as (service, log):
        for _ in range(30):
            log.append("odin.trades", b"BTC", b"{}")
        await trio.sleep(1.05)
        assert health_report(service)["status"] == "degraded"
        await trio.sleep(5)
        log.append("odin.trades", b"BTC", b"{}")
        await wait_all_tasks_blocked()
        assert health_report(service)["status"] == "healthy"


async def test_disconnects_are_counted_by_reason(autojump_clock: MockClock) -> None:
    """With the labels of the metrics; slow clients have a count of their own."""
    service = make_service()
    service.server.stats.closed.update({DisconnectReason.SLOW: 2, DisconnectReason.CLIENT: 5})
    observability = health_report(service)["observability"]
    assert observability["disconnects"] == {
        "total": 7,
        "by_reason": {"slow": 2, "client_closed": 5},
    }
    assert observability["slow"] == {"disconnected": 2, "backlogged": 0}
    assert observability["send_queue"] == dict.fromkeys(
        ["samples", "avg", "p50", "p95", "p99", "max"], 0
    )


async def test_lag_and_lost_records_are_reported(autojump_clock: MockClock) -> None:
    """The figures are the source's."""
    service = make_service()
    service.source_status.lag = {"odin.trades": 5}
    service.source_status.lost_records = 3
    kafka = health_report(service)["checks"]["kafka"]
    assert (kafka["lag"], kafka["lost_records"]) == ({"odin.trades": 5}, 3)


async def test_uptime_counts_from_the_start(autojump_clock: MockClock) -> None:
    """The unit is seconds."""
    service = make_service()
    await trio.sleep(90)
    assert health_report(service)["uptime"] == 90


# ---- readiness


async def test_service_is_ready_from_the_first_live_feed_to_the_drain(
    autojump_clock: MockClock,
) -> None:
    """A lost broker does not end readiness, because other instances have lost it too."""
    service = make_service()
    ready = [service.ready]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.watch_source)
        for status in (SourceState.STALLED, SourceState.LIVE, SourceState.STALLED):
            service.source_status.transition(status)
            await wait_all_tasks_blocked()
            ready.append(service.ready)
    service.lifecycle.enter(ServiceState.DRAINING)
    ready.append(service.ready)
    assert ready == [False, False, True, True, False]


async def test_certificate_near_its_expiry_degrades_health(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """WS_TLS_EXPIRY_WARNING_DAYS before it; the service stays healthy."""
    authority = Authority(tmp_path)
    authority.issue(expires=datetime.now(UTC) + timedelta(days=5))
    settings = attrs.evolve(ROOMY, ws_tls_cert=authority.chain, ws_tls_key=authority.key)
    for days, status in [(4, "healthy"), (6, "degraded")]:
        chosen = attrs.evolve(settings, ws_tls_expiry_warning_days=days)
        async with running() as (service, _):
            service.certificate = read_certificate(chosen)
            report = health_report(service)
        assert (report["status"], report["healthy"]) == (status, True)
        warned = [line for line in report["warnings"] if line.startswith("tls: ")]
        assert bool(warned) == (status == "degraded")


async def test_feed_that_a_drain_has_ended_is_no_error(autojump_clock: MockClock) -> None:
    """The last seconds of a shutdown are degraded, as the first ones are."""
    async with running() as (service, _):
        service.lifecycle.enter(ServiceState.DRAINING)
        service.source_status.transition(SourceState.STALLED, "no answer")
        assert health_report(service)["status"] == "unhealthy"
        service.source_status.transition(SourceState.STOPPED)
        report = health_report(service)
    assert (report["status"], report["errors"]) == ("degraded", [])
    assert report["warnings"] == ["draining"]


async def test_records_that_wait_in_kafka_are_a_warning(autojump_clock: MockClock) -> None:
    """A live feed can be late: a slow broker, a rate, or a busy server."""
    async with running() as (service, _):
        service.source_status.behind_seconds = 29.9
        assert health_report(service)["status"] == "healthy"
        service.source_status.behind_seconds = 74.6
        report = health_report(service)
        service.source_status.transition(SourceState.STALLED, "no answer")
        assert health_report(service)["warnings"] == []
    assert (report["status"], report["errors"]) == ("degraded", [])
    assert report["warnings"] == ["kafka: records of 75 s ago have not been read yet"]
    assert report["checks"]["kafka"]["behind_seconds"] == 74.6
