"""Published records, the final log, and the records that each client received. No I/O.

A record is identified by a number in its value: in a recreated topic and a truncated log, other
records have the same offsets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Final, NamedTuple

import attrs

__all__ = ["Entry", "ReportedLoss", "State", "Truth", "Verdict", "matches"]


class State(Enum):
    """The state of a record at its producer."""

    PENDING = "pending"
    """Not acknowledged yet, or part of an open transaction."""

    ACKNOWLEDGED = "acknowledged"
    """Acknowledged by all in-sync replicas, or committed."""

    UNKNOWN = "unknown"
    """The producer gave up: the log may have the record or not."""

    ABORTED = "aborted"
    """Part of an aborted transaction: no client may receive it."""


@attrs.define
class Entry:
    """One record; partition and offset are known after the acknowledgement, or from the log."""

    number: int
    category: str
    token: str
    state: State = State.PENDING
    partition: int = -1
    offset: int = -1
    in_log: bool = False
    """Whether the final log has the record; if not, it was deleted, truncated or compacted."""
    copies: int = 0
    """The number of copies in the log. Above 1 if an unclean election removed the brokers' state of
    the producer, and the producer sent the record again."""


class ReportedLoss(NamedTuple):
    """A range of offsets that the server reported as lost, or as received and no longer valid."""

    category: str
    partition: int
    first: int
    last: int
    reason: str


@attrs.frozen
class Verdict:
    """The errors in the records that one client received; each list has numbers of records."""

    expected: int
    """The number of records that the client should have."""
    missing: Sequence[int]
    """Records in the log, neither received nor reported as lost."""
    unreported: Sequence[int]
    """Records no longer in the log, neither received nor reported as lost."""
    given_up: Sequence[int]
    """Records reported as lost, though the log has them and no fault affected their topic."""
    doubled: Sequence[int]
    """Records received more often than the log has them."""
    disordered: Sequence[int]
    """Records received after a later record of their partition."""
    foreign: Sequence[int]
    """Records that were aborted, or that the client had not subscribed to."""

    @property
    def counts(self) -> Counter[str]:
        """The number of records by kind of error."""
        names = ("missing", "unreported", "given_up", "doubled", "disordered", "foreign")
        return Counter({name: len(getattr(self, name)) for name in names})


def matches(channels: Iterable[str], token: str, category: str) -> bool:
    """Return whether one of these patterns matches the channel."""
    for pattern in channels:
        wanted_token, _, wanted_category = pattern.rpartition(".")
        if wanted_token in {"*", token} and wanted_category in {"*", category}:
            return True
    return False


class Truth:
    """Every record that was published.

    Args:
        compacted: the category whose log keeps only the last record of each key; the loss of
            others is not reported.
        losing: the categories whose logs lose records in a run, by retention, an election or
            deletion; a report may include records that a client has.
    """

    def __init__(self, compacted: str, losing: Iterable[str]) -> None:
        self.entries: Final[dict[int, Entry]] = {}
        # The number of the last record of each key of the compacted log.
        self._latest: dict[str, int] = {}
        self.compacted: Final = compacted
        self.losing: Final = frozenset(losing)

    def begin(self, category: str, token: str) -> Entry:
        """Add a record that is handed to a producer."""
        entry = Entry(len(self.entries), category, token)
        self.entries[entry.number] = entry
        if category == self.compacted:
            self._latest[token] = entry.number
        return entry

    def expected(self, channels: Sequence[str]) -> Iterator[Entry]:
        """Return the records that a subscriber to these patterns receives without losses."""
        for entry in self.entries.values():
            if entry.state is State.ACKNOWLEDGED and matches(channels, entry.token, entry.category):
                yield entry

    def complete_to(
        self,
        channels: Sequence[str],
        got: Mapping[int, int],
        reported: set[ReportedLoss],
        numbers: range,
    ) -> int:
        """Return the number of the first record without a receipt or a reported loss.

        Returns the end of the range without such a record: the client is complete up to that
        number.
        """
        for number in numbers:
            entry = self.entries[number]
            if not matches(channels, entry.token, entry.category) or number in got:
                continue
            if entry.state is State.PENDING:
                return number
            superseded = entry.category == self.compacted and number < self._latest[entry.token]
            if (
                entry.state is State.ACKNOWLEDGED
                and not superseded
                and not _is_reported(entry, reported)
            ):
                return number
        return numbers.stop

    def compare(
        self, channels: Sequence[str], received: Sequence[int], reported: set[ReportedLoss]
    ) -> Verdict:
        """Return the verdict on the records that a client received, in this order."""
        counts = Counter(received)
        expected = list(self.expected(channels))
        missing, unreported, given_up = [], [], []
        for entry in expected:
            if entry.number in counts:
                continue
            if _is_reported(entry, reported):
                if entry.in_log and entry.category not in self.losing:
                    given_up.append(entry.number)
            elif entry.in_log:
                missing.append(entry.number)
            elif entry.category != self.compacted:
                unreported.append(entry.number)
        return Verdict(
            expected=len(expected),
            missing=missing,
            unreported=unreported,
            given_up=given_up,
            doubled=[
                number for number, count in counts.items() if count > max(1, self._copies(number))
            ],
            disordered=list(self._disordered(received)),
            foreign=[number for number in counts if self._is_foreign(number, channels)],
        )

    def _copies(self, number: int) -> int:
        entry = self.entries.get(number)
        return 0 if entry is None else entry.copies

    def _is_foreign(self, number: int, channels: Sequence[str]) -> bool:
        entry = self.entries.get(number)
        return (
            entry is None
            or entry.state is State.ABORTED
            or not matches(channels, entry.token, entry.category)
        )

    def _disordered(self, received: Sequence[int]) -> Iterator[int]:
        """Yield the numbers received after a larger number of the same producer and partition."""
        last: dict[tuple[str, int], int] = {}
        for number in dict.fromkeys(received):
            entry = self.entries.get(number)
            if entry is None or entry.partition < 0:
                continue
            place = entry.category, entry.partition
            if number < last.get(place, -1):
                yield number
            else:
                last[place] = number


def _is_reported(entry: Entry, reported: set[ReportedLoss]) -> bool:
    return any(
        record.category == entry.category
        and record.partition == entry.partition
        and record.first <= entry.offset <= record.last
        for record in reported
    )
