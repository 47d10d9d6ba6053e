"""The common part of all requests: version negotiation, partitions grouped by topic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol, TypeVar

import attrs

from odin_ws.kafka.protocol.wire import Reader, Writer
from odin_ws.records import TopicPartition

__all__ = [
    "CONSUMER",
    "NO_EPOCH",
    "Api",
    "EncodedRequest",
    "KafkaRequest",
    "UnsupportedVersion",
    "Versions",
    "read_topics",
    "write_topics",
]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Versions = Mapping[int, tuple[int, int]]
"""By API key the lowest and highest version that a broker supports."""

NO_EPOCH: Final = -1
"""Stands for an unknown leader epoch."""

CONSUMER: Final = -1
"""The replica id of clients."""


@attrs.frozen
class EncodedRequest:
    """An encoded request. `flexible`: its headers have tagged fields (KIP-482)."""

    api_key: int
    api_version: int
    flexible: bool
    body: bytes


class UnsupportedVersion(Exception):
    """The broker supports no version of a request that this module has; the text lists both."""


class KafkaRequest(Protocol[T_co]):
    """A request and how to read its response."""

    def encode(self, versions: Versions) -> EncodedRequest:
        """Write the request for a broker with these versions. Raises UnsupportedVersion."""
        ...

    def decode(self, version: int, body: bytes) -> T_co:
        """Read the response. Raises MalformedResponse."""
        ...


@attrs.frozen
class Api:
    """One of Kafka's APIs: its key, the versions known here, and the first that is flexible."""

    name: str
    key: int
    lowest: int
    highest: int
    flexible_from: int

    def choose(self, versions: Versions, highest: int) -> int:
        """Return the highest version that the broker also supports. Raises UnsupportedVersion."""
        first, last = versions.get(self.key, (0, -1))
        version = min(last, highest)
        if version < max(first, self.lowest):
            known = f"{first} to {last}" if first <= last else "none"
            raise UnsupportedVersion(
                f"the broker supports versions {known} of {self.name} requests; "
                f"odin-ws sends {self.lowest} to {self.highest}"
            )
        return version

    def writer(self, version: int) -> Writer:
        """Return a writer for a request of a version."""
        return Writer(flexible=version >= self.flexible_from)

    def reader(self, version: int, body: bytes) -> Reader:
        """Return a reader for a response of a version."""
        return Reader(body, flexible=version >= self.flexible_from)

    def request(self, version: int, writer: Writer) -> EncodedRequest:
        """Finish a request; returns it encoded."""
        writer.tags()
        return EncodedRequest(self.key, version, writer.flexible, writer.body)


def write_topics(
    writer: Writer,
    partitions: Mapping[TopicPartition, T],
    write_partition: Callable[[tuple[int, T]], None],
) -> None:
    """Write an array of topics, each with an array of its partitions."""

    def write_topic(topic_entry: tuple[str, list[tuple[int, T]]]) -> None:
        writer.text(topic_entry[0])
        writer.array(topic_entry[1], write_partition)
        writer.tags()

    topics: dict[str, list[tuple[int, T]]] = {}
    for key, value in partitions.items():
        topics.setdefault(key.topic, []).append((key.partition, value))
    writer.array(topics.items(), write_topic)


def read_topics(
    reader: Reader, read_partition: Callable[[], tuple[int, T]]
) -> dict[TopicPartition, T]:
    """Read an array of topics, each with an array of its partitions."""

    def read_topic() -> list[tuple[TopicPartition, T]]:
        topic = reader.text() or ""
        found = reader.array(read_partition)
        reader.tags()
        return [(TopicPartition(topic, partition), value) for partition, value in found]

    return {key: value for topic_values in reader.array(read_topic) for key, value in topic_values}
