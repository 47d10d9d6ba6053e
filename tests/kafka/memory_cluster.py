"""A cluster in memory that answers the requests of a KafkaClient, without connections."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from odin_ws.kafka.client import Purpose
from odin_ws.kafka.errors import KafkaUnavailable, RequestUnsupported
from odin_ws.kafka.protocol import (
    EARLIEST,
    EARLIEST_LOCAL,
    LATEST,
    BrokerAddress,
    FetchedPartition,
    FetchFrom,
    FetchRequest,
    FetchResponse,
    ListOffsetsRequest,
    Metadata,
    OffsetFound,
    PartitionLayout,
    TopicLayout,
)
from odin_ws.kafka.security import KafkaSecurity
from odin_ws.records import TopicPartition
from tests.kafka.batches import raw_batch, raw_record

__all__ = ["MemoryCluster", "StoredBatch", "StoredLog"]

_OUT_OF_RANGE = 1
_NOT_LEADER = 6
_UNKNOWN_TOPIC = 3


@attrs.frozen
class StoredBatch:
    """`times`: of each record; none in what compaction or a transaction's marker left."""

    first: int
    last: int
    data: bytes
    times: Sequence[int] = ()


@attrs.define(eq=False)
class StoredLog:
    """One partition. `errors`: Kafka's codes for the next fetches, one after the other."""

    leader: int | None = 0
    epoch: int = 0
    first: int = 0
    batches: list[StoredBatch] = attrs.field(factory=list)
    errors: list[int] = attrs.field(factory=list)

    @property
    def end(self) -> int:
        """The next offset."""
        return self.batches[-1].last + 1 if self.batches else self.first

    def append(self, count: int, timestamp: int = 1_000, size: int = 0) -> None:
        """Add a batch of records whose values are their offsets, of times a second apart."""
        first = self.end
        times = [timestamp + number * 1_000 for number in range(count)]
        records = b"".join(
            raw_record(
                number,
                value=b"%d" % (first + number) + b" " * size,
                timestamp=times[number] - timestamp,
            )
            for number in range(count)
        )
        data = raw_batch(first, records, count, timestamps=(times[0], times[-1]))
        self.batches.append(StoredBatch(first, first + count - 1, data, times))

    def append_hole(self, count: int) -> None:
        """Add a batch that takes up offsets and holds no record, as compaction leaves it."""
        first = self.end
        data = raw_batch(first, b"", 0, delta=count - 1)
        self.batches.append(StoredBatch(first, first + count - 1, data))

    def delete_before(self, offset: int) -> None:
        """Let retention take what is before `offset`."""
        self.first = offset

    def offset_of(self, time: int) -> int:
        """What ListOffsets says."""
        if time in {EARLIEST, EARLIEST_LOCAL}:
            return self.first
        if time == LATEST:
            return self.end
        for batch in self.batches:
            for number, at in enumerate(batch.times):
                if at >= time and batch.first + number >= self.first:
                    return batch.first + number
        return -1

    def read(self, where: FetchFrom, room: int) -> bytes:
        """The batches that a broker sends: the first one whole, others as far as there is room."""
        data = b""
        for batch in self.batches:
            if batch.last >= where.offset:
                if data and len(data) + len(batch.data) > min(room, where.max_bytes):
                    break
                data += batch.data
        return data


@attrs.define(eq=False)
class MemoryCluster:
    """Replaces the KafkaClient class: calling it returns the cluster itself as the client.

    `away`: ids of nodes that do not respond. `hidden`: topics that the metadata does not list.
    `topic_ids`: by topic. `topic_errors`: Kafka's error code by topic. `lookups`: the number of
    metadata requests. `fetched`: the number of fetches by node. `time_errors`: Kafka's error
    code for offsets by time, by partition. `without_times`: ids of nodes without ListOffsets.
    """

    logs: dict[TopicPartition, StoredLog] = attrs.field(factory=dict)
    topic_ids: dict[str, str] = attrs.field(factory=dict)
    topic_errors: dict[str, int] = attrs.field(factory=dict)
    time_errors: dict[TopicPartition, int] = attrs.field(factory=dict)
    without_times: set[int] = attrs.field(factory=set)
    hidden: set[str] = attrs.field(factory=set)
    away: set[int] = attrs.field(factory=set)
    lookups: int = 0
    fetched: Counter[int] = attrs.field(factory=Counter)
    requests: list[FetchRequest] = attrs.field(factory=list)
    is_running: bool = False

    def __call__(self, _security: KafkaSecurity, _seconds: float) -> MemoryCluster:
        """Return the cluster as the client."""
        return self

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """See KafkaClient."""
        self.is_running = True
        try:
            yield
        finally:
            self.is_running = False

    async def metadata(self, topics: Sequence[str]) -> Metadata:
        """See KafkaClient."""
        await trio.lowlevel.checkpoint()
        self.lookups += 1
        nodes = {0, *(log.leader for log in self.logs.values() if log.leader is not None)}
        if not self.is_running or nodes <= self.away:
            raise KafkaUnavailable("nobody answers")
        brokers = {node: BrokerAddress("nowhere", node) for node in nodes}
        found = {}
        for name in topics:
            layouts = {
                key.partition: PartitionLayout(one.leader, one.epoch, 0)
                for key, one in self.logs.items()
                if key.topic == name
            }
            error = self.topic_errors.get(name, 0)
            if name in self.hidden or not layouts:
                error = _UNKNOWN_TOPIC
            there = {} if error else layouts
            found[name] = TopicLayout(error, self.topic_ids.get(name), there)
        return Metadata(brokers, found)

    async def send(
        self,
        node: int,
        request: Any,
        purpose: Purpose = Purpose.QUERY,
        wait_seconds: float = 0,
    ) -> Any:
        """See KafkaClient."""
        await trio.lowlevel.checkpoint()
        if not self.is_running or node in self.away:
            raise KafkaUnavailable(f"broker {node}: connection refused")
        if isinstance(request, ListOffsetsRequest):
            if node in self.without_times:
                raise RequestUnsupported(f"broker {node}: the broker supports versions 0 to 0")
            return {key: self._offset(node, key, at) for key, at in request.times.items()}
        assert isinstance(request, FetchRequest)
        assert purpose is Purpose.FETCH
        assert wait_seconds == request.wait_seconds
        return await self._fetch(node, request)

    def _offset(self, node: int, key: TopicPartition, at: int) -> OffsetFound:
        log = self.logs[key]
        error = self.time_errors.get(key, 0) if at >= 0 else 0
        error = error if log.leader == node else _NOT_LEADER
        return OffsetFound(error, -1) if error else OffsetFound(0, log.offset_of(at))

    async def _fetch(self, node: int, request: FetchRequest) -> FetchResponse:
        self.fetched[node] += 1
        self.requests.append(request)
        room = request.max_bytes
        found = []
        for key, where in request.changed.items():
            log = self.logs[key]
            error = log.errors.pop(0) if log.errors else 0
            if log.leader != node:
                error = _NOT_LEADER
            elif not error and not log.first <= where.offset <= log.end:
                error = _OUT_OF_RANGE
            data = b"" if error or room <= 0 else log.read(where, room)
            room -= len(data)
            mark = -1 if error else log.end
            found.append(FetchedPartition(key, error, mark, mark, (), data))
        if not any(one.data or one.error for one in found):
            await trio.sleep(request.wait_seconds)
        return FetchResponse(0, 0, found)
