"""What a client that comes back still has to get."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from odin_ws.pattern import ANY, Pattern
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.records import TopicPartition

__all__ = ["ResumeCursor"]

# `{partition: offset of the last record received}`
Positions = dict[TopicPartition, int]


class ResumeCursor:
    """Patterns, each with the positions after which it is wanted; it shrinks as messages are given.

    A partition that a pattern has no position for is not wanted. Patterns that overlap share one
    mapping of positions, one object: each message is wanted once, and behind one position. With
    two mappings a message would be wanted by one pattern and passed over by the other: a hole that
    nobody notices.
    """

    def __init__(self, starts: Mapping[str, Positions]) -> None:
        assert not _overlaps(starts), starts
        self._starts = dict(starts)
        # Up to here everything of a partition was given.
        self._reached: Positions = {}
        # What `positions` said last; None after a change.
        self._lowest: Positions | None = None
        # Each mapping of positions once; None after a pattern was dropped.
        self._shared: Collection[Positions] | None = None

    @classmethod
    def sharing(cls, patterns: Iterable[str], positions: Positions) -> ResumeCursor:
        """Want all patterns after the same positions."""
        return cls(dict.fromkeys(patterns, positions))

    @property
    def patterns(self) -> Iterable[str]:
        """The patterns that are wanted."""
        return self._starts.keys()

    def drop(self, patterns: Iterable[str]) -> bool:
        """Want these no more; whether any of them was wanted."""
        self._lowest = self._shared = None
        gone = [self._starts.pop(pattern, None) is not None for pattern in patterns]
        return any(gone)

    def after(self, pattern: str, key: TopicPartition) -> int | None:
        """The offset after which a pattern's messages are wanted; None where none are."""
        starts = self._starts.get(pattern)
        start = None if starts is None else starts.get(key)
        return None if start is None else max(start, self._reached.get(key, start))

    def positions(self) -> Mapping[TopicPartition, int]:
        """Per partition the lowest offset after which anything of it is wanted."""
        if self._lowest is None:
            self._lowest = self._positions(min)
        return self._lowest

    def highest(self) -> Mapping[TopicPartition, int]:
        """Per partition the highest offset after which anything of it is wanted."""
        if len(self._distinct()) == 1:
            return self.positions()
        return self._positions(max)

    @property
    def is_uniform(self) -> bool:
        """Whether all patterns have the same positions."""
        return len(self._distinct()) == 1

    def begin(self, positions: Mapping[TopicPartition, int]) -> None:
        """Want what comes after these too, of all patterns, where they had no position."""
        self._lowest = None
        for starts in self._distinct():
            starts.update({**positions, **starts})

    def advance(self, key: TopicPartition, offset: int) -> None:
        """Nothing of a partition is wanted up to `offset` any more."""
        self._lowest = None
        self._reached[key] = max(offset, self._reached.get(key, offset))

    def place(self, key: TopicPartition, offset: int | None) -> None:
        """Want what comes after `offset`, wherever that is; with None, nothing of the partition."""
        self._lowest = None
        self._reached.pop(key, None)
        for starts in self._distinct():
            if starts.pop(key, None) is not None and offset is not None:
                starts[key] = offset

    def cut(self, key: TopicPartition, offset: int) -> None:
        """Want what comes after `offset` too: what was behind it is gone, and others follow it."""
        self._lowest = None
        if key in self._reached:
            self._reached[key] = min(offset, self._reached[key])
        for starts in self._distinct():
            if key in starts:
                starts[key] = min(offset, starts[key])

    def forget(self, keys: Collection[TopicPartition]) -> None:
        """Want nothing of these partitions; one pass, however many there are."""
        self._lowest = None
        for key in keys:
            self._reached.pop(key, None)
        for starts in self._distinct():
            for key in [key for key in starts if key in keys]:
                del starts[key]

    def includes(self, message: ChannelMessage) -> bool:
        """Whether a message is wanted."""
        record = message.record
        key = TopicPartition(record.topic, record.partition)
        for pattern in message.patterns:
            if pattern in self._starts:
                after = self.after(pattern, key)
                if after is not None and record.offset > after:
                    return True
        return False

    def starts(self) -> Iterable[tuple[Collection[str], Positions]]:
        """The patterns that share positions, with the positions after which they are wanted."""
        sharing: dict[int, tuple[list[str], Positions]] = {}
        for name, starts in self._starts.items():
            sharing.setdefault(id(starts), ([], starts))[0].append(name)
        for patterns, shared in sharing.values():
            yield (
                patterns,
                {key: max(start, self._reached.get(key, start)) for key, start in shared.items()},
            )

    def _positions(self, choose: Callable[[int, int], int]) -> Positions:
        found: Positions = {}
        for starts in self._distinct():
            for key, offset in starts.items():
                found[key] = choose(offset, found.get(key, offset))
        return {key: max(offset, self._reached.get(key, offset)) for key, offset in found.items()}

    def _distinct(self) -> Collection[Positions]:
        """Each mapping of positions once, however many patterns share it."""
        if self._shared is None:
            self._shared = {id(starts): starts for starts in self._starts.values()}.values()
        return self._shared


def _overlaps(starts: Mapping[str, Positions]) -> bool:
    """Whether two patterns overlap that do not share their mapping of positions."""
    if len({id(positions) for positions in starts.values()}) <= 1:
        return False
    # Two channels do not overlap, so only patterns with a `*` are compared: a reconnect has one for
    # each topic at most.
    wild = [text for text in starts if ANY in text]
    return any(
        starts[one] is not starts[other] and Pattern.parse(one).overlaps(Pattern.parse(other))
        for one in wild
        for other in starts
    )
