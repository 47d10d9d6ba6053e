"""FindCoordinator and OffsetFetch: the committed offsets of a consumer group."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import attrs

from odin_ws.kafka.protocol.base import Api, EncodedRequest, Versions, read_topics, write_topics
from odin_ws.records import TopicPartition

__all__ = [
    "CommittedOffset",
    "CommittedOffsets",
    "Coordinator",
    "FindCoordinatorRequest",
    "OffsetFetchRequest",
]

_FIND_COORDINATOR: Final = Api("FindCoordinator", 10, 0, 2, 3)
_OFFSET_FETCH: Final = Api("OffsetFetch", 9, 1, 5, 6)

_OF_GROUPS: Final = 0


@attrs.frozen
class Coordinator:
    """The response with the coordinator of a group."""

    error: int
    """Kafka's code; 0 for none."""
    node: int
    """The id of the broker that coordinates the group."""


@attrs.frozen
class FindCoordinatorRequest:
    """Requests the coordinator of a consumer group."""

    group: str

    def encode(self, versions: Versions) -> EncodedRequest:
        """See KafkaRequest."""
        version = _FIND_COORDINATOR.choose(versions, _FIND_COORDINATOR.highest)
        writer = _FIND_COORDINATOR.writer(version)
        writer.text(self.group)
        if version >= 1:
            writer.int8(_OF_GROUPS)
        return _FIND_COORDINATOR.request(version, writer)

    def decode(self, version: int, body: bytes) -> Coordinator:
        """See KafkaRequest."""
        reader = _FIND_COORDINATOR.reader(version, body)
        if version >= 1:
            reader.int32()  # throttle time
        error = reader.int16()
        if version >= 1:
            reader.text()  # error message
        return Coordinator(error, reader.int32())


@attrs.frozen
class CommittedOffset:
    """The committed offset of one partition."""

    error: int
    """Kafka's code; 0 for none."""
    offset: int
    """The offset of the next record; -1 if nothing is stored."""
    metadata: str = ""
    """The text that was committed with the offset."""


@attrs.frozen
class CommittedOffsets:
    """`error`: Kafka's code for the whole response: with one, `partitions` is meaningless."""

    error: int
    partitions: dict[TopicPartition, CommittedOffset]


@attrs.frozen
class OffsetFetchRequest:
    """Requests the committed offsets of a consumer group."""

    group: str
    partitions: Collection[TopicPartition]

    def encode(self, versions: Versions) -> EncodedRequest:
        """See KafkaRequest."""
        version = _OFFSET_FETCH.choose(versions, _OFFSET_FETCH.highest)
        writer = _OFFSET_FETCH.writer(version)
        writer.text(self.group)
        write_topics(
            writer, dict.fromkeys(self.partitions), lambda partition: writer.int32(partition[0])
        )
        return _OFFSET_FETCH.request(version, writer)

    def decode(self, version: int, body: bytes) -> CommittedOffsets:
        """See KafkaRequest."""
        reader = _OFFSET_FETCH.reader(version, body)

        def read_partition() -> tuple[int, CommittedOffset]:
            partition, offset = reader.int32(), reader.int64()
            if version >= 5:
                reader.int32()  # leader epoch
            metadata = reader.text() or ""
            return partition, CommittedOffset(reader.int16(), offset, metadata)

        if version >= 3:
            reader.int32()  # throttle time
        partitions = read_topics(reader, read_partition)
        return CommittedOffsets(reader.int16() if version >= 2 else 0, partitions)
