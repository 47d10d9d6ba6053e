"""ListOffsets and OffsetForLeaderEpoch: first and end offsets, offsets by time, ends of epochs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from odin_ws.kafka.protocol.base import (
    CONSUMER,
    NO_EPOCH,
    Api,
    EncodedRequest,
    UnsupportedVersion,
    Versions,
    read_topics,
    write_topics,
)
from odin_ws.records import TopicPartition

__all__ = [
    "EARLIEST",
    "EARLIEST_LOCAL",
    "LATEST",
    "MAX_TIMESTAMP",
    "EpochEndOffset",
    "ListOffsetsRequest",
    "OffsetForLeaderEpochRequest",
    "OffsetFound",
]

_LIST_OFFSETS: Final = Api("ListOffsets", 2, 1, 8, 6)
_OFFSET_FOR_LEADER_EPOCH: Final = Api("OffsetForLeaderEpoch", 23, 2, 4, 4)

# Special timestamps of ListOffsets. YOUNGEST stands for the record with the highest timestamp, from
# version 7 on (KIP-734). EARLIEST_LOCAL stands for the first record on the broker's own disks, from
# version 8 on: earlier records are in remote storage (KIP-405).
LATEST: Final = -1
EARLIEST: Final = -2
MAX_TIMESTAMP: Final = -3
EARLIEST_LOCAL: Final = -4
_MAX_TIMESTAMP_SINCE: Final = 7
_EARLIEST_LOCAL_SINCE: Final = 8

_OFFSET_NOT_AVAILABLE: Final = 78

_READ_UNCOMMITTED: Final = 0
_READ_COMMITTED: Final = 1


@attrs.frozen
class OffsetFound:
    """The response of an offset query for one partition."""

    error: int
    """Kafka's code; 0 for none."""
    offset: int
    """-1 if no record is that young."""
    epoch: int = NO_EPOCH
    """The leader epoch of the record at `offset`, at the end of the log that of the leader; -1
    before version 4 and if unknown to the broker."""
    timestamp: int = -1
    """The timestamp of the record at `offset`, epoch ms; -1 at the beginning and at the end."""


@attrs.frozen
class ListOffsetsRequest:
    """Requests by partition the offset of a time (epoch ms), EARLIEST or LATEST.

    LATEST is the high watermark, which includes records of open transactions. With `committed` it
    is the last stable offset, where a fetch of committed records ends.
    """

    times: Mapping[TopicPartition, int]
    committed: bool = False

    def encode(self, versions: Versions) -> EncodedRequest:
        """See KafkaRequest."""
        version = _LIST_OFFSETS.choose(versions, _LIST_OFFSETS.highest)
        if version < _MAX_TIMESTAMP_SINCE and MAX_TIMESTAMP in self.times.values():
            raise UnsupportedVersion(
                "the broker cannot look up the newest record (ListOffsets below 7)"
            )
        if version < _EARLIEST_LOCAL_SINCE and EARLIEST_LOCAL in self.times.values():
            raise UnsupportedVersion(
                "the broker cannot look up the oldest record on its disks (ListOffsets below 8)"
            )
        writer = _LIST_OFFSETS.writer(version)

        def write_partition(partition_entry: tuple[int, int]) -> None:
            writer.int32(partition_entry[0])
            if version >= 4:
                writer.int32(NO_EPOCH)
            writer.int64(partition_entry[1])
            writer.tags()

        writer.int32(CONSUMER)
        if version >= 2:
            writer.int8(_READ_COMMITTED if self.committed else _READ_UNCOMMITTED)
        write_topics(writer, self.times, write_partition)
        return _LIST_OFFSETS.request(version, writer)

    def decode(self, version: int, body: bytes) -> dict[TopicPartition, OffsetFound]:
        """See KafkaRequest."""
        reader = _LIST_OFFSETS.reader(version, body)

        def read_partition() -> tuple[int, OffsetFound]:
            partition, error = reader.int32(), reader.int16()
            timestamp, offset = reader.int64(), reader.int64()
            epoch = reader.int32() if version >= 4 else NO_EPOCH
            reader.tags()
            return partition, OffsetFound(error, offset, epoch, timestamp)

        if version >= 2:
            reader.int32()  # throttle time
        found = read_topics(reader, read_partition)
        return {key: self._checked(key, one) for key, one in found.items()}

    def _checked(self, key: TopicPartition, found: OffsetFound) -> OffsetFound:
        """Return an error for a missing end or beginning: each log has both.

        A reader that begins at -1 would be sent to the beginning of the log.
        """
        if found.error or found.offset >= 0 or self.times.get(key) not in {LATEST, EARLIEST}:
            return found
        return OffsetFound(_OFFSET_NOT_AVAILABLE, -1)


@attrs.frozen
class EpochEndOffset:
    """The end of a leader epoch in one partition."""

    error: int
    """Kafka's code; 0 for none."""
    epoch: int
    """The highest epoch at or below the requested one; -1 if the log has none."""
    offset: int
    """The offset after the last record of that epoch."""


@attrs.frozen
class OffsetForLeaderEpochRequest:
    """Requests by partition the end of a leader epoch; `current`: the leader's own epoch."""

    epochs: Mapping[TopicPartition, int]
    current: Mapping[TopicPartition, int]

    def encode(self, versions: Versions) -> EncodedRequest:
        """See KafkaRequest."""
        version = _OFFSET_FOR_LEADER_EPOCH.choose(versions, _OFFSET_FOR_LEADER_EPOCH.highest)
        writer = _OFFSET_FOR_LEADER_EPOCH.writer(version)

        def write_partition(partition_entry: tuple[int, tuple[int, int]]) -> None:
            partition, (current, epoch) = partition_entry
            writer.int32(partition, current, epoch)
            writer.tags()

        if version >= 3:
            writer.int32(CONSUMER)
        epochs = {
            key: (self.current.get(key, NO_EPOCH), epoch) for key, epoch in self.epochs.items()
        }
        write_topics(writer, epochs, write_partition)
        return _OFFSET_FOR_LEADER_EPOCH.request(version, writer)

    def decode(self, version: int, body: bytes) -> dict[TopicPartition, EpochEndOffset]:
        """See KafkaRequest."""
        reader = _OFFSET_FOR_LEADER_EPOCH.reader(version, body)

        def read_partition() -> tuple[int, EpochEndOffset]:
            error, partition = reader.int16(), reader.int32()
            epoch, offset = reader.int32(), reader.int64()
            reader.tags()
            # An epoch without an end would be a truncation of the whole log.
            return partition, EpochEndOffset(error, epoch if offset >= 0 else NO_EPOCH, offset)

        reader.int32()  # throttle time
        return read_topics(reader, read_partition)
