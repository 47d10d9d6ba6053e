"""The records that every client should have received, compared with the received ones.

No I/O, no clock.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import attrs

__all__ = ["Ledger", "Position", "Verdict", "longest_silence", "pack", "quantile", "unpack"]

# The bits of a position in one integer: topic, partition (16 bits), offset (40 bits: 2,000 years at
# 10 records per second).
_OFFSET_BITS: Final = 40
_PLACE_BITS: Final = 16

# Offsets by (topic, partition).
Positions = Mapping[tuple[str, int], int]


class Position(NamedTuple):
    """Topic, partition and offset of a record."""

    topic: str
    partition: int
    offset: int


def pack(topic: int, partition: int, offset: int) -> int:
    """Return a position as one integer; positions of one partition sort by offset."""
    return (((topic << _PLACE_BITS) | partition) << _OFFSET_BITS) | offset


def unpack(packed: int) -> tuple[int, int, int]:
    """Return the topic's number, the partition and the offset of a packed position."""
    place, offset = packed >> _OFFSET_BITS, packed & ((1 << _OFFSET_BITS) - 1)
    return place >> _PLACE_BITS, place & ((1 << _PLACE_BITS) - 1), offset


@attrs.frozen
class Verdict:
    """The errors in the records that one client received; positions are packed."""

    expected: int
    """The number of records that the client should have."""
    missing: list[int]
    """Records not received."""
    duplicated: list[int]
    """Each receipt after the first."""
    disordered: list[int]
    """Records first received after a later record of their partition."""
    foreign: list[int]
    """Records that the client had not subscribed to, or published before its subscription."""

    @property
    def good(self) -> bool:
        """Whether the client received each record exactly once and in order."""
        return not (self.missing or self.duplicated or self.disordered or self.foreign)


class Ledger:
    """Every record that was published.

    Attributes:
        topics: the names of the topics, by their numbers in `pack`.
    """

    def __init__(self, topics: Sequence[str]) -> None:
        self.topics: Final = tuple(topics)
        self._of_channel: defaultdict[str, list[int]] = defaultdict(list)
        self._published: dict[int, float] = {}

    def add(self, channel: str, position: int, when: float) -> None:
        """Add a record of a channel at a packed position; `when`: the time of acknowledgement."""
        self._of_channel[channel].append(position)
        self._published[position] = when

    def __len__(self) -> int:
        return len(self._published)

    def __contains__(self, position: int) -> bool:
        return position in self._published

    def published(self, position: int) -> float:
        """Return the time at which the broker acknowledged the record."""
        return self._published[position]

    def positions(self) -> Iterable[int]:
        """Return the position of every record."""
        return self._published.keys()

    def named(self, position: int) -> Position:
        """Return a packed position with the topic's name."""
        topic, partition, offset = unpack(position)
        return Position(self.topics[topic], partition, offset)

    def expected(self, patterns: Iterable[str], start: Positions) -> set[int]:
        """Return the records of these patterns after the offsets in `start`."""
        after = {
            pack(self.topics.index(topic), partition, 0) >> _OFFSET_BITS: offset
            for (topic, partition), offset in start.items()
            if topic in self.topics
        }
        return {
            position
            for channel in self._matching(patterns)
            for position in self._of_channel[channel]
            if position & ((1 << _OFFSET_BITS) - 1) > after.get(position >> _OFFSET_BITS, -1)
        }

    def _matching(self, patterns: Iterable[str]) -> Iterator[str]:
        wanted = [tuple(pattern.rsplit(".", 1)) for pattern in patterns]
        for channel in self._of_channel:
            token, category = channel.rsplit(".", 1)
            if any(t in {"*", token} and c in {"*", category} for t, c in wanted):
                yield channel

    def compare(
        self, patterns: Iterable[str], start: Positions, received: Iterable[int]
    ) -> Verdict:
        """Return the verdict on the packed positions that a client received, in this order."""
        expected = self.expected(patterns, start)
        seen: set[int] = set()
        duplicated, disordered = [], []
        last: dict[int, int] = {}
        for position in received:
            place = position >> _OFFSET_BITS
            if position in seen:
                duplicated.append(position)
                continue
            seen.add(position)
            if position < last.get(place, -1):
                disordered.append(position)
            else:
                last[place] = position
        return Verdict(
            expected=len(expected),
            missing=sorted(expected - seen),
            duplicated=duplicated,
            disordered=disordered,
            foreign=sorted(seen - expected),
        )


def longest_silence(times: array[float], begin: float, end: float) -> float:
    """Return the longest time without a message that overlaps the interval, in seconds.

    `times`: arrival times, ascending. A silence that began before the interval counts in full; a
    silence that has not ended counts up to `end`.
    """
    first = bisect_right(times, begin)
    last = bisect_right(times, end)
    longest = 0.0
    before = times[first - 1] if first else begin
    for index in range(first, last):
        when = times[index]
        longest = max(longest, when - before)
        before = when
    return max(longest, end - before)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value not exceeded by this share of the values; 0 without values."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
