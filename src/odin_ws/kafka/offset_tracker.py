"""The offset tracker: next offset of each partition of a source, and its initial history."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from odin_ws.log_reader import Bounds
from odin_ws.records import Assignment, Record, TopicPartition

__all__ = ["OffsetTracker", "history_starts", "split_evenly"]


class OffsetTracker:
    """The places of every partition ever read, each the offset of the next record to hand on.

    `history`: for partitions whose past is still being read, the end it had at the start: records
    before it are to be remembered, later ones to be delivered.
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
        """Read from `starts`, the first time; records before `ends` are history."""
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
        """The assignment that the hub is told for these partitions."""
        positions = {key: self._live(key) - 1 for key in sorted(partitions)}
        return Assignment(positions, partial, history or {})

    def assignment_after(
        self,
        resets: Mapping[TopicPartition, int],
        partitions: Iterable[TopicPartition],
        *,
        partial: bool = False,
    ) -> Assignment:
        """The assignment that the hub is told before these jumps are made."""
        after = OffsetTracker()
        after.next, after.history = dict(self.next), dict(self.history)
        after.reset(resets)
        # Also where no history is left: of what was remembered the rest is missing.
        history = {key: to - 1 for key, to in resets.items() if key in self.history}
        return after.assignment(partitions, history=history, partial=partial)

    def reset(self, resets: Mapping[TopicPartition, int]) -> None:
        """Go on somewhere else.

        Forward, over records that were deleted: the rest of a history is still to be read.
        Back, where a topic was recreated: all that it has now is new.
        """
        for key, to in resets.items():
            if not self.next[key] <= to < self.history.get(key, 0):
                self.history.pop(key, None)
            self.next[key] = to

    def lost(self, key: TopicPartition, to: int) -> int:
        """The number of records a jump leaves out that should have been delivered."""
        return max(0, to - self._live(key))

    def pass_records(self, records: Iterable[Record]) -> None:
        """Go on behind these, which are in offset order."""
        # Plain tuples: a TopicPartition for each record took 4% of reading.
        last = {(one.topic, one.partition): one.offset for one in records}
        self.next |= {TopicPartition(*key): offset + 1 for key, offset in last.items()}

    def pass_offsets(self, passed: Mapping[TopicPartition, int]) -> None:
        """Go on behind these offsets, which hold no record."""
        for key, offset in passed.items():
            self.next[key] = max(self.next[key], offset + 1)

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Read these no more."""
        for key in partitions:
            self.next.pop(key, None)
            self.history.pop(key, None)

    def pass_history(self, reached: Mapping[TopicPartition, int]) -> None:
        """Leave the histories that are through, by `next` or by where the reading is.

        That is also past what is no record: a history may end with the marker of a transaction.
        """
        for key, end in list(self.history.items()):
            if max(reached.get(key, 0), self.next[key]) >= end:
                self.skip_history(key)

    def skip_history(self, key: TopicPartition) -> None:
        """Go on behind a history, if we are not past it."""
        self.next[key] = max(self.next[key], self.history.pop(key))

    def _live(self, key: TopicPartition) -> int:
        return max(self.next[key], self.history.get(key, 0))


def history_starts(
    bounds: Mapping[TopicPartition, Bounds], since: Mapping[TopicPartition, int], maximum: int
) -> dict[TopicPartition, int]:
    """The first offsets so that there are `maximum` records to the ends, and none before `since`.

    A partition without a `since` has nothing that is young enough.
    """
    young = {
        key: max(0, has.end - max(has.first, since[key])) if key in since else 0
        for key, has in bounds.items()
    }
    shares = split_evenly(young, maximum)
    return {key: has.end - shares[key] for key, has in bounds.items()}


def split_evenly(wanted: Mapping[TopicPartition, int], total: int) -> dict[TopicPartition, int]:
    """Parts of `total`, none larger than the part wanted: a small one leaves more to the others."""
    shares: dict[TopicPartition, int] = {}
    for key in sorted(wanted, key=lambda key: wanted[key]):
        shares[key] = min(wanted[key], total // (len(wanted) - len(shares)))
        total -= shares[key]
    return shares
