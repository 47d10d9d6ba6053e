"""One run over three brokers: each fault in turn, and what it came to."""

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
from tests.chaos.cluster.stage import Size, Stage, open_stage, recovered
from tests.chaos.cluster.truth import Truth
from tests.integration.cluster import Cluster

__all__ = ["FULL", "SHORT", "Outcome", "Row", "run_course"]

FULL: Final = Size(clients=24, tokens=6, rate=100)
SHORT: Final = Size(clients=8, tokens=4, rate=40)

# Records for everybody after each fault, before the next one.
CALM_SECONDS: Final = 1.0

# Records shown of one client in the evidence; the counts are complete.
SHOWN: Final = 8


@attrs.frozen
class Row:
    """The outcome of one fault. `silence`: the longest of any client in this time, in seconds."""

    fault: Fault
    lasted: float
    caught_up: bool
    healthy: bool
    closes: int
    told: int
    silence: float


@attrs.frozen
class Outcome:
    """All of it. `problems`: evidence, for each client with something wrong."""

    rows: Sequence[Row]
    records: int
    clients: int
    expected: int
    counts: Mapping[str, int]
    problems: Sequence[str]

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not any(self.counts.values())


async def run_course(
    cluster: Cluster,
    faults: Sequence[Fault],
    size: Size,
    directory: Path,
    say: Callable[[str], None],
) -> Outcome:
    """Do all faults, with everything that is written in `directory`."""
    async with open_stage(cluster, size, directory, say) as stage:
        await trio.sleep(CALM_SECONDS)
        rows = []
        for fault in faults:
            say(f"{fault.name}: {fault.does}")
            row = await _strike(stage, fault)
            rows.append(row)
            say(
                f"    {row.lasted:.1f} s, {'' if row.caught_up else 'NOT '}caught up, "
                f"{'' if row.healthy else 'NOT '}healthy"
            )
        stage.publisher.paused.update(stage.topics)
        await stage.caught_up()
        say("reading the logs back")
        records = await trio.to_thread.run_sync(
            read_back, cluster.bootstrap, stage.topics, stage.truth
        )
        await stage.caught_up()
        say(f"judging: the logs have {records} records")
    return judge(stage.truth, stage.clients, rows)


async def _strike(stage: Stage, fault: Fault) -> Row:
    began = time.monotonic()
    closes, told = _count(stage, "closed"), _count(stage, "told")
    await fault.strike(stage)
    lasted = time.monotonic() - began
    await trio.sleep(CALM_SECONDS)
    caught_up, healthy = await stage.caught_up(), await recovered(stage)
    return Row(
        fault,
        lasted,
        caught_up,
        healthy,
        _count(stage, "closed") - closes,
        _count(stage, "told") - told,
        max(_silence(one, began) for one in stage.clients),
    )


def _count(stage: Stage, kind: str) -> int:
    return sum(one.count(kind) for one in stage.clients)


def _silence(notes: Notes, since: float) -> float:
    """The longest time between two messages of a client since then."""
    times = [since, *(when for when in notes.times if when > since), time.monotonic()]
    return max(after - before for before, after in pairwise(times))


def judge(truth: Truth, clients: Sequence[Notes], rows: Sequence[Row]) -> Outcome:
    """Hold what each client has against what was published."""
    counts: Counter[str] = Counter(
        dict.fromkeys(("missing", "untold", "given_up", "doubled", "disordered", "foreign"), 0)
    )
    problems, expected = [], 0
    for one in clients:
        verdict = truth.judge(one.seat.channels, one.numbers, one.told)
        wrong = verdict.counts
        wrong["errors"] = one.count("error")
        wrong["subscribed anew"] = one.subscribed - 1
        wrong["cut untold"] = int(_has_what_was_cut(truth, one) and not _told_of_a_cut(one))
        counts.update(wrong)
        expected += verdict.expected
        if any(wrong.values()):
            problems.append(_evidence(truth, one, verdict.missing, verdict.untold, wrong))
    counts["unexplained closes"] = sum(row.closes for row in rows if not row.fault.closes)
    counts["not caught up"] = sum(not row.caught_up for row in rows)
    counts["not healthy again"] = sum(not row.healthy for row in rows)
    return Outcome(rows, len(truth.entries), len(clients), expected, counts, problems)


def _has_what_was_cut(truth: Truth, notes: Notes) -> bool:
    """Whether a client got records that an unclean election has cut from the log."""
    return any(
        truth.entries[number].category == "cut" and not truth.entries[number].in_log
        for number in notes.numbers
        if number in truth.entries
    )


def _told_of_a_cut(notes: Notes) -> bool:
    return any(one.category == "cut" and one.reason == "truncated" for one in notes.told)


def _evidence(
    truth: Truth,
    notes: Notes,
    missing: Sequence[int],
    untold: Sequence[int],
    wrong: Mapping[str, int],
) -> str:
    lines = [
        f"{notes.seat.name} ({notes.seat.way}, {' '.join(notes.seat.channels)}): "
        + ", ".join(f"{name} {count}" for name, count in wrong.items() if count)
    ]
    for name, numbers in (("missing", missing), ("untold", untold)):
        for number in numbers[:SHOWN]:
            entry = truth.entries[number]
            where = f"{entry.category}/{entry.partition} {entry.offset}"
            lines.append(f"    {name}: record {number}, {where}")
    lines += [f"    {kind}: {detail}" for _, kind, detail in notes.events[-SHOWN:]]
    return "\n".join(lines)
