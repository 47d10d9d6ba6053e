"""The state of a cluster in memory, and what tests change in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs
import trio

from odin_ws.kafka.protocol import (
    BrokerAddress,
    EpochEndOffset,
    FetchRequest,
)
from odin_ws.records import TopicPartition
from tests.kafka.fake_group import GroupOffsets
from tests.kafka.fake_log import FakeLog
from tests.kafka.fake_sessions import FetchSessions

__all__ = ["ClusterState", "Sent", "new_id"]


def new_id(number: int) -> str:
    """Return the id of the topic with this number."""
    return f"{number:032x}"


@attrs.frozen
class Sent:
    """A request that a broker received."""

    at: float
    """The time by Trio's clock."""
    node: int
    """The broker's id."""
    request: Any


def _copied(leaders: Mapping[TopicPartition, int | None]) -> dict[TopicPartition, int | None]:
    return dict(leaders)


@attrs.define(eq=False)
class ClusterState:
    """Brokers 0, 1 and 2, the records that a test publishes, and the failures that it chooses."""

    leaders: dict[TopicPartition, int | None] = attrs.field(converter=_copied)
    """The leader of each partition; None for no leader."""
    logs: dict[TopicPartition, FakeLog] = attrs.field(factory=dict)
    """The log of each partition."""
    topic_ids: dict[str, str] = attrs.field(factory=dict)
    """The id of each topic."""
    down: set[int] = attrs.field(factory=set)
    """Brokers that reject connections."""
    hanging: set[int] = attrs.field(factory=set)
    """Brokers that do not respond."""
    errors: dict[TopicPartition, int] = attrs.field(factory=dict)
    """Error codes of partitions in fetch responses."""
    query_errors: dict[TopicPartition, int] = attrs.field(factory=dict)
    """Error codes of partitions in responses to ListOffsets and OffsetForLeaderEpoch."""
    undated: set[TopicPartition] = attrs.field(factory=set)
    """Partitions whose records have no timestamps, so that ListOffsets of a time fails forever."""
    without_list_offsets: set[int] = attrs.field(factory=set)
    """Brokers that support no version of ListOffsets that is used."""
    fetch_errors: dict[int, int] = attrs.field(factory=dict)
    """Error codes of whole fetch responses, by broker."""
    hidden: set[str] = attrs.field(factory=set)
    """Topics that do not exist according to the metadata."""
    left_out: set[str] = attrs.field(factory=set)
    """Topics that are missing in the metadata."""
    astray: set[int] = attrs.field(factory=set)
    """Brokers whose advertised names do not resolve."""
    denied: set[str] = attrs.field(factory=set)
    """Topics for which the client has no permission to describe."""
    topic_errors: dict[str, int] = attrs.field(factory=dict)
    """Error codes of topics in the metadata."""
    out_of_range: dict[TopicPartition, int] = attrs.field(factory=dict)
    """The number of remaining fetches of a partition that fail with OFFSET_OUT_OF_RANGE without
    cause."""
    throttles: dict[int, float] = attrs.field(factory=dict)
    """Seconds by which a quota delays each fetch, by broker."""
    mutes: bool = True
    """Whether a delay applies; otherwise a response only claims it."""
    fetches_by_name: bool = False
    """Whether brokers have topic ids, but support no Fetch of version 13."""
    early_ends: dict[TopicPartition, list[EpochEndOffset]] = attrs.field(factory=dict)
    """Responses to OffsetForLeaderEpoch with an end offset that is too small, by partition."""
    ids_in_metadata: bool = True
    """Whether metadata has topic ids; without them it is of a broker that is not upgraded yet."""
    has_ids: bool = True
    """Whether the brokers' version has topic ids."""
    has_epochs: bool = True
    """Whether the brokers' version has leader epochs."""
    has_sessions: bool = True
    """Whether the brokers keep fetch sessions."""
    answers_epoch_ends: bool = True
    """Whether the brokers support OffsetForLeaderEpoch."""
    sends_whole: bool = True
    """Whether the first batch of a response is complete even above the size limit, as in Kafka."""
    knows_local: bool = True
    """Whether brokers return the first offset on their disks (EARLIEST_LOCAL)."""
    metadata_fails: bool = False
    """Whether metadata requests fail."""
    metadata_seconds: float = 0.0
    """The delay of metadata responses in seconds."""
    group: GroupOffsets = attrs.field(factory=GroupOffsets)
    sent: list[Sent] = attrs.field(factory=list)
    """All requests so far."""
    metadata_requests: list[float] = attrs.field(factory=list)
    """The times of the metadata requests."""
    brokers: Mapping[int, BrokerAddress] = attrs.field(
        factory=lambda: {node: BrokerAddress(f"kafka-{node}", 9092) for node in range(3)}
    )
    addresses: tuple[str, ...] = ("kafka-0:9092",)
    _sessions: FetchSessions = attrs.field(factory=FetchSessions)
    _muted_until: dict[int, float] = attrs.field(factory=dict)
    _changed: trio.Event = attrs.field(factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        for key in self.leaders:
            self.logs.setdefault(key, FakeLog())
            self.topic_ids.setdefault(key.topic, new_id(len(self.topic_ids) + 1))

    # ---- for tests

    def publish(self, key: TopicPartition, count: int = 1, **options: Any) -> None:
        """Append records in one batch; the value of each record has the record's offset."""
        log = self.logs[key]
        log.append([b'{"n":%d}' % (log.end + number) for number in range(count)], **options)
        self.change()

    def publish_each(self, key: TopicPartition, count: int) -> None:
        """Append records, each in a batch of its own."""
        for _ in range(count):
            self.publish(key)

    def publish_large(self, key: TopicPartition, size: int, count: int = 1) -> None:
        """Append records of `size` bytes, each in a batch of its own."""
        for _ in range(count):
            self.logs[key].append([bytes(size)])
        self.change()

    def move(self, key: TopicPartition, node: int | None, *, keeps: int | None = None) -> None:
        """Elect a leader with a new epoch; the leader has no records from offset `keeps` on."""
        self.leaders[key] = node
        log = self.logs[key]
        if node is not None:
            log.epoch += 1
        if keeps is not None:
            log.truncate(keeps)
        self.change()

    def delete(self, topic: str) -> None:
        """Delete a topic; a fetch that waits for its records gets a response."""
        for key in [key for key in self.leaders if key.topic == topic]:
            del self.leaders[key], self.logs[key]
        self.change()

    def recreate(self, topic: str, partitions: int) -> None:
        """Delete a topic and create another with the same name."""
        self.delete(topic)
        for number in range(partitions):
            self.add(TopicPartition(topic, number))
        self.topic_ids[topic] = new_id(1000 + int(self.topic_ids[topic], 16))
        self.change()

    def add(self, key: TopicPartition, node: int | None = 0) -> None:
        """Add a partition."""
        self.leaders[key] = node
        self.logs[key] = FakeLog()
        self.topic_ids.setdefault(key.topic, new_id(len(self.topic_ids) + 1))
        self.change()

    def change(self) -> None:
        """Let waiting fetches check for records again."""
        self._changed.set()
        self._changed = trio.Event()

    def forget_sessions(self) -> None:
        """Delete all fetch sessions, as a restart of the brokers does."""
        self._sessions.clear()

    def requests(self, kind: type, since: float = -math.inf, node: int | None = None) -> list[Sent]:
        """Return the requests of a kind that were sent since a time."""
        return [
            one
            for one in self.sent
            if isinstance(one.request, kind) and one.at >= since and node in {None, one.node}
        ]

    def fetches(self, since: float = -math.inf, node: int | None = None) -> list[Sent]:
        """Return the fetches that were sent since a time."""
        return self.requests(FetchRequest, since, node)
