"""One run over three brokers: each fault in turn, and the comparison at the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import attrs
import trio

from tests.chaos.cluster.clients import Notes
from tests.chaos.cluster.faults import Fault
from tests.chaos.cluster.publisher import read_back
from tests.chaos.cluster.testbed import Size, Testbed, open_testbed, recovered
from tests.chaos.cluster.truth import Truth, Verdict
from tests.integration.cluster import Cluster

__all__ = ["FULL", "SHORT", "Outcome", "Row", "run_faults"]

FULL: Final = Size(clients=24, tokens=6, rate=100)
SHORT: Final = Size(clients=8, tokens=4, rate=40)

# Seconds after each fault in which every client receives records, before the next fault.
RECOVERY_SECONDS: Final = 1.0

# Maximum number of records shown per client in the evidence; the counts include all.
SHOWN: Final = 8


@attrs.frozen
class Row:
    """The outcome of one fault."""

    fault: Fault
    lasted: float
    """The duration of the fault in seconds."""
    caught_up: bool
    """Whether all clients had all records in time."""
    healthy: bool
    """Whether all instances reported `healthy` in time."""
    closes: int
    """The number of closed connections."""
    reported: int
    """The number of reported losses."""
    silence: float
    """The longest silence of any client in seconds, during the fault and the recovery."""


@attrs.frozen
class Outcome:
    """The outcome of a run."""

    rows: Sequence[Row]
    records: int
    clients: int
    expected: int
    counts: Mapping[str, int]
    """The number of errors by kind."""
    problems: Sequence[str]
    """Evidence for each client with an error."""

    @property
    def good(self) -> bool:
        """Whether every count is zero."""
        return not any(self.counts.values())


async def run_faults(
    cluster: Cluster,
    faults: Sequence[Fault],
    size: Size,
    directory: Path,
    announce: Callable[[str], None],
) -> Outcome:
    """Inject all faults and return the outcome; write all files to `directory`."""
    async with open_testbed(cluster, size, directory, announce) as testbed:
        await trio.sleep(RECOVERY_SECONDS)
        rows = []
        for fault in faults:
            announce(f"{fault.name}: {fault.does}")
            row = await _inject(testbed, fault)
            rows.append(row)
            announce(
                f"    {row.lasted:.1f} s, {'' if row.caught_up else 'NOT '}caught up, "
                f"{'' if row.healthy else 'NOT '}healthy"
            )
        testbed.publisher.paused.update(testbed.topics)
        await testbed.caught_up()
        announce("reading the logs back")
        records = await trio.to_thread.run_sync(
            read_back, cluster.bootstrap, testbed.topics, testbed.truth
        )
        await testbed.caught_up()
        announce(f"comparing: the logs have {records} records")
    return compare(testbed.truth, testbed.clients, rows)


async def _inject(testbed: Testbed, fault: Fault) -> Row:
    began = time.monotonic()
    closes, reported = _count(testbed, "closed"), _count(testbed, "reported")
    await fault.inject(testbed)
    lasted = time.monotonic() - began
    await trio.sleep(RECOVERY_SECONDS)
    caught_up, healthy = await testbed.caught_up(), await recovered(testbed)
    return Row(
        fault,
        lasted,
        caught_up,
        healthy,
        _count(testbed, "closed") - closes,
        _count(testbed, "reported") - reported,
        max(_silence(client, began) for client in testbed.clients),
    )


def _count(testbed: Testbed, kind: str) -> int:
    return sum(client.count(kind) for client in testbed.clients)


def _silence(notes: Notes, since: float) -> float:
    """Return the longest time between two messages of a client since `since`, in seconds."""
    times = [since, *(when for when in notes.times if when > since), time.monotonic()]
    return max(after - before for before, after in pairwise(times))


def compare(truth: Truth, clients: Sequence[Notes], rows: Sequence[Row]) -> Outcome:
    """Compare the records of each client with those published."""
    counts: Counter[str] = Counter(
        dict.fromkeys(("missing", "unreported", "given_up", "doubled", "disordered", "foreign"), 0)
    )
    problems, expected = [], 0
    for client in clients:
        verdict = truth.compare(client.spec.channels, client.numbers, client.reported)
        wrong = verdict.counts
        wrong["errors"] = client.count("error")
        wrong["subscribed anew"] = client.subscribed - 1
        wrong["truncation unreported"] = int(
            _has_truncated_record(truth, client) and not _has_truncation_report(client)
        )
        counts.update(wrong)
        expected += verdict.expected
        if any(wrong.values()):
            problems.append(_evidence(truth, client, verdict, wrong))
    counts["unexplained closes"] = sum(row.closes for row in rows if not row.fault.closes)
    counts["not caught up"] = sum(not row.caught_up for row in rows)
    counts["not healthy again"] = sum(not row.healthy for row in rows)
    return Outcome(rows, len(truth.entries), len(clients), expected, counts, problems)


def _has_truncated_record(truth: Truth, notes: Notes) -> bool:
    """Return whether a client has records that an unclean election removed from the log."""
    return any(
        truth.entries[number].category == "cut" and not truth.entries[number].in_log
        for number in notes.numbers
        if number in truth.entries
    )


def _has_truncation_report(notes: Notes) -> bool:
    return any(one.category == "cut" and one.reason == "truncated" for one in notes.reported)


def _evidence(
    truth: Truth,
    notes: Notes,
    verdict: Verdict,
    wrong: Mapping[str, int],
) -> str:
    lines = [
        f"{notes.spec.name} ({notes.spec.kind}, {' '.join(notes.spec.channels)}): "
        + ", ".join(f"{name} {count}" for name, count in wrong.items() if count)
    ]
    for name in ("missing", "unreported", "doubled"):
        for number in getattr(verdict, name)[:SHOWN]:
            entry = truth.entries[number]
            where = f"{entry.category}/{entry.partition} {entry.offset}"
            lines.append(f"    {name}: record {number}, {where}, {entry.copies} in the log")
    lines += [f"    {kind}: {detail}" for _, kind, detail in notes.events[-SHOWN:]]
    return "\n".join(lines)
