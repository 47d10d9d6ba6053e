"""The resume cursor: the messages that a resuming client still has to get."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from odin_ws.pattern import ANY, Pattern
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.records import TopicPartition, topic_partition

__all__ = ["ResumeCursor"]

# `{partition: offset of the last record received}`
Positions = dict[TopicPartition, int]


class ResumeCursor:
    """Patterns, each with the positions after which the client wants its messages.

    The cursor advances as messages are delivered. Partitions without a position are not wanted.
    Patterns that overlap share one mapping of positions (the same object), so each message is
    compared with one position. With two mappings, one pattern could want a message that the other
    has passed: a gap that is not reported.
    """

    def __init__(self, starts: Mapping[str, Positions]) -> None:
        assert not _overlaps(starts), starts
        self.revision = 0
        """Increases with each change of the positions, except by `advance`."""
        self._starts = dict(starts)
        # By partition the offset up to which everything was delivered.
        self._reached: Positions = {}
        # The last result of `positions`; None after a change.
        self._lowest: Positions | None = None
        # Each mapping of positions once; None after a pattern was dropped.
        self._shared: Collection[Positions] | None = None

    @classmethod
    def sharing(cls, patterns: Iterable[str], positions: Positions) -> ResumeCursor:
        """Return a cursor in which all patterns share these positions."""
        return cls(dict.fromkeys(patterns, positions))

    @property
    def patterns(self) -> Iterable[str]:
        """The patterns that are wanted."""
        return self._starts.keys()

    def drop(self, patterns: Iterable[str]) -> bool:
        """Remove patterns; return whether the cursor had any of them."""
        self._shared = None
        self._change()
        gone = [self._starts.pop(pattern, None) is not None for pattern in patterns]
        return any(gone)

    def after(self, pattern: str, key: TopicPartition) -> int | None:
        """Return the offset after which a pattern's messages are wanted; None if none are."""
        starts = self._starts.get(pattern)
        start = None if starts is None else starts.get(key)
        return None if start is None else max(start, self._reached.get(key, start))

    def positions(self) -> Mapping[TopicPartition, int]:
        """Return per partition the lowest offset after which any pattern wants its messages."""
        if self._lowest is None:
            self._lowest = self._positions(min)
        return self._lowest

    def highest(self) -> Mapping[TopicPartition, int]:
        """Return per partition the highest offset after which any pattern wants its messages."""
        if len(self._distinct()) == 1:
            return self.positions()
        return self._positions(max)

    @property
    def is_uniform(self) -> bool:
        """True if all patterns have the same positions."""
        return len(self._distinct()) == 1

    def begin(self, positions: Mapping[TopicPartition, int]) -> None:
        """Add these positions to all patterns, in the partitions in which they had none."""
        if not positions:
            return
        self._change()
        for starts in self._distinct():
            for key, offset in positions.items():
                starts.setdefault(key, offset)

    def advance(self, key: TopicPartition, offset: int) -> None:
        """Move a partition forward: nothing up to `offset` is wanted any more."""
        self._lowest = None
        self._reached[key] = max(offset, self._reached.get(key, offset))

    def place(self, key: TopicPartition, offset: int | None) -> None:
        """Move a partition to `offset`, forward or back; with None, remove the partition."""
        self._change()
        self._reached.pop(key, None)
        for starts in self._distinct():
            if starts.pop(key, None) is not None and offset is not None:
                starts[key] = offset

    def cut(self, key: TopicPartition, offset: int) -> None:
        """Move a partition back to `offset`, where the log was truncated: other records follow."""
        self._change()
        if key in self._reached:
            self._reached[key] = min(offset, self._reached[key])
        for starts in self._distinct():
            if key in starts:
                starts[key] = min(offset, starts[key])

    def forget(self, keys: Collection[TopicPartition]) -> None:
        """Remove partitions."""
        if not keys:
            return
        self._change()
        gone = set(keys)
        # A reconnect has up to a thousand mappings: of each only the common keys are looked at.
        for positions in (self._reached, *self._distinct()):
            for key in positions.keys() & gone:
                del positions[key]

    def includes(self, message: ChannelMessage) -> bool:
        """Return whether a message is wanted."""
        record = message.record
        key = topic_partition(record.topic, record.partition)
        for pattern in message.patterns:
            if pattern in self._starts:
                after = self.after(pattern, key)
                if after is not None and record.offset > after:
                    return True
        return False

    def starts(self) -> Iterable[tuple[Collection[str], Positions]]:
        """Return each mapping of positions with the patterns that share it."""
        sharing: dict[int, tuple[list[str], Positions]] = {}
        for name, starts in self._starts.items():
            sharing.setdefault(id(starts), ([], starts))[0].append(name)
        for patterns, shared in sharing.values():
            yield patterns, self._advanced(dict(shared))

    def _change(self) -> None:
        self._lowest = None
        self.revision += 1

    def _positions(self, choose: Callable[[int, int], int]) -> Positions:
        found: Positions = {}
        for starts in self._distinct():
            if not found:
                # Usually the only one.
                found = dict(starts)
                continue
            for key, offset in starts.items():
                found[key] = choose(offset, found.get(key, offset))
        return self._advanced(found)

    def _advanced(self, positions: Positions) -> Positions:
        """Move positions to where everything before was delivered; returns the same object."""
        reached = self._reached
        for key in positions.keys() & reached.keys():
            positions[key] = max(positions[key], reached[key])
        return positions

    def _distinct(self) -> Collection[Positions]:
        """Return each mapping of positions once."""
        if self._shared is None:
            self._shared = {id(starts): starts for starts in self._starts.values()}.values()
        return self._shared


def _overlaps(starts: Mapping[str, Positions]) -> bool:
    """Return whether two patterns overlap without sharing their mapping of positions."""
    if len({id(positions) for positions in starts.values()}) <= 1:
        return False
    # Two channels do not overlap, so only patterns with a `*` are compared: a reconnect has one for
    # each topic at most.
    wild = [text for text in starts if ANY in text]
    return any(
        starts[pattern] is not starts[other]
        and Pattern.parse(pattern).overlaps(Pattern.parse(other))
        for pattern in wild
        for other in starts
    )
