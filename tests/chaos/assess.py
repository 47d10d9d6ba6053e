"""The assessment of a run: losses, closes without a cause, silences. No I/O, no clock."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

import attrs

from tests.chaos.journal import Event, Journal
from tests.chaos.ledger import Ledger, Verdict, longest_silence, quantile
from tests.chaos.plan import Seat

__all__ = ["Assessment", "Row", "Window", "assess"]

# Events shown of one client; the counts are complete.
EVENTS_SHOWN: Final = 12


@attrs.frozen
class Window:
    """A stretch of the run: a fault and the calm after it. Times are monotonic seconds.

    `struck`: how long the fault itself lasted. `codes`, `most`: the closes that it explains, and
    how many. `skipped`: why there was no fault.
    """

    fault: str
    does: str
    began: float
    until: float
    struck: float = 0
    codes: frozenset[int] = frozenset()
    most: float = 0
    skipped: str = ""


@attrs.frozen
class Row:
    """One window in figures. `silences`: the longest of each client, in seconds."""

    window: Window
    closes: Mapping[int, int]
    unexplained: int
    replayed: int
    silences: Sequence[float]

    def silence(self, share: float) -> float:
        """The longest silence of the client at this share of them; 1 for the worst."""
        return quantile(self.silences, share)


@attrs.frozen
class Assessment:
    """All of it. `problems`: evidence, a line for each client with something wrong."""

    rows: Sequence[Row]
    clients: int
    records: int
    expected: int
    counts: Mapping[str, int]
    problems: Sequence[str]

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not any(self.counts.values())


def assess(
    ledger: Ledger, windows: Sequence[Window], seats: Sequence[Seat], journals: Sequence[Journal]
) -> Assessment:
    """Hold every journal against the ledger, and every close against the faults."""
    chosen = {seat.name: seat for seat in seats}
    rows = [_row(window, journals) for window in windows if not window.skipped]
    counts: Counter[str] = Counter(
        {"missing": 0, "duplicated": 0, "out of order": 0, "not asked for": 0}
    )
    counts["unexplained closes"] = sum(row.unexplained for row in rows) + _outside(rows, journals)
    problems: list[str] = []
    expected = 0
    for journal in journals:
        seat = chosen[journal.name]
        verdict = ledger.judge(seat.channels, journal.start or {}, journal.positions)
        expected += verdict.expected
        wrong = _wrong(journal, verdict)
        counts.update(wrong)
        if any(wrong.values()):
            problems.append(_evidence(ledger, windows, seat, journal, verdict))
    problems.extend(_strange_closes(windows, journals))
    return Assessment(rows, len(journals), len(ledger), expected, counts, problems)


def _wrong(journal: Journal, verdict: Verdict) -> Counter[str]:
    return Counter(
        {
            "missing": len(verdict.missing),
            # Records that the library drops as duplicates were sent twice by its server.
            "duplicated": len(verdict.duplicated) + journal.told.get("duplicates", 0),
            "out of order": len(verdict.disordered),
            "not asked for": len(verdict.foreign),
            "gaps told by the library": journal.told.get("gaps", 0),
            "not recovered": sum(not e.detail["recovered"] for e in journal.of("resumed")),
            "never subscribed": int(journal.start is None),
            "subscribed anew": max(0, sum(1 for _ in journal.of("subscribed")) - 1),
            "errors": sum(1 for _ in journal.of("error")),
        }
    )


def _row(window: Window, journals: Sequence[Journal]) -> Row:
    closes = Counter(
        event.detail["code"]
        for journal in journals
        for event in journal.of("closed")
        if window.began <= event.when < window.until
    )
    explained = sum(count for code, count in closes.items() if code in window.codes)
    strange = closes.total() - explained
    return Row(
        window=window,
        closes=closes,
        unexplained=strange + max(0, explained - math.floor(window.most)),
        replayed=sum(
            window.began <= when < window.until for journal in journals for when in journal.replays
        ),
        silences=[
            longest_silence(journal.times, window.began, window.until) for journal in journals
        ],
    )


def _outside(rows: Sequence[Row], journals: Sequence[Journal]) -> int:
    """Closes of no window: while clients arrived, or after the last fault."""
    closes = sum(1 for journal in journals for _ in journal.of("closed"))
    return closes - sum(sum(row.closes.values()) for row in rows)


def _evidence(
    ledger: Ledger, windows: Sequence[Window], seat: Seat, journal: Journal, verdict: Verdict
) -> str:
    lines = [
        f"{seat.name} ({seat.way}, {' '.join(seat.channels)}, {seat.url}): "
        + ", ".join(f"{name} {count}" for name, count in _wrong(journal, verdict).items() if count)
    ]
    for name, positions in (
        ("missing", verdict.missing),
        ("duplicated", sorted(verdict.duplicated)),
        ("out of order", verdict.disordered),
        ("not asked for", verdict.foreign),
    ):
        for first, last, count in _ranges(positions):
            where = ledger.named(first)
            when = ledger.published(first) if first in ledger else None
            at = "not in the log" if when is None else f"published {_at(windows, when)}"
            lines.append(
                f"    {name}: {where.topic}/{where.partition} {where.offset}"
                f"..{ledger.named(last).offset} ({count}), {at}"
            )
    lines += [f"    {_at(windows, e.when)}: {e.kind} {_shown(e)}" for e in _told(journal)]
    return "\n".join(lines)


def _told(journal: Journal) -> list[Event]:
    return journal.events[-EVENTS_SHOWN:]


def _shown(event: Event) -> str:
    """The detail in short: positions of a subscription would fill the screen."""
    return " ".join(f"{k}={v}" for k, v in event.detail.items() if k != "positions")


def _strange_closes(windows: Sequence[Window], journals: Sequence[Journal]) -> Iterator[str]:
    for journal in journals:
        for event in journal.of("closed"):
            window = next((w for w in windows if w.began <= event.when < w.until), None)
            if window is None or event.detail["code"] not in window.codes:
                yield f"{journal.name}: closed {_at(windows, event.when)}: {_shown(event)}"


def _ranges(positions: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Positions of one partition as first, last and count; it need not be every offset between."""
    if not positions:
        return
    first, count = positions[0], 1
    for before, after in pairwise(positions):
        if before >> 40 != after >> 40:
            yield first, before, count
            first, count = after, 0
        count += 1
    yield first, positions[-1], count


def _at(windows: Sequence[Window], when: float) -> str:
    for window in windows:
        if window.began <= when < window.until:
            return f"{when - window.began:.2f} s into '{window.fault}'"
    return "outside of all faults"
