"""Records, batches, assignments and offset gaps: what a source sends to the hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

import attrs

__all__ = [
    "Assignment",
    "Batch",
    "GapReason",
    "HistoryEnd",
    "InvalidBatch",
    "Item",
    "Record",
    "RecordHeaders",
    "TopicPartition",
    "topic_partition",
]


class TopicPartition(NamedTuple):
    """One partition of one Kafka topic."""

    topic: str
    partition: int


@lru_cache(maxsize=1 << 14)
def topic_partition(topic: str, partition: int) -> TopicPartition:
    """Return a TopicPartition, often one made before: to create a named tuple takes 0.35 us."""
    return TopicPartition(topic, partition)


class InvalidBatch(StrEnum):
    """Why bytes of a broker contain no records."""

    CORRUPT_BATCH = "corrupt_batch"
    """The checksum or the header is wrong, also after a second fetch."""

    BAD_COMPRESSION = "bad_compression"
    """The codec is unknown, or its library cannot decompress the batch."""

    BATCH_TOO_LARGE = "batch_too_large"
    """The batch has more decompressed bytes or records than one batch may have."""

    MALFORMED_BATCH = "malformed_batch"
    """The checksum is right, but the batch lacks records that its header claims."""

    MALFORMED_RECORD = "malformed_record"
    """One record of a batch is malformed; the other records are delivered."""


RecordHeaders = tuple[tuple[str, bytes | None], ...]
"""Names and values of headers, each name once."""


@attrs.define(eq=False)
class Record:
    """One Kafka record as received, not decoded."""

    topic: str
    partition: int
    offset: int
    """The offset in the partition."""
    timestamp: int
    """The broker's epoch milliseconds; -1 for none."""
    key: bytes | None
    value: bytes | None
    invalid: InvalidBatch | None = None
    """Why the bytes are no record; None for a valid record. With a reason, `offset` is the last
    offset that the bytes take up, and `value` has their beginning."""
    headers: RecordHeaders = ()
    """The headers that messages carry."""


@attrs.frozen
class Batch:
    """Records in delivery order: by offset in each partition.

    `passed`: by partition the last offset that is skipped with them if it has no record: a
    transaction marker, or a record removed by compaction.
    """

    records: Sequence[Record]
    passed: Mapping[TopicPartition, int] = attrs.field(factory=dict)


class GapReason(StrEnum):
    """Why a source does not continue after the last record of a partition."""

    EXPIRED = "expired"
    """Forward: retention deleted records before the source had read them."""

    RECREATED = "recreated"
    """To the beginning: the topic was deleted and recreated with another topic id."""

    TRUNCATED = "truncated"
    """Back: a leader without the log's last records was elected, and they are gone from the log.
    They were delivered, and other records have their offsets now."""


@attrs.frozen
class Assignment:
    """The partitions that a source reads from now on."""

    positions: Mapping[TopicPartition, int]
    """By partition the offset of the last record *before* the first one that will be delivered; -1
    if that is offset 0."""
    partial: bool = False
    """True if other instances serve the remaining partitions."""
    history: Mapping[TopicPartition, int] = attrs.field(factory=dict)
    """For partitions with history, the offset before its first record. Records up to `positions`
    are remembered, not delivered; they may come between newer ones. A HistoryEnd follows the
    last."""
    topic_ids: Mapping[str, str] = attrs.field(factory=dict)
    """The id of each topic (Kafka's UUID as 32 hexadecimal digits) if brokers have ids."""
    gaps: Mapping[TopicPartition, GapReason] = attrs.field(factory=dict)
    """The partitions that do not continue after their last record, and why; `positions` has the new
    position."""


@attrs.frozen
class HistoryEnd:
    """All of the last assignment's history was sent."""


# The items that a source sends.
Item = Assignment | Batch | HistoryEnd
