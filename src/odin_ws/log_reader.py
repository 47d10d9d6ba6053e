"""The interface of log readers: bounds, offsets by time, and reads of spans of a log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from odin_ws.records import Record, TopicPartition

__all__ = [
    "NO_IDS",
    "Bounds",
    "LogReader",
    "LogUnavailable",
    "PartitionsUnavailable",
    "RecordsExpired",
    "Span",
]

# The default of `topic_ids`: any log of the topic's name will do.
NO_IDS: Final[Mapping[str, str]] = MappingProxyType({})


class Bounds(NamedTuple):
    """What a partition has: `first` is its oldest offset, `end` that of its next record."""

    first: int
    end: int


class Span(NamedTuple):
    """Offsets from `first` to `last`, both included."""

    first: int
    last: int


class LogUnavailable(Exception):
    """The log does not answer now. What was read so far stands; the rest can be asked for later."""


class PartitionsUnavailable(LogUnavailable):
    """The log does not answer for some of the partitions now.

    `failed`: by partition why, in words. `found`: the bounds of the others.
    """

    def __init__(
        self, failed: Mapping[TopicPartition, str], found: Mapping[TopicPartition, Bounds]
    ) -> None:
        key, reason = min(failed.items())
        super().__init__(f"{key.topic} {key.partition}: {reason}")
        self.failed = failed
        self.found = found


class RecordsExpired(Exception):
    """The log no longer has the first of the records asked for: its retention took them meanwhile.

    What was read so far stands.
    """


class LogReader(Protocol):
    """A log's past. Calls are bounded in time, and wait for their turn where many come at once.

    All of them raise LogUnavailable. Each takes `topic_ids`, the ids of the logs that the caller's
    offsets belong to: the log of a topic with another id (the topic was recreated) is not read.
    """

    async def run(self) -> None:
        """Do what answering takes, until cancelled."""
        ...

    async def bounds(
        self, partitions: Collection[TopicPartition], topic_ids: Mapping[str, str] = NO_IDS
    ) -> dict[TopicPartition, Bounds]:
        """The bounds of each partition; partitions that do not exist are left out.

        Raises PartitionsUnavailable where that is known of some and not of others, and for the
        partitions of a topic with another id than the caller's.
        """
        ...

    async def positions_at(
        self, topics: Collection[str], timestamp: int, topic_ids: Mapping[str, str] = NO_IDS
    ) -> dict[TopicPartition, int]:
        """The offset before each partition's first record of `timestamp` (epoch ms) or later.

        Partitions without such a record are left out.
        """
        ...

    def read(
        self, spans: Mapping[TopicPartition, Span], topic_ids: Mapping[str, str] = NO_IDS
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Record]]]:
        """The records of these spans, in batches, by offset within each partition.

        Entering waits for the turn. The iterator ends when all spans are through: some offsets may
        hold no record. It reads ahead by a batch or two at most. It raises RecordsExpired too, also
        for a topic with another id than the caller's. It raises LogUnavailable also where a batch
        is not taken for seconds while others wait to read: ask again then, from where that was.
        """
        ...
