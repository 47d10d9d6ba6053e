"""Published records, the log in the end, and what each client got of both. No I/O.

Records are known by a number of their own, in their value: a topic that is made anew and a log
that is cut give the same offsets to other records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Final, NamedTuple

import attrs

__all__ = ["Entry", "State", "Told", "Truth", "Verdict", "matches"]


class State(Enum):
    """A record as its producer knows it."""

    PENDING = "pending"
    """Not acknowledged yet, or part of a transaction that has not ended."""

    TAKEN = "taken"
    """Acknowledged by all replicas in sync, or committed."""

    UNKNOWN = "unknown"
    """The producer gave up: the log may have it or not."""

    ABORTED = "aborted"
    """Part of a transaction that was aborted: nobody may get it."""


@attrs.define
class Entry:
    """One record; the place is known once a broker has acknowledged it, or the log was read."""

    number: int
    category: str
    token: str
    state: State = State.PENDING
    partition: int = -1
    offset: int = -1
    # In what was read back at the end. A record that is not was deleted, cut or compacted.
    in_log: bool = False


class Told(NamedTuple):
    """A range of offsets that a client was told it will not get, or has got and is gone."""

    category: str
    partition: int
    first: int
    last: int
    reason: str


@attrs.frozen
class Verdict:
    """The faults in what one client got: numbers of records.

    `missing`: the log has it, and the client neither has it nor was told.
    `untold`: the log has it no more, and the client neither has it nor was told.
    `given_up`: told as lost, though the log has it and nothing was done to its topic.
    `doubled`: received more than once. `disordered`: after a later one of its partition.
    `foreign`: aborted, or not asked for.
    """

    expected: int
    missing: Sequence[int]
    untold: Sequence[int]
    given_up: Sequence[int]
    doubled: Sequence[int]
    disordered: Sequence[int]
    foreign: Sequence[int]

    @property
    def counts(self) -> Counter[str]:
        """The number of each."""
        names = ("missing", "untold", "given_up", "doubled", "disordered", "foreign")
        return Counter({name: len(getattr(self, name)) for name in names})


def matches(channels: Iterable[str], token: str, category: str) -> bool:
    """Whether one of these patterns has the channel."""
    for pattern in channels:
        wanted_token, _, wanted_category = pattern.rpartition(".")
        if wanted_token in {"*", token} and wanted_category in {"*", category}:
            return True
    return False


class Truth:
    """Every record that was published.

    `compacted`: the category whose log keeps the last record of each key: nobody is told of the
    others. `losing`: the categories whose logs lose records in a run, by retention or by an
    election, or are made anew: a client may be told of more than it has lost.
    """

    def __init__(self, compacted: str, losing: Iterable[str]) -> None:
        self.entries: Final[dict[int, Entry]] = {}
        # The number of the last record of each key of the compacted log.
        self._latest: dict[str, int] = {}
        self.compacted: Final = compacted
        self.losing: Final = frozenset(losing)

    def begin(self, category: str, token: str) -> Entry:
        """Note a record that is handed to a producer."""
        entry = Entry(len(self.entries), category, token)
        self.entries[entry.number] = entry
        if category == self.compacted:
            self._latest[token] = entry.number
        return entry

    def expected(self, channels: Sequence[str]) -> Iterator[Entry]:
        """The records that a subscriber to these patterns gets, if nothing is lost."""
        for entry in self.entries.values():
            if entry.state is State.TAKEN and matches(channels, entry.token, entry.category):
                yield entry

    def complete_to(
        self,
        channels: Sequence[str],
        got: Mapping[int, int],
        told: set[Told],
        numbers: range,
    ) -> int:
        """The first of these records that a client is still to get or to be told of.

        The end of the range if there is none: the list is complete up to there.
        """
        for number in numbers:
            entry = self.entries[number]
            if not matches(channels, entry.token, entry.category) or number in got:
                continue
            if entry.state is State.PENDING:
                return number
            superseded = entry.category == self.compacted and number < self._latest[entry.token]
            if entry.state is State.TAKEN and not superseded and not _is_told(entry, told):
                return number
        return numbers.stop

    def judge(self, channels: Sequence[str], received: Sequence[int], told: set[Told]) -> Verdict:
        """Hold what one client received, in the order in which it came, against what there was."""
        counts = Counter(received)
        expected = list(self.expected(channels))
        missing, untold, given_up = [], [], []
        for entry in expected:
            if entry.number in counts:
                continue
            if _is_told(entry, told):
                if entry.in_log and entry.category not in self.losing:
                    given_up.append(entry.number)
            elif entry.in_log:
                missing.append(entry.number)
            elif entry.category != self.compacted:
                untold.append(entry.number)
        return Verdict(
            expected=len(expected),
            missing=missing,
            untold=untold,
            given_up=given_up,
            doubled=[number for number, count in counts.items() if count > 1],
            disordered=list(self._disordered(received)),
            foreign=[number for number in counts if self._is_foreign(number, channels)],
        )

    def _is_foreign(self, number: int, channels: Sequence[str]) -> bool:
        entry = self.entries.get(number)
        return (
            entry is None
            or entry.state is State.ABORTED
            or not matches(channels, entry.token, entry.category)
        )

    def _disordered(self, received: Sequence[int]) -> Iterator[int]:
        """Records of one producer and partition have ascending numbers."""
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


def _is_told(entry: Entry, told: set[Told]) -> bool:
    return any(
        one.category == entry.category
        and one.partition == entry.partition
        and one.first <= entry.offset <= one.last
        for one in told
    )
