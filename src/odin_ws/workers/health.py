"""Merges the health reports and client lists of workers."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, Final

from odin_ws import __version__

__all__ = ["RULES", "merge_clients", "merge_health"]

Report = dict[str, Any]


def _same(values: Sequence[Any]) -> Any:
    """All have the same: it is a setting of all."""
    return values[0]


def _mean(values: Sequence[float | None]) -> float | None:
    """Of those that are known; None if none is."""
    known = [value for value in values if value is not None]
    return round(fmean(known), 1) if known else None


def _sum(values: Sequence[float | None]) -> float | None:
    """None if one of them is unknown."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _worst(*worst_first: str) -> Callable[[Sequence[str]], str]:
    return lambda values: min(values, key=worst_first.index)


def _longest(values: Sequence[list[Any]]) -> list[Any]:
    """All read the same partitions; one that has just started may not know of all yet."""
    return max(values, key=len)


# What the workers' values are together, by the way to them; `*` stands for any name. Quantiles
# cannot be added up: they are those of the worker where they are highest.
RULES: Final[Mapping[str, Callable[[Sequence[Any]], Any]]] = {
    "checks.kafka.status": _worst("stopped", "running"),
    "checks.kafka.healthy": all,
    "checks.kafka.feed": _worst("starting", "stalled", "live"),
    "checks.kafka.paced": any,
    "checks.kafka.lag.*": max,
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
    """One report, in the form of each.

    Args:
        reports: those that there are, by the worker's number.
        missing: why there is none of the others.
    """
    errors = _told(reports, "errors")
    warnings = _told(reports, "warnings")
    if not reports:
        errors = [f"worker {number}: {why}" for number, why in missing.items()]
    else:
        # Its clients have gone to the others.
        warnings += [f"worker {number}: {why}" for number, why in missing.items()]
    merged: Report = {
        "status": "unhealthy" if errors else "degraded" if warnings else "healthy",
        "healthy": not errors,
        "version": __version__,
    }
    merged |= _merge([_checked(report) for report in reports.values()], "")
    merged |= {"warnings": warnings, "errors": errors}
    return merged


def merge_clients(pages: Mapping[int, Report], limit: int) -> Report:
    """The clients of all, those with the most bytes waiting first; each tells its worker."""
    clients = [
        {"worker": number, **client} for number, page in pages.items() for client in page["clients"]
    ]
    maximum = heapq.nlargest(
        limit, clients, key=lambda one: (one["backlog_bytes"], one["connected_seconds"])
    )
    names = [name for page in pages.values() for name in page["totals"]]
    totals = {name: sum(page["totals"][name] for page in pages.values()) for name in names}
    return {"totals": totals, "clients": maximum}


def _checked(report: Report) -> Report:
    return {name: report[name] for name in ("checks", "observability")}


def _told(reports: Mapping[int, Report], what: str) -> list[str]:
    return [f"worker {number}: {line}" for number, one in reports.items() for line in one[what]]


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
    """Every name once, in the order of the first tree that has it."""
    return iter(dict.fromkeys(name for tree in trees for name in tree))


def _rule(way: str, name: str) -> Callable[[Sequence[Any]], Any]:
    """Raises KeyError where there is none."""
    exact = RULES.get(f"{way}.{name}")
    return exact if exact is not None else RULES[f"{way}.*"]
