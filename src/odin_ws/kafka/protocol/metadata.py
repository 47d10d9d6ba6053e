"""Metadata: the brokers, and the leaders of the partitions of topics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import attrs

from odin_ws.kafka.protocol.base import NO_EPOCH, Api, EncodedRequest, Versions
from odin_ws.kafka.protocol.permissions import Permissions, read_permissions
from odin_ws.kafka.protocol.wire import Reader

__all__ = ["BrokerAddress", "Metadata", "MetadataRequest", "PartitionLayout", "TopicLayout"]

_METADATA: Final = Api("Metadata", 3, 4, 12, 9)

# Earlier versions may return an old leader's epoch (KAFKA-9212).
_TRUSTED_EPOCHS: Final = 9


class BrokerAddress(NamedTuple):
    """The address that a broker advertises."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@attrs.frozen
class PartitionLayout:
    """The metadata of one partition."""

    leader: int | None
    """Node id; None without a leader."""
    epoch: int
    """The leader epoch; -1 if unknown."""
    error: int
    """Kafka's code; 0 for none."""


@attrs.frozen
class TopicLayout:
    """The metadata of one topic."""

    error: int
    """Kafka's code; 0 for none."""
    topic_id: str | None
    """32 hexadecimal digits; None from brokers without ids."""
    partitions: Mapping[int, PartitionLayout]
    permissions: Permissions | None = None
    """Our permissions, if requested and returned by the broker."""


@attrs.frozen
class Metadata:
    """The brokers by node id, and the requested topics by name."""

    brokers: Mapping[int, BrokerAddress]
    topics: Mapping[str, TopicLayout]


@attrs.frozen
class MetadataRequest:
    """Requests the brokers and the leaders of these topics' partitions; creates no topic.

    `permissions`: request the user's permissions for the topics too, from version 8 on.
    """

    topics: Sequence[str]
    permissions: bool = False

    def encode(self, versions: Versions) -> EncodedRequest:
        """See KafkaRequest."""
        version = _METADATA.choose(versions, _METADATA.highest)
        writer = _METADATA.writer(version)

        def write_topic(name: str) -> None:
            if version >= 10:
                writer.topic_id(None)
            writer.text(name)
            writer.tags()

        writer.array(self.topics, write_topic)
        writer.int8(0)  # no automatic creation
        if 8 <= version <= 10:
            writer.int8(0)  # no authorized operations of the cluster
        if version >= 8:
            writer.int8(self.permissions)  # those of topics
        return _METADATA.request(version, writer)

    def decode(self, version: int, body: bytes) -> Metadata:
        """See KafkaRequest."""
        reader = _METADATA.reader(version, body)

        def read_broker() -> tuple[int, BrokerAddress]:
            node, host, port = reader.int32(), reader.text() or "", reader.int32()
            reader.text()  # rack
            reader.tags()
            return node, BrokerAddress(host, port)

        reader.int32()  # throttle time
        brokers = dict(reader.array(read_broker))
        reader.text()  # cluster id
        reader.int32()  # controller
        topics = reader.array(lambda: _read_topic(reader, version, permissions=self.permissions))
        return Metadata(brokers, {name: layout for name, layout in topics if name is not None})


def _read_topic(
    reader: Reader, version: int, *, permissions: bool
) -> tuple[str | None, TopicLayout]:
    error = reader.int16()
    name = reader.text()
    topic_id = reader.topic_id() if version >= 10 else None
    reader.boolean()  # internal
    partitions = dict(reader.array(lambda: _read_partition_layout(reader, version)))
    operations = reader.int32() if version >= 8 else None
    reader.tags()
    known = read_permissions(operations) if permissions and operations is not None else None
    return name, TopicLayout(error, topic_id, partitions, known)


def _read_partition_layout(reader: Reader, version: int) -> tuple[int, PartitionLayout]:
    error, partition, leader = reader.int16(), reader.int32(), reader.int32()
    epoch = reader.int32() if version >= 7 else NO_EPOCH
    # Replicas, in-sync replicas, and from version 5 on offline replicas.
    for _ in range(3 if version >= 5 else 2):
        reader.array(reader.int32)
    reader.tags()
    trusted = epoch if version >= _TRUSTED_EPOCHS else NO_EPOCH
    return partition, PartitionLayout(leader if leader >= 0 else None, trusted, error)
