"""The merged health report of several workers."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.assembly import Upstream, build
from odin_ws.canary.steps import Step
from odin_ws.catalogue import default_catalogue
from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.kafka.source_status import SourceState
from odin_ws.ops.health import health_report
from odin_ws.settings import Settings
from odin_ws.testing.memory_log import MemoryLog, MemorySource
from odin_ws.testing.memory_log_reader import MemoryLogReader
from odin_ws.workers.health import RULES, merge_clients, merge_health


def report(**kafka: Any) -> dict[str, Any]:
    """Return the report of a worker of two, with every optional field."""
    catalogue = default_catalogue()
    log = MemoryLog(catalogue.topics)
    settings = Settings(
        ws_max_connections=50, ws_cpu_limit=4, ws_memory_limit=1 << 50, ws_workers=2
    )
    service = build(settings, catalogue, Upstream(MemorySource(log), MemoryLogReader(log)))
    service.server.stats.closed[DisconnectReason.SLOW] += 2
    service.canary.seconds[Step.UPGRADE] = 0.002
    service.source_status.lag = dict.fromkeys(catalogue.topics, 3)
    made = health_report(service)
    made["checks"]["kafka"] |= {"status": "running", "healthy": True, "feed": "live"} | kafka
    made |= {"status": "healthy", "healthy": True, "errors": [], "warnings": []}
    return made


def leaves(tree: dict[str, Any], way: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Return the paths of all values."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, (*way, name))
        else:
            yield (*way, name)


def names(way: tuple[str, ...]) -> set[str]:
    """Return the names under which a value may have its rule."""
    return {".".join(way), ".".join((*way[:-1], "*"))}


async def test_every_value_of_a_report_has_a_rule() -> None:
    """Every rule belongs to a value that still exists."""
    one = report()
    ways = [way for part in ("checks", "observability") for way in leaves({part: one[part]})]
    assert [way for way in ways if not names(way) & RULES.keys()] == []
    assert set().union(*map(names, ways)) >= RULES.keys()


async def test_healthy_workers_are_a_healthy_instance() -> None:
    """The form is that of one worker, the limits are those of all."""
    one = report()
    merged = merge_health({1: one, 2: copy.deepcopy(one)}, {})
    assert (merged["status"], merged["healthy"]) == ("healthy", True)
    assert set(leaves({"checks": merged["checks"]})) == set(leaves({"checks": one["checks"]}))
    assert merged["checks"]["capacity"]["max"] == 100
    assert merged["checks"]["limits"]["max_connections"] == 100
    assert merged["checks"]["limits"]["cpu_cores"] == 4
    assert (
        merged["checks"]["limits"]["send_queue_bytes"]
        == one["checks"]["limits"]["send_queue_bytes"]
    )
    assert merged["checks"]["memory"]["limit_mb"] == pytest.approx((1 << 50) / (1 << 20))
    assert merged["observability"]["disconnects"] == {"total": 4, "by_reason": {"slow": 4}}
    assert merged["checks"]["kafka"]["lag"]["odin.trades"] == 3


async def test_one_worker_without_kafka_makes_the_instance_unhealthy() -> None:
    """The error names the worker."""
    ill = report(status="stopped", healthy=False, feed="stalled")
    ill |= {"status": "unhealthy", "healthy": False, "errors": ["kafka: stalled for 7 s: away"]}
    merged = merge_health({1: report(), 2: ill}, {})
    assert (merged["status"], merged["healthy"]) == ("unhealthy", False)
    assert merged["errors"] == ["worker 2: kafka: stalled for 7 s: away"]
    kafka = merged["checks"]["kafka"]
    assert (kafka["status"], kafka["healthy"], kafka["feed"]) == ("stopped", False, "stalled")


def starting(uptime: float) -> dict[str, Any]:
    """Return the report of a worker that reads its history."""
    found = report(status="stopped", healthy=False, feed="starting")
    error = "kafka: starting for 2 s: reading records from before the start"
    return found | {
        "status": "unhealthy",
        "healthy": False,
        "errors": [error],
        "warnings": [],
        "uptime": uptime,
    }


async def test_starting_worker_beside_a_live_one_degrades() -> None:
    """A replaced worker is no reason for 503: the others serve, and it soon will."""
    merged = merge_health({1: starting(2.5), 2: report()}, {})
    assert (merged["status"], merged["healthy"], merged["errors"]) == ("degraded", True, [])
    assert merged["warnings"] == [
        "worker 1: kafka: starting for 2 s: reading records from before the start"
    ]
    kafka = merged["checks"]["kafka"]
    assert (kafka["status"], kafka["healthy"], kafka["feed"]) == ("running", True, "live")


async def test_worker_that_does_not_end_its_start_is_unhealthy() -> None:
    """Its clients get no messages."""
    merged = merge_health({1: starting(30), 2: report()}, {})
    assert (merged["status"], merged["healthy"]) == ("unhealthy", False)
    assert merged["checks"]["kafka"]["feed"] == "starting"


async def test_first_start_is_unhealthy_until_one_worker_is_live() -> None:
    """Nobody is served yet."""
    merged = merge_health({1: starting(1), 2: starting(2)}, {})
    assert (merged["status"], merged["healthy"]) == ("unhealthy", False)
    assert len(merged["errors"]) == 2


@pytest.mark.parametrize("feed", SourceState)
async def test_feed_of_every_state_can_be_merged(feed: SourceState) -> None:
    """In a drain one worker's feed has stopped while another one's is still live."""
    merged = merge_health({1: report(), 2: report(feed=feed.value) | {"uptime": 60}}, {})
    assert merged["checks"]["kafka"]["feed"] == feed.value


async def test_warning_of_one_worker_degrades() -> None:
    """The warning names the worker."""
    warned = report() | {"status": "degraded", "warnings": ["cpu: 95%"]}
    merged = merge_health({1: warned, 2: report()}, {})
    assert (merged["status"], merged["healthy"]) == ("degraded", True)
    assert merged["warnings"] == ["worker 1: cpu: 95%"]


async def test_missing_worker_degrades() -> None:
    """The instance is healthy, because other workers serve its clients."""
    merged = merge_health({1: report()}, {2: "is being replaced"})
    assert (merged["status"], merged["healthy"]) == ("degraded", True)
    assert merged["warnings"] == ["worker 2: is being replaced"]
    assert merged["checks"]["capacity"]["max"] == 50


def test_without_any_worker_the_report_is_unhealthy() -> None:
    """The instance serves no client."""
    merged = merge_health({}, {1: "does not respond", 2: "is being replaced"})
    assert (merged["status"], merged["healthy"]) == ("unhealthy", False)
    assert merged["errors"] == ["worker 1: does not respond", "worker 2: is being replaced"]
    assert merged["warnings"] == []


backlogs = st.lists(st.lists(st.integers(0, 100), max_size=8), min_size=1, max_size=4)


@given(backlogs, st.integers(1, 10))
def test_clients_are_merged_by_backlog(parts: list[list[int]], limit: int) -> None:
    """Up to the limit; each row names the worker."""
    pages = {number: page(sorted(part, reverse=True)) for number, part in enumerate(parts, 1)}
    merged = merge_clients(pages, limit)
    everybody = sorted((backlog for part in parts for backlog in part), reverse=True)
    assert [client["backlog_bytes"] for client in merged["clients"]] == everybody[:limit]
    assert merged["totals"] == {"connections": len(everybody), "backlog_bytes": sum(everybody)}
    for one in merged["clients"]:
        assert one["backlog_bytes"] in parts[one["worker"] - 1]


def page(part: list[int]) -> dict[str, Any]:
    """Return a worker's page of clients with these backlogs."""
    clients = [{"backlog_bytes": one, "connected_seconds": 1.0} for one in part]
    return {
        "totals": {"connections": len(part), "backlog_bytes": sum(part)},
        "clients": clients,
    }
