"""A cluster in memory that responds to a KafkaClient's requests, with every kind of failure."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import trio

from odin_ws.kafka.client import Purpose
from odin_ws.kafka.errors import KafkaUnavailable, RequestUnsupported
from odin_ws.kafka.protocol import (
    EARLIEST,
    EARLIEST_LOCAL,
    LATEST,
    EpochEndOffset,
    FetchedPartition,
    FetchFrom,
    FetchRequest,
    FetchResponse,
    FindCoordinatorRequest,
    ListOffsetsRequest,
    Metadata,
    OffsetFetchRequest,
    OffsetForLeaderEpochRequest,
    OffsetFound,
    PartitionLayout,
    TopicLayout,
)
from odin_ws.records import TopicPartition
from tests.kafka.cluster_state import ClusterState, Sent
from tests.kafka.fake_sessions import FetchSession

__all__ = ["FakeCluster"]

OUT_OF_RANGE, UNKNOWN_TOPIC, NO_LEADER, NOT_LEADER = 1, 3, 5, 6
UNDATED, FENCED_EPOCH, UNKNOWN_EPOCH, UNKNOWN_ID = 43, 74, 75, 100

# Seconds until a request to a hanging broker fails, like the timeout of KafkaClient.
HANG_SECONDS: Final = 5.0


@attrs.define(eq=False)
class FakeCluster(ClusterState):
    """Responds to the requests of a KafkaClient."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """See KafkaClient."""
        await trio.lowlevel.checkpoint()
        yield

    def name(self, node: int) -> str:
        """See KafkaClient."""
        return f"broker {node}"

    async def metadata(self, topics: Sequence[str]) -> Metadata:
        """See KafkaClient."""
        await trio.lowlevel.checkpoint()
        self.metadata_requests.append(trio.current_time())
        if self.metadata_fails or self.down >= self.brokers.keys():
            raise KafkaUnavailable("kafka-0:9092: connection refused")
        found = {name: self._topic(name) for name in topics if name not in self.left_out}
        await trio.sleep(self.metadata_seconds)
        return Metadata(self.brokers, found)

    async def unreachable(self) -> list[str]:
        """See KafkaClient; the brokers of `astray` have names that do not resolve."""
        await trio.lowlevel.checkpoint()
        return [f"broker {node}: the name does not resolve" for node in sorted(self.astray)]

    async def send(
        self,
        node: int,
        request: Any,
        _purpose: Purpose = Purpose.QUERY,
        _wait_seconds: float = 0,
    ) -> Any:
        """See KafkaClient."""
        await trio.lowlevel.checkpoint()
        self.sent.append(Sent(trio.current_time(), node, request))
        self._check(node)
        if node in self.hanging:
            with trio.move_on_after(HANG_SECONDS):
                while node in self.hanging:
                    await self._changed.wait()
            if node in self.hanging:
                raise KafkaUnavailable(f"broker {node}: no response within {HANG_SECONDS:g} s")
        if not isinstance(request, FetchRequest):
            return self._answer(node, request)
        await self._unmute(node)
        response = await self._fetch(node, request)
        if node in self.throttles:
            seconds = self.throttles[node]
            if self.mutes:
                self._muted_until[node] = trio.current_time() + seconds
            response = attrs.evolve(response, throttle_seconds=seconds)
        return attrs.evolve(response, by_id=request.by_id and not self.fetches_by_name)

    async def _unmute(self, node: int) -> None:
        """Wait while a quota delays the connection: the broker reads no request meanwhile."""
        left = self._muted_until.get(node, -math.inf) - trio.current_time()
        if left > HANG_SECONDS:
            await trio.sleep(HANG_SECONDS)
            raise KafkaUnavailable(f"broker {node}: no response within {HANG_SECONDS:g} s")
        await trio.sleep(max(0, left))

    # ---- answers

    def _answer(self, node: int, request: Any) -> Any:
        match request:
            case ListOffsetsRequest() if node in self.without_list_offsets:
                raise RequestUnsupported(f"broker {node}: versions 0 to 0 of ListOffsets requests")
            case ListOffsetsRequest():
                if EARLIEST_LOCAL in request.times.values() and not self.knows_local:
                    raise RequestUnsupported("the broker does not know")
                committed = request.committed
                return {
                    key: self._offset(node, key, at, committed=committed)
                    for key, at in request.times.items()
                }
            case OffsetForLeaderEpochRequest():
                if not self.answers_epoch_ends:
                    raise RequestUnsupported("the broker answers no such requests")
                return {
                    key: self._epoch_end(node, key, request.current[key], epoch)
                    for key, epoch in request.epochs.items()
                }
            case FindCoordinatorRequest():
                return self.group.coordinator
            case OffsetFetchRequest():
                return self.group.response(node, request.partitions)
        raise AssertionError(request)

    def _check(self, node: int) -> None:
        if node in self.down or node not in self.brokers:
            raise KafkaUnavailable(f"broker {node}: connection refused")

    def _topic(self, name: str) -> TopicLayout:
        mine = {key.partition: node for key, node in self.leaders.items() if key.topic == name}
        error = 29 if name in self.denied else self.topic_errors.get(name, 0)
        if error or name in self.hidden or not mine:
            return TopicLayout(error or UNKNOWN_TOPIC, None, {})
        return TopicLayout(
            0,
            self._id(name) if self.ids_in_metadata else None,
            {
                number: PartitionLayout(
                    node,
                    self.logs[TopicPartition(name, number)].epoch if self.has_epochs else -1,
                    NO_LEADER if node is None else 0,
                )
                for number, node in mine.items()
            },
        )

    def _code(self, node: int, key: TopicPartition, epoch: int) -> int:
        if key not in self.leaders:
            return UNKNOWN_TOPIC
        if self.leaders[key] != node:
            return NOT_LEADER
        log = self.logs[key]
        if epoch >= 0 and epoch != log.epoch:
            return FENCED_EPOCH if epoch < log.epoch else UNKNOWN_EPOCH
        return 0

    def _offset(self, node: int, key: TopicPartition, at: int, *, committed: bool) -> OffsetFound:
        error = self._code(node, key, -1) or self.query_errors.get(key, 0)
        if not error and at >= 0 and key in self.undated:
            error = UNDATED
        if error:
            return OffsetFound(error, -1)
        log = self.logs[key]
        offset = log.offset_at(at)
        if committed and at not in {EARLIEST, EARLIEST_LOCAL} and offset >= log.last_stable_offset:
            # As in Kafka: the end of committed records, and no record that is not committed.
            offset = log.last_stable_offset if at == LATEST else -1
        return OffsetFound(0, offset, log.epoch if self.has_epochs else -1)

    def _epoch_end(
        self, node: int, key: TopicPartition, current: int, epoch: int
    ) -> EpochEndOffset:
        error = self._code(node, key, current) or self.query_errors.get(key, 0)
        if not error and self.early_ends.get(key):
            return self.early_ends[key].pop(0)
        return EpochEndOffset(error, -1, -1) if error else self.logs[key].epoch_end(epoch)

    async def _fetch(self, node: int, request: FetchRequest) -> FetchResponse:
        if node in self.fetch_errors:
            return FetchResponse(self.fetch_errors[node], 0, [])
        session = self._sessions.open(node, request, remembers=self.has_sessions)
        if isinstance(session, int):
            return FetchResponse(session, 0, [])
        with trio.move_on_after(request.wait_seconds):
            while _weight(self._found(node, request, session)) < request.min_bytes:
                await self._changed.wait()
                self._check(node)
                if self.hanging & {node}:
                    await trio.sleep(HANG_SECONDS)
                    raise KafkaUnavailable(f"broker {node}: no answer")
        found = self._found(node, request, session)
        for record in found:
            if record.error == OUT_OF_RANGE and self.out_of_range.get(record.key, 0):
                self.out_of_range[record.key] -= 1
            session.sent[record.key] = record.high_watermark, record.last_stable_offset
            if record.data:
                # Kafka moves a partition with data behind the others for the next fetch.
                session.wanted[record.key] = session.wanted.pop(record.key)
        return FetchResponse(0, session.number, found)

    def _found(
        self, node: int, request: FetchRequest, session: FetchSession
    ) -> list[FetchedPartition]:
        found = []
        left = request.max_bytes
        for key, where in session.wanted.items():
            one = self._fetched(node, request, key, where, left)
            left -= len(one.data)
            news = session.sent.get(key) != (one.high_watermark, one.last_stable_offset)
            if one.error or one.data or news:
                found.append(one)
        return found

    def _fetched(
        self, node: int, request: FetchRequest, key: TopicPartition, where: FetchFrom, left: int
    ) -> FetchedPartition:
        error = self._code(node, key, where.epoch if self.has_epochs else -1)
        error = error or self.errors.get(key, 0)
        by_id = request.by_id and not self.fetches_by_name
        if not error and by_id and request.topic_ids.get(key.topic) != self._id(key.topic):
            error = UNKNOWN_ID
        log = self.logs.get(key)
        if log is not None and not error:
            lies = self.out_of_range.get(key, 0) > 0
            if lies or not log.start <= where.offset <= log.end:
                error = OUT_OF_RANGE
        if log is None or error:
            return FetchedPartition(key, error, -1, -1, (), b"")
        is_first = left == request.max_bytes
        whole = self.sends_whole and is_first
        data = log.read(
            where.offset,
            min(where.max_bytes, max(left, 0)),
            whole=whole,
            cut=not self.sends_whole,
        )
        aborted = log.aborted_since(where.offset)
        return FetchedPartition(key, 0, log.end, log.last_stable_offset, aborted, data)

    def _id(self, topic: str) -> str | None:
        return self.topic_ids[topic] if self.has_ids else None


def _weight(found: list[FetchedPartition]) -> float:
    """Return the bytes of a response; infinite with an error, which is sent without waiting."""
    return math.inf if any(one.error for one in found) else sum(len(one.data) for one in found)
