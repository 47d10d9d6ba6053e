"""Merges the console reports of several workers."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from odin_ws.ops.console.advice import advise
from odin_ws.workers.health import merge_clients, merge_health

__all__ = ["merge_samples", "merge_setup", "merge_state", "merge_tables"]

Report = dict[str, Any]
Rule = Callable[[Iterable[float]], float]

# Gauges merged by maximum instead of sum: every worker reads all partitions.
_WORST: Final = ("age_", "cpu_", "lag:", "loop_", "paced", "records_in:")

# A worker's value is used for less than 3 s, so a worker may miss a second or two.
_STALE_SECONDS: Final = 3

# The merged value is the first of these values that a worker has.
_STATES: Final = ("serving", "draining", "closing", "starting", "stopped")
_TOPIC_STATUS: Final = ("stopped", "starting", "stalled", "missing", "trouble", "live")
_FEED_STATUS: Final = ("stopped", "starting", "stalled", "live")


def merge_samples(workers: Sequence[Report], after: int) -> Report:
    """Merge samples after a time into one series, up to the last time of all running workers.

    Args:
        workers: the samples of each worker, in the form of `Series.after`.
        after: epoch seconds.
    """
    reporting = [worker for worker in workers if worker["t"]]
    if not reporting:
        return {"t": [], "gauges": {}, "counts": {}}
    newest = max(worker["t"][-1] for worker in reporting)
    until = min(
        worker["t"][-1] for worker in reporting if worker["t"][-1] > newest - _STALE_SECONDS
    )
    times = sorted({at for worker in reporting for at in worker["t"] if after < at <= until})
    return {
        "t": times,
        "gauges": _merged_columns(reporting, "gauges", times, _STALE_SECONDS),
        "counts": _merged_columns(reporting, "counts", times, 1),
    }


def _merged_columns(
    workers: Sequence[Report], kind: str, times: Sequence[int], stale: int
) -> dict[str, list[float | None]]:
    """Return the merged series of a kind.

    A worker without a value at a time counts with its previous value, if younger than `stale`
    seconds.
    """
    indexes = [_indexes(worker["t"], times, stale) for worker in workers]
    merged = {}
    for name in dict.fromkeys(name for worker in workers for name in worker[kind]):
        columns = [
            [None if index is None else worker[kind][name][index] for index in its]
            for worker, its in zip(workers, indexes, strict=True)
            if name in worker[kind]
        ]
        rule: Rule = max if name.startswith(_WORST) else sum
        merged[name] = [_combined(rule, row) for row in zip(*columns, strict=True)]
    return merged


def _indexes(own: Sequence[int], times: Sequence[int], stale: int) -> list[int | None]:
    """Return for each time the index of the last own time less than `stale` seconds before.

    The index is None without such a time.
    """
    found = ((bisect_right(own, at) - 1, at) for at in times)
    return [index if index >= 0 and at - own[index] < stale else None for index, at in found]


def _combined(rule: Rule, row: Iterable[float | None]) -> float | None:
    known = [value for value in row if value is not None]
    return rule(known) if known else None


def merge_setup(setups: Sequence[Report]) -> Report:
    """Return the values common to all workers, and the sums of their limits."""
    first = setups[0]
    tokens = dict.fromkeys(token for setup in setups for token in setup["tokens"])
    added = {
        name: sum(setup["limits"][name] for setup in setups)
        for name in ("connections", "memory_bytes")
    }
    return {
        **first,
        "started": min(setup["started"] for setup in setups),
        "tokens": list(tokens),
        "limits": first["limits"] | added,
    }


def merge_state(states: Mapping[int, Report], missing: Mapping[int, str]) -> Report:
    """Merge states into one of the same form.

    Args:
        states: the state of each worker, by number.
        missing: the reason for each missing state.
    """
    health = merge_health({number: state["health"] for number, state in states.items()}, missing)
    reports = list(states.values())
    return {
        "now": max((report["now"] for report in reports), default=0),
        "state": _first_of(_STATES, [report["state"] for report in reports]),
        "not_ready": _not_ready(states),
        "drain": _merge_drains([report["drain"] for report in reports if report["drain"]]),
        "feed": min(
            (report["feed"] for report in reports),
            key=lambda feed: _FEED_STATUS.index(feed["status"]),
            default=None,
        ),
        "topics": [_merge_topic(rows) for rows in zip(*_topics(reports), strict=True)],
        "health": health,
        "advice": advise(health["errors"], health["warnings"]),
    }


def _topics(states: Sequence[Report]) -> list[list[Report]]:
    return [state["topics"] for state in states]


def _not_ready(states: Mapping[int, Report]) -> str | None:
    """Return why no worker is ready; None if one is ready."""
    why = [f"worker {number}: {state['not_ready']}" for number, state in states.items()]
    ready = any(state["not_ready"] is None for state in states.values())
    return None if ready else "; ".join(why) or "no worker answers"


def _merge_drains(drains: Sequence[Report]) -> Report | None:
    if not drains:
        return None
    rules: dict[str, Rule] = {"begun_with": sum, "left": sum}
    return {name: rules.get(name, max)([drain[name] for drain in drains]) for name in drains[0]}


def _merge_topic(rows: Sequence[Report]) -> Report:
    lags = [row["lag"] for row in rows if row["lag"] is not None]
    return rows[0] | {
        "status": _first_of(_TOPIC_STATUS, [row["status"] for row in rows]),
        "partitions": max(row["partitions"] for row in rows),
        "lag": max(lags, default=None),
        "problems": max((row["problems"] for row in rows), key=len),
    }


def _first_of(order: Sequence[str], found: Sequence[str]) -> str:
    """Return the first value of `order` that is in `found`; the first of `order` if none is."""
    return next((value for value in order if value in found), order[0])


def merge_tables(tables: Mapping[int, Report], rows: int) -> Report:
    """Return the first rows of all tables, added up by name."""
    reports = list(tables.values())
    channels = [report["channels"] for report in reports]
    return {
        "clients": merge_clients(
            {number: table["clients"] for number, table in tables.items()}, rows
        ),
        "channels": {
            "seconds": max((table["seconds"] for table in channels), default=0),
            "messages": max((table["messages"] for table in channels), default=0),
            "rows": _merge_channels([row for table in channels for row in table["rows"]], rows),
        },
        "patterns": _merge_patterns(
            [row for report in reports for row in report["patterns"]], rows
        ),
        "counts": _added([report["counts"] for report in reports]),
    }


def _merge_channels(found: Sequence[Report], rows: int) -> list[Report]:
    """Return the first rows of all channels, busiest first.

    Subscribers are summed. Rates are merged by maximum: each worker reads all messages.
    """
    merged: dict[str, Report] = {}
    for row in found:
        known = merged.setdefault(row["channel"], row | {"subscribers": 0})
        known["subscribers"] += row["subscribers"]
        for rate in ("messages_per_second", "bytes_per_second"):
            known[rate] = max(known[rate], row[rate])
    return sorted(merged.values(), key=lambda row: -row["messages_per_second"])[:rows]


def _merge_patterns(found: Sequence[Report], rows: int) -> list[Report]:
    counts: Counter[str] = Counter()
    for row in found:
        counts[row["pattern"]] += row["subscribers"]
    return [
        {"pattern": pattern, "subscribers": count} for pattern, count in counts.most_common(rows)
    ]


def _added(counts: Sequence[Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, int]]:
    """Return counts by label, added up within each kind."""
    added: dict[str, Counter[str]] = {}
    for by_kind in counts:
        for kind, by_label in by_kind.items():
            added.setdefault(kind, Counter()).update(by_label)
    return {kind: dict(counter) for kind, counter in added.items()}
