"""Merges the health reports and client lists of workers."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, Final

from odin_ws import __version__

__all__ = ["RULES", "merge_clients", "merge_health"]

Report = dict[str, Any]

# A replaced worker reads its history for some seconds before its feed is live. After this time its
# clients are left without messages for longer than by a crash.
_START_SECONDS: Final = 30.0

# The fields of `checks.kafka` that describe the feed.
_FEED: Final = frozenset({"status", "healthy", "feed"})


def _same(values: Sequence[Any]) -> Any:
    """Return the value of a setting, which is equal in all workers."""
    return values[0]


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of known values; None without known values."""
    known = [value for value in values if value is not None]
    return round(fmean(known), 1) if known else None


def _sum(values: Sequence[float | None]) -> float | None:
    """Return the sum; None if one value is unknown."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _worst(*worst_first: str) -> Callable[[Sequence[str]], str]:
    return lambda values: min(values, key=worst_first.index)


def _longest(values: Sequence[list[Any]]) -> list[Any]:
    """Return the longest list: a new worker may not know all partitions yet."""
    return max(values, key=len)


# The merge rule of each value, by its path; `*` stands for any name. Quantiles cannot be added: the
# rule is the maximum.
RULES: Final[Mapping[str, Callable[[Sequence[Any]], Any]]] = {
    "checks.kafka.status": _worst("stopped", "running"),
    "checks.kafka.healthy": all,
    "checks.kafka.feed": _worst("stopped", "starting", "stalled", "live"),
    "checks.kafka.paced": any,
    "checks.kafka.lag.*": max,
    "checks.kafka.behind_seconds": max,
    "checks.kafka.lost_records": max,
    "checks.kafka.problems": _longest,
    "checks.kafka.partitions.*": _longest,
    "checks.capacity.current": sum,
    "checks.capacity.max": sum,
    "checks.capacity.percentage": _mean,
    "checks.capacity.healthy": all,
    "checks.canary.tries": sum,
    "checks.canary.failures": sum,
    "checks.canary.healthy": all,
    "checks.canary.milliseconds.*": max,
    "checks.history.*": max,
    "checks.replays.active": sum,
    "checks.tasks.current": sum,
    "checks.memory.used_mb": _sum,
    "checks.memory.limit_mb": sum,
    "checks.memory.percentage": _mean,
    "checks.memory.healthy": all,
    "checks.cpu.percentage": max,
    "checks.cpu.threshold": _same,
    "checks.cpu.healthy": all,
    "checks.limits.max_connections": sum,
    "checks.limits.cpu_cores": sum,
    "checks.limits.*": _same,
    "observability.disconnects.total": sum,
    "observability.disconnects.by_reason.*": sum,
    "observability.slow.*": sum,
    "observability.send_queue.samples": sum,
    "observability.send_queue.*": max,
}


def merge_health(reports: Mapping[int, Report], missing: Mapping[int, str]) -> Report:
    """Merge reports into one of the same form.

    Args:
        reports: the report of each worker, by number.
        missing: the reason for each missing report.
    """
    starting = _starting(reports)
    serving = {number: report for number, report in reports.items() if number not in starting}
    errors = _labelled(serving, "errors")
    warnings = _labelled(reports, "warnings") + _labelled(starting, "errors")
    if not reports:
        errors = [f"worker {number}: {why}" for number, why in missing.items()]
    else:
        # The clients of a missing worker have reconnected to other workers.
        warnings += [f"worker {number}: {why}" for number, why in missing.items()]
    merged: Report = {
        "status": "unhealthy" if errors else "degraded" if warnings else "healthy",
        "healthy": not errors,
        "version": __version__,
    }
    merged |= _merge(
        [_checked(report, number in starting) for number, report in reports.items()], ""
    )
    merged |= {"warnings": warnings, "errors": errors}
    return merged


def merge_clients(pages: Mapping[int, Report], limit: int) -> Report:
    """Merge client lists, most queued bytes first; each client has its worker's number."""
    clients = [
        {"worker": number, **client} for number, page in pages.items() for client in page["clients"]
    ]
    maximum = heapq.nlargest(
        limit, clients, key=lambda client: (client["backlog_bytes"], client["connected_seconds"])
    )
    names = [name for page in pages.values() for name in page["totals"]]
    totals = {name: sum(page["totals"][name] for page in pages.values()) for name in names}
    return {"totals": totals, "clients": maximum}


def _starting(reports: Mapping[int, Report]) -> dict[int, Report]:
    """Return the reports of workers that start while the feed of another one is live."""
    if not any(report["checks"]["kafka"]["healthy"] for report in reports.values()):
        return {}
    return {
        number: report
        for number, report in reports.items()
        if report["checks"]["kafka"]["feed"] == "starting" and report["uptime"] < _START_SECONDS
    }


def _checked(report: Report, is_starting: bool) -> Report:  # noqa: FBT001 -- private
    """Return the parts to merge; a starting worker does not say how the feed is."""
    checks = report["checks"]
    if is_starting:
        kafka = {name: value for name, value in checks["kafka"].items() if name not in _FEED}
        checks = checks | {"kafka": kafka}
    return {"checks": checks, "observability": report["observability"]}


def _labelled(reports: Mapping[int, Report], what: str) -> list[str]:
    return [
        f"worker {number}: {line}" for number, report in reports.items() for line in report[what]
    ]


def _merge(trees: Sequence[Report], way: str) -> Report:
    merged: Report = {}
    for name in _names(trees):
        values = [tree[name] for tree in trees if name in tree]
        here = f"{way}.{name}" if way else name
        merged[name] = (
            _merge(values, here) if isinstance(values[0], dict) else _rule(way, name)(values)
        )
    return merged


def _names(trees: Sequence[Report]) -> Iterator[str]:
    """Return every name once, in the order of the first tree that has it."""
    return iter(dict.fromkeys(name for tree in trees for name in tree))


def _rule(way: str, name: str) -> Callable[[Sequence[Any]], Any]:
    """Return the rule for a path. Raises KeyError if there is none."""
    exact = RULES.get(f"{way}.{name}")
    return exact if exact is not None else RULES[f"{way}.*"]
