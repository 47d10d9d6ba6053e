"""Permissions and topic settings: DescribeConfigs, DescribeGroups, and operations in Metadata."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import IntEnum
from typing import Final

import attrs

from odin_ws.kafka.protocol.base import Api, EncodedRequest, Versions
from odin_ws.kafka.protocol.wire import Reader

__all__ = [
    "DescribeConfigsRequest",
    "DescribeGroupRequest",
    "GroupPermissions",
    "Operation",
    "Permissions",
    "TopicConfig",
    "read_permissions",
]

_DESCRIBE_GROUPS: Final = Api("DescribeGroups", 15, 3, 5, 5)
_DESCRIBE_CONFIGS: Final = Api("DescribeConfigs", 32, 1, 4, 4)

_OF_TOPICS: Final = 2

# The broker's value for "not returned".
_UNKNOWN: Final = -(1 << 31)


class Operation(IntEnum):
    """Operations of a principal; each is a bit in the broker's response."""

    READ = 3
    WRITE = 4
    DESCRIBE = 8
    DESCRIBE_CONFIGS = 10


Permissions = frozenset[Operation]
"""The known operations that we may do."""


def read_permissions(bits: int) -> Permissions | None:
    """Return the permissions in a response; None if the broker does not return them."""
    if bits == _UNKNOWN:
        return None
    return frozenset(operation for operation in Operation if bits >> operation & 1)


@attrs.frozen
class TopicConfig:
    """The settings of one topic."""

    error: int
    """Kafka's code; 0 for none."""
    values: Mapping[str, str | None]
    """Settings by name."""


@attrs.frozen
class DescribeConfigsRequest:
    """Requests some settings of topics."""

    topics: Collection[str]
    names: Sequence[str]

    def encode(self, versions: Versions) -> EncodedRequest:
        """See KafkaRequest."""
        version = _DESCRIBE_CONFIGS.choose(versions, _DESCRIBE_CONFIGS.highest)
        writer = _DESCRIBE_CONFIGS.writer(version)

        def write_topic(name: str) -> None:
            writer.int8(_OF_TOPICS)
            writer.text(name)
            writer.array(self.names, writer.text)
            writer.tags()

        writer.array(self.topics, write_topic)
        writer.int8(0)  # without synonyms
        if version >= 3:
            writer.int8(0)  # nor documentation
        return _DESCRIBE_CONFIGS.request(version, writer)

    def decode(self, version: int, body: bytes) -> dict[str, TopicConfig]:
        """See KafkaRequest."""
        reader = _DESCRIBE_CONFIGS.reader(version, body)

        def read_topic() -> tuple[str, TopicConfig]:
            error = reader.int16()
            reader.text()  # the error in words
            reader.boolean()  # the kind of resource
            name = reader.text() or ""
            values = dict(reader.array(lambda: _read_value(reader, version)))
            reader.tags()
            return name, TopicConfig(error, values)

        reader.int32()  # throttle time
        return dict(reader.array(read_topic))


def _read_value(reader: Reader, version: int) -> tuple[str, str | None]:
    name, value = reader.text() or "", reader.text()
    # Read only; the source, as a byte; sensitive.
    for _ in range(3):
        reader.boolean()

    def read_synonym() -> None:
        reader.text()
        reader.text()
        reader.boolean()
        reader.tags()

    reader.array(read_synonym)
    if version >= 3:
        reader.boolean()  # the type, as a byte
        reader.text()  # documentation
    reader.tags()
    return name, value


@attrs.frozen
class GroupPermissions:
    """Our permissions on a consumer group."""

    error: int
    """Kafka's code; 0 for none."""
    permissions: Permissions | None
    """None if the broker does not return them."""


@attrs.frozen
class DescribeGroupRequest:
    """Requests our permissions on a consumer group from its coordinator."""

    group: str

    def encode(self, versions: Versions) -> EncodedRequest:
        """See KafkaRequest."""
        version = _DESCRIBE_GROUPS.choose(versions, _DESCRIBE_GROUPS.highest)
        writer = _DESCRIBE_GROUPS.writer(version)
        writer.array([self.group], writer.text)
        writer.int8(1)  # with authorized operations
        return _DESCRIBE_GROUPS.request(version, writer)

    def decode(self, version: int, body: bytes) -> GroupPermissions | None:
        """See KafkaRequest. None if the response has no group."""
        reader = _DESCRIBE_GROUPS.reader(version, body)

        def read_member() -> None:
            # Its id, from version 4 on that of its instance, client id, and host.
            for _ in range(4 if version >= 4 else 3):
                reader.text()
            reader.data()  # metadata
            reader.data()  # assignment
            reader.tags()

        def read_group() -> GroupPermissions:
            error = reader.int16()
            # Its id, state, kind of protocol, and protocol.
            for _ in range(4):
                reader.text()
            reader.array(read_member)
            permissions = read_permissions(reader.int32())
            reader.tags()
            return GroupPermissions(error, permissions)

        reader.int32()  # throttle time
        return next(iter(reader.array(read_group)), None)
