"""The interface of log readers: bounds, offsets by time, and reads of spans of a log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

import attrs

from odin_ws.records import Record, TopicPartition

__all__ = [
    "NO_IDS",
    "Bounds",
    "LogReader",
    "LogUnavailable",
    "PartitionsUnavailable",
    "RecordsExpired",
    "Span",
    "TimePositions",
]

# The default of `topic_ids`: accepts any log of the topic's name.
NO_IDS: Final[Mapping[str, str]] = MappingProxyType({})


class Bounds(NamedTuple):
    """The bounds of a partition's log: its oldest offset, and the offset of its next record."""

    first: int
    end: int


class Span(NamedTuple):
    """Offsets from `first` to `last`, inclusive."""

    first: int
    last: int


@attrs.frozen
class TimePositions:
    """The positions of a time, and the partitions whose position is unknown for long."""

    found: Mapping[TopicPartition, int]
    """By partition the offset before its first record of that time or later; partitions without
    such a record are left out."""
    failed: Mapping[TopicPartition, str] = attrs.field(factory=dict)
    """By partition the reason why its position is unknown, in words."""
    failed_topics: Mapping[str, str] = attrs.field(factory=dict)
    """By topic the reason why even its partitions are unknown, in words."""


class LogUnavailable(Exception):
    """The log is not available now. Records read so far are valid; the rest can be read later."""


class PartitionsUnavailable(LogUnavailable):
    """The log is not available for some of the partitions now.

    `failed`: by partition the reason, in words. `found`: the bounds of the others.
    """

    def __init__(
        self, failed: Mapping[TopicPartition, str], found: Mapping[TopicPartition, Bounds]
    ) -> None:
        key, reason = min(failed.items())
        super().__init__(f"{key.topic} {key.partition}: {reason}")
        self.failed = failed
        self.found = found


class RecordsExpired(Exception):
    """The log no longer has the first requested records: retention has deleted them.

    Records read so far are valid.
    """


class LogReader(Protocol):
    """Random access to a log. Calls have time limits and wait in order if there are many.

    All of them raise LogUnavailable. Each takes `topic_ids`, the topic ids of the caller's offsets:
    a topic with another id (it was recreated) is not read.
    """

    async def run(self) -> None:
        """Run background work until cancelled."""
        ...

    async def bounds(
        self, partitions: Collection[TopicPartition], topic_ids: Mapping[str, str] = NO_IDS
    ) -> dict[TopicPartition, Bounds]:
        """Return the bounds of each partition; partitions that do not exist are left out.

        Raises PartitionsUnavailable if the bounds of only some are known, and for the
        partitions of a topic with another id than the caller's.
        """
        ...

    async def positions_at(
        self, topics: Collection[str], timestamp: int, topic_ids: Mapping[str, str] = NO_IDS
    ) -> TimePositions:
        """Return the offset before the first record of each partition from `timestamp` (ms) on.

        A log without timestamps begins with its oldest record. A partition that fails is tried
        again for seconds, unless it failed for long before. Raises LogUnavailable if all fail.
        """
        ...

    def read(
        self, spans: Mapping[TopicPartition, Span], topic_ids: Mapping[str, str] = NO_IDS
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Record]]]:
        """Read the records of these spans, in batches, by offset within each partition.

        Entering waits for a free slot. The iterator ends when all spans are read: some offsets may
        have no record. It reads ahead by a batch or two. It also raises RecordsExpired, also for a
        topic with another id than the caller's, and LogUnavailable if a batch is not taken for
        seconds while others wait: the caller then reads again from that offset.
        """
        ...
