"""Fetch: the records of partitions, with or without a session."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import attrs

from odin_ws.kafka.protocol.base import CONSUMER, NO_EPOCH, Api, EncodedRequest, Versions
from odin_ws.kafka.protocol.wire import Reader, Writer
from odin_ws.records import TopicPartition

__all__ = ["FetchFrom", "FetchRequest", "FetchResponse", "FetchedPartition"]

_FETCH: Final = Api("Fetch", 1, 4, 13, 12)

# From version 13 on a fetch identifies topics only by their ids.
_LAST_FETCH_BY_NAME: Final = 12

_READ_COMMITTED: Final = 1
_NO_LOG_START: Final = -1
_NO_RACK: Final = ""


class FetchFrom(NamedTuple):
    """The fetch position of one partition. `epoch`: of the leader, -1 if unknown."""

    offset: int
    epoch: int
    max_bytes: int


@attrs.frozen
class FetchRequest:
    """One fetch, with or without a session."""

    wait_seconds: float
    """Seconds after which the broker responds with fewer bytes than `min_bytes`."""
    min_bytes: int
    """The broker responds as soon as it has this many bytes."""
    max_bytes: int
    """Limit of the whole response."""
    session: int
    """The session id: see odin_ws.kafka.fetch_session."""
    epoch: int
    """The session epoch."""
    changed: Mapping[TopicPartition, FetchFrom]
    """Partitions to add or move."""
    forgotten: Iterable[TopicPartition]
    """Partitions to remove."""
    topic_ids: Mapping[str, str | None]
    """Ids by topic name; if one is missing, the request uses names."""

    @property
    def by_id(self) -> bool:
        """True if all topics have ids: otherwise the request uses names."""
        return bool(self.topic_ids) and all(self.topic_ids.values())

    def encode(self, versions: Versions) -> EncodedRequest:
        """See KafkaRequest."""
        highest = _FETCH.highest if self.by_id else _LAST_FETCH_BY_NAME
        version = _FETCH.choose(versions, highest)
        writer = _FETCH.writer(version)
        writer.int32(CONSUMER, round(self.wait_seconds * 1000), self.min_bytes, self.max_bytes)
        writer.int8(_READ_COMMITTED)
        if version >= 7:
            writer.int32(self.session, self.epoch)
        self._write_changed(writer, version)
        if version >= 7:
            self._write_forgotten(writer, version)
        if version >= 11:
            writer.text(_NO_RACK)
        return _FETCH.request(version, writer)

    def _write_changed(self, writer: Writer, version: int) -> None:
        def write_partition(entry: tuple[int, FetchFrom]) -> None:
            partition, (offset, epoch, max_bytes) = entry
            writer.int32(partition)
            if version >= 9:
                writer.int32(epoch)
            writer.int64(offset)
            if version >= 12:
                writer.int32(NO_EPOCH)  # of the last record: see EpochEndsRequest
            if version >= 5:
                writer.int64(_NO_LOG_START)
            writer.int32(max_bytes)
            writer.tags()

        def write_topic(entry: tuple[str, list[tuple[int, FetchFrom]]]) -> None:
            self._write_name(writer, version, entry[0])
            writer.array(entry[1], write_partition)
            writer.tags()

        topics: dict[str, list[tuple[int, FetchFrom]]] = {}
        for key, where in self.changed.items():
            topics.setdefault(key.topic, []).append((key.partition, where))
        writer.array(topics.items(), write_topic)

    def _write_forgotten(self, writer: Writer, version: int) -> None:
        def write_topic(entry: tuple[str, list[int]]) -> None:
            self._write_name(writer, version, entry[0])
            writer.array(entry[1], writer.int32)
            writer.tags()

        topics: dict[str, list[int]] = {}
        for key in self.forgotten:
            topics.setdefault(key.topic, []).append(key.partition)
        writer.array(topics.items(), write_topic)

    def _write_name(self, writer: Writer, version: int, topic: str) -> None:
        if version > _LAST_FETCH_BY_NAME:
            writer.topic_id(self.topic_ids.get(topic))
        else:
            writer.text(topic)

    def decode(self, version: int, body: bytes) -> FetchResponse:
        """See KafkaRequest."""
        reader = _FETCH.reader(version, body)
        names = {topic_id: name for name, topic_id in self.topic_ids.items()}
        by_id = version > _LAST_FETCH_BY_NAME

        def read_topic() -> list[FetchedPartition]:
            # Partitions of an unrequested id are skipped: their topic is unknown.
            name = names.get(reader.topic_id()) if by_id else reader.text()
            found = reader.array(lambda: _read_fetched(reader, version, name or ""))
            reader.tags()
            return found if name is not None else []

        throttle_ms = reader.int32()
        error, session = (reader.int16(), reader.int32()) if version >= 7 else (0, 0)
        partitions = [
            entry for topic_partitions in reader.array(read_topic) for entry in topic_partitions
        ]
        return FetchResponse(error, session, partitions, throttle_ms / 1000, by_id)


@attrs.frozen
class FetchedPartition:
    """The part of a fetch response for one partition."""

    key: TopicPartition
    error: int
    """Kafka's code; 0 for none."""
    high_watermark: int
    """The offset after the last record; -1 with an error."""
    last_stable_offset: int
    """As `high_watermark`, without the records of open transactions."""
    aborted: Sequence[tuple[int, int]]
    """Producer id and first offset of each aborted transaction in `data`."""
    data: bytes
    """Whole batches, and possibly the beginning of another."""


@attrs.frozen
class FetchResponse:
    """The response to a fetch."""

    error: int
    """Kafka's code for the whole response; 0 for none."""
    session: int
    """The session id; 0 if the broker keeps none."""
    partitions: Sequence[FetchedPartition]
    throttle_seconds: float = 0.0
    """Because of a quota the broker reads no request of this connection for this time (KIP-219)."""
    by_id: bool = True
    """True if topics are identified by their ids."""


# Partition, error, high watermark, last stable offset; from version 5 on the start of the log.
_FETCHED_V4: Final = struct.Struct(">ihqq")
_FETCHED_V5: Final = struct.Struct(">ihqqq")
_ABORTED: Final = struct.Struct(">qq")


def _read_fetched(reader: Reader, version: int, topic: str) -> FetchedPartition:
    def read_aborted() -> tuple[int, int]:
        producer, first = reader.numbers(_ABORTED)
        reader.tags()
        return producer, first

    layout = _FETCHED_V5 if version >= 5 else _FETCHED_V4
    partition, error, high_watermark, last_stable_offset, *_log_start = reader.numbers(layout)
    aborted = reader.array(read_aborted)
    if version >= 11:
        reader.int32()  # the preferred read replica, for requests with a rack
    data = reader.data()
    reader.tags()
    key = TopicPartition(topic, partition)
    return FetchedPartition(key, error, high_watermark, last_stable_offset, aborted, data)
