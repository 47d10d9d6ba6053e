"""The offset tracker: the next offset of each partition of a source, and the end of its history."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from odin_ws.log_reader import Bounds
from odin_ws.records import Assignment, Record, TopicPartition

__all__ = ["OffsetTracker", "history_starts", "split_evenly"]


class OffsetTracker:
    """The offset of the next record to deliver, of every partition ever read.

    `history`: by partition whose history is still being read, the end offset at the start: earlier
    records are only remembered, later ones delivered.
    """

    def __init__(self) -> None:
        self.next: dict[TopicPartition, int] = {}
        self.history: dict[TopicPartition, int] = {}

    def begin(
        self,
        starts: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
        *,
        partial: bool = False,
    ) -> Assignment:
        """Start partitions at `starts`, the first time; records before `ends` are history."""
        self.next |= starts
        self.history |= {key: end for key, end in ends.items() if starts[key] < end}
        history = {key: start - 1 for key, start in starts.items()} if self.history else {}
        return self.assignment(starts, history=history, partial=partial)

    def assignment(
        self,
        partitions: Iterable[TopicPartition],
        *,
        history: Mapping[TopicPartition, int] | None = None,
        partial: bool = False,
    ) -> Assignment:
        """Return the assignment for the hub for these partitions."""
        positions = {key: self._live(key) - 1 for key in sorted(partitions)}
        return Assignment(positions, partial, history or {})

    def assignment_after(
        self,
        resets: Mapping[TopicPartition, int],
        partitions: Iterable[TopicPartition],
        *,
        partial: bool = False,
    ) -> Assignment:
        """Return the assignment for the hub before these resets are made."""
        after = OffsetTracker()
        after.next, after.history = dict(self.next), dict(self.history)
        after.reset(resets)
        # Also without a history: the rest of what was remembered is missing.
        history = {key: to - 1 for key, to in resets.items() if key in self.history}
        return after.assignment(partitions, history=history, partial=partial)

    def reset(self, resets: Mapping[TopicPartition, int]) -> None:
        """Move partitions to other offsets.

        Forward, over deleted records: the rest of a history is still to be read. Back, if a topic
        was recreated: all its records are new.
        """
        for key, to in resets.items():
            if not self.next[key] <= to < self.history.get(key, 0):
                self.history.pop(key, None)
            self.next[key] = to

    def lost(self, key: TopicPartition, to: int) -> int:
        """Return how many records a reset skips that should have been delivered."""
        return max(0, to - self._live(key))

    def pass_records(self, records: Iterable[Record]) -> None:
        """Advance past these records, which are in offset order."""
        # Plain tuples: creating a TopicPartition per record took 4% of reading.
        last = {(record.topic, record.partition): record.offset for record in records}
        self.next |= {TopicPartition(*key): offset + 1 for key, offset in last.items()}

    def pass_offsets(self, passed: Mapping[TopicPartition, int]) -> None:
        """Advance past these offsets, which have no record."""
        for key, offset in passed.items():
            self.next[key] = max(self.next[key], offset + 1)

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Stop tracking these partitions."""
        for key in partitions:
            self.next.pop(key, None)
            self.history.pop(key, None)

    def pass_history(self, reached: Mapping[TopicPartition, int]) -> None:
        """End the histories that are complete, by `next` or by the fetch position.

        The fetch position includes offsets without records: a history may end with a transaction
        marker.
        """
        for key, end in list(self.history.items()):
            if max(reached.get(key, 0), self.next[key]) >= end:
                self.skip_history(key)

    def skip_history(self, key: TopicPartition) -> None:
        """Advance past a history unless that has happened."""
        self.next[key] = max(self.next[key], self.history.pop(key))

    def _live(self, key: TopicPartition) -> int:
        return max(self.next[key], self.history.get(key, 0))


def history_starts(
    bounds: Mapping[TopicPartition, Bounds], since: Mapping[TopicPartition, int], maximum: int
) -> dict[TopicPartition, int]:
    """Return start offsets with `maximum` records before the ends, and none older than `since`.

    A partition without a `since` has no record that is young enough.
    """
    young = {
        key: max(0, has.end - max(has.first, since[key])) if key in since else 0
        for key, has in bounds.items()
    }
    shares = split_evenly(young, maximum)
    return {key: has.end - shares[key] for key, has in bounds.items()}


def split_evenly(wanted: Mapping[TopicPartition, int], total: int) -> dict[TopicPartition, int]:
    """Split `total` into parts of at most the wanted size; small parts leave more to the others."""
    shares: dict[TopicPartition, int] = {}
    for key in sorted(wanted, key=lambda key: wanted[key]):
        shares[key] = min(wanted[key], total // (len(wanted) - len(shares)))
        total -= shares[key]
    return shares
