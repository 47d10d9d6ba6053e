"""The assessment of a run: losses, unexplained closes, silences. No I/O, no clock."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

import attrs

from tests.chaos.journal import Event, Journal
from tests.chaos.ledger import Ledger, Verdict, longest_silence, quantile
from tests.chaos.plan import ClientSpec

__all__ = ["Assessment", "Row", "Window", "assess"]

# Maximum number of events shown per client; the counts include all.
EVENTS_SHOWN: Final = 12


@attrs.frozen
class Window:
    """An interval of the run: a fault and the recovery after the fault."""

    fault: str
    does: str
    """The description of the fault."""
    began: float
    """The start, in monotonic seconds."""
    until: float
    """The end, in monotonic seconds."""
    fault_seconds: float = 0
    """The duration of the fault itself in seconds."""
    codes: frozenset[int] = frozenset()
    """The codes of closes explained by the fault."""
    maximum: float = 0
    """The maximum number of explained closes."""
    skipped: str = ""
    """Why the fault was not injected; empty if it was."""


@attrs.frozen
class Row:
    """The figures of one window."""

    window: Window
    closes: Mapping[int, int]
    """The number of closes by code."""
    unexplained: int
    """The number of closes not explained by the fault."""
    replayed: int
    """The number of replayed messages."""
    silences: Sequence[float]
    """The longest silence of each client in seconds."""

    def silence(self, share: float) -> float:
        """Return this quantile of the clients' longest silences; 1 for the longest of all."""
        return quantile(self.silences, share)


@attrs.frozen
class Assessment:
    """The figures of a run."""

    rows: Sequence[Row]
    clients: int
    records: int
    expected: int
    counts: Mapping[str, int]
    """The number of errors by kind."""
    problems: Sequence[str]
    """Evidence for each client with an error."""

    @property
    def good(self) -> bool:
        """Whether every count is zero."""
        return not any(self.counts.values())


def assess(
    ledger: Ledger,
    windows: Sequence[Window],
    specs: Sequence[ClientSpec],
    journals: Sequence[Journal],
) -> Assessment:
    """Return the assessment: each journal compared with the ledger, each close with the faults."""
    chosen = {spec.name: spec for spec in specs}
    rows = [_row(window, journals) for window in windows if not window.skipped]
    counts: Counter[str] = Counter(
        {"missing": 0, "duplicated": 0, "out of order": 0, "not asked for": 0}
    )
    counts["unexplained closes"] = sum(row.unexplained for row in rows) + _outside(rows, journals)
    problems: list[str] = []
    expected = 0
    for journal in journals:
        spec = chosen[journal.name]
        verdict = ledger.compare(spec.channels, journal.start or {}, journal.positions)
        expected += verdict.expected
        wrong = _wrong(journal, verdict)
        counts.update(wrong)
        if any(wrong.values()):
            problems.append(_evidence(ledger, windows, spec, journal, verdict))
    problems.extend(_unexplained_closes(windows, journals))
    return Assessment(rows, len(journals), len(ledger), expected, counts, problems)


def _wrong(journal: Journal, verdict: Verdict) -> Counter[str]:
    return Counter(
        {
            "missing": len(verdict.missing),
            # Records that the library drops as duplicates were sent twice by its server.
            "duplicated": len(verdict.duplicated) + journal.reported.get("duplicates", 0),
            "out of order": len(verdict.disordered),
            "not asked for": len(verdict.foreign),
            "gaps reported by the library": journal.reported.get("gaps", 0),
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
    unexplained = closes.total() - explained
    return Row(
        window=window,
        closes=closes,
        unexplained=unexplained + max(0, explained - math.floor(window.maximum)),
        replayed=sum(
            window.began <= when < window.until for journal in journals for when in journal.replays
        ),
        silences=[
            longest_silence(journal.times, window.began, window.until) for journal in journals
        ],
    )


def _outside(rows: Sequence[Row], journals: Sequence[Journal]) -> int:
    """Return the number of closes outside of all windows.

    These closes occur while clients connect, or after the last fault.
    """
    closes = sum(1 for journal in journals for _ in journal.of("closed"))
    return closes - sum(sum(row.closes.values()) for row in rows)


def _evidence(
    ledger: Ledger, windows: Sequence[Window], spec: ClientSpec, journal: Journal, verdict: Verdict
) -> str:
    lines = [
        f"{spec.name} ({spec.kind}, {' '.join(spec.channels)}, {spec.url}): "
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
            at = "not in the log" if when is None else f"published {_describe_time(windows, when)}"
            lines.append(
                f"    {name}: {where.topic}/{where.partition} {where.offset}"
                f"..{ledger.named(last).offset} ({count}), {at}"
            )
    lines += [
        f"    {_describe_time(windows, e.when)}: {e.kind} {_details(e)}"
        for e in _last_events(journal)
    ]
    return "\n".join(lines)


def _last_events(journal: Journal) -> list[Event]:
    return journal.events[-EVENTS_SHOWN:]


def _details(event: Event) -> str:
    """Return the details without positions, which would fill the screen."""
    return " ".join(f"{k}={v}" for k, v in event.detail.items() if k != "positions")


def _unexplained_closes(windows: Sequence[Window], journals: Sequence[Journal]) -> Iterator[str]:
    for journal in journals:
        for event in journal.of("closed"):
            window = next((w for w in windows if w.began <= event.when < w.until), None)
            if window is None or event.detail["code"] not in window.codes:
                when = _describe_time(windows, event.when)
                yield f"{journal.name}: closed {when}: {_details(event)}"


def _ranges(positions: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Return positions as ranges of one partition: first, last and count.

    A range may have holes.
    """
    if not positions:
        return
    first, count = positions[0], 1
    for before, after in pairwise(positions):
        if before >> 40 != after >> 40:
            yield first, before, count
            first, count = after, 0
        count += 1
    yield first, positions[-1], count


def _describe_time(windows: Sequence[Window], when: float) -> str:
    for window in windows:
        if window.began <= when < window.until:
            return f"{when - window.began:.2f} s into '{window.fault}'"
    return "outside of all faults"
