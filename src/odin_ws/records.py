"""Records, batches, assignments and offset gaps: what a source hands to the hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
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
    "TopicPartition",
]


class TopicPartition(NamedTuple):
    """One partition of one Kafka topic."""

    topic: str
    partition: int


class InvalidBatch(StrEnum):
    """Why bytes that a broker sent make no records."""

    CORRUPT_BATCH = "corrupt_batch"
    """The checksum is wrong, or the header makes no sense, also after a second fetch."""

    BAD_COMPRESSION = "bad_compression"
    """The codec is unknown, or its library cannot decompress the batch."""

    BATCH_TOO_LARGE = "batch_too_large"
    """The batch decompresses to more bytes, or holds more records, than one batch may have."""

    MALFORMED_BATCH = "malformed_batch"
    """The checksum is right, but the batch does not hold the records that its header names."""

    MALFORMED_RECORD = "malformed_record"
    """One record of a batch is malformed; the others of the batch are delivered."""


@attrs.define(eq=False)
class Record:
    """One Kafka record, as the broker gave it; nothing is decoded yet.

    `offset` is the record's place in its partition, `timestamp` the broker's epoch milliseconds;
    -1 for a record that has none. `invalid`: these bytes are no record, and why; `offset` is then
    the last offset they take up, and `value` has their beginning.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    invalid: InvalidBatch | None = None


@attrs.frozen
class Batch:
    """Records in the order they are to be delivered: by offset in each partition.

    `passed`: by partition the last offset that is passed with them, where that holds no record: a
    transaction's marker, or what compaction left out.
    """

    records: Sequence[Record]
    passed: Mapping[TopicPartition, int] = attrs.field(factory=dict)


class GapReason(StrEnum):
    """Why a source does not go on behind the last record of a partition."""

    EXPIRED = "expired"
    """Forward: retention deleted records before the source had read them."""

    RECREATED = "recreated"
    """To the beginning: the topic was deleted and created again, and has another topic id."""

    TRUNCATED = "truncated"
    """Back: a leader without the log's last records was elected, and they are gone from the log.
    They were delivered, and others have their offsets now."""


@attrs.frozen
class Assignment:
    """The partitions a source reads from now on.

    `positions` gives for each the offset of the last record *before* the first one that will be
    delivered (-1 where that is offset 0). `partial` says that other instances serve the rest.
    `history` gives, for partitions of which the past is read too, the offset before its first
    record: records up to `positions` are to be remembered, not delivered. They may come among
    newer ones; a HistoryEnd tells that all have come.

    `topic_ids` gives the id of each topic (Kafka's UUID as 32 hexadecimal digits) where the brokers
    have ids. `gaps` gives the partitions that do not go on behind their last record, and why; the
    new position is in `positions`.
    """

    positions: Mapping[TopicPartition, int]
    partial: bool = False
    history: Mapping[TopicPartition, int] = attrs.field(factory=dict)
    topic_ids: Mapping[str, str] = attrs.field(factory=dict)
    gaps: Mapping[TopicPartition, GapReason] = attrs.field(factory=dict)


@attrs.frozen
class HistoryEnd:
    """All of the last assignment's history has come."""


# What a source hands on.
Item = Assignment | Batch | HistoryEnd
