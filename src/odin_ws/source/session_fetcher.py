"""Reads every partition over aiokafka's client, with incremental fetch sessions.

aiokafka's consumer names all partitions in each fetch, and is answered with all of them: over 96
that is 4 ms of CPU, whatever comes. Here a fetch costs what it brings (docs/design/performance.md).
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import aiokafka
import trio
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import (
    KafkaError,
    KafkaStorageError,
    LeaderNotAvailableError,
    NotLeaderForPartitionError,
    OffsetOutOfRangeError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.api import Request
from aiokafka.protocol.fetch import FetchRequest_v11
from aiokafka.record.memory_records import MemoryRecords
from trio_asyncio import aio_as_trio

from odin_ws.records import Record, TopicPartition
from odin_ws.source.fetch_session import FetchSession, SessionRequest
from odin_ws.source.fetching import BATCH_RECORDS, POLL_SECONDS

__all__ = ["SessionFetcher"]

# Of one fetch, and of one partition in it: enough for 100,000 records of 400 bytes a second in
# slots of 50 ms. A partition's records are read at once, which takes the loop for some 5 ms.
_FETCH_BYTES: Final = 4 << 20
_PARTITION_BYTES: Final = 1 << 20

# With so many records not yet handed on nothing more is fetched: two batches.
_ENOUGH_RECORDS: Final = 2 * BATCH_RECORDS

# Between two tries at a broker that fails, or at finding a partition's leader.
_RETRY_SECONDS: Final = 0.5

# Another broker leads the partition now, or soon: where it is said by Kafka's protocol.
_MOVED: Final = (
    NotLeaderForPartitionError,
    LeaderNotAvailableError,
    UnknownTopicOrPartitionError,
    KafkaStorageError,
)
_LEADER_EPOCHS: Final = {74, 75}  # FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH

_ANY_REPLICA: Final = -1
_NO_EPOCH: Final = -1
_NO_LOG_START: Final = -1
_OUR_RACK: Final = ""


class _Fetch(Request[FetchRequest_v11]):  # type: ignore[misc]  # aiokafka is untyped
    """A fetch within a session, for aiokafka's client; version 11 came with Kafka 2.3."""

    API_KEY = FetchRequest_v11.API_KEY

    def __init__(self, max_wait: float, request: SessionRequest) -> None:
        self._max_wait_ms = round(max_wait * 1000)
        self._request = request

    def build(self, request_struct_class: type[FetchRequest_v11]) -> FetchRequest_v11:
        request = self._request
        changed: dict[str, list[tuple[int, ...]]] = {}
        for (topic, partition), offset in request.changed.items():
            changed.setdefault(topic, []).append(
                (partition, _NO_EPOCH, offset, _NO_LOG_START, _PARTITION_BYTES)
            )
        gone: dict[str, list[int]] = {}
        for topic, partition in request.gone:
            gone.setdefault(topic, []).append(partition)
        at_least = 1
        return request_struct_class(
            _ANY_REPLICA,
            self._max_wait_ms,
            at_least,
            _FETCH_BYTES,
            READ_COMMITTED,
            request.session,
            request.epoch,
            list(changed.items()),
            list(gone.items()),
            _OUR_RACK,
        )


class SessionFetcher:
    """Reads the partitions it is told to, each from its leader. See odin_ws.source.fetching.

    `client` has been started. `max_wait`: seconds the broker may hold a fetch. `gather`: seconds
    between two fetches while records come. What a broker or the network does is retried for ever:
    whether records come is what the source's probe judges.
    """

    def __init__(self, client: AIOKafkaClient, max_wait: float, gather: float) -> None:
        self._client = client
        self._max_wait = max_wait
        self._gather = gather
        # Where the next fetch begins; what has come and was not handed on is before it.
        self._next: dict[TopicPartition, int] = {}
        self._came: deque[Record] = deque()
        # Offsets that the broker does not have: not read until a seek.
        self._gone: dict[TopicPartition, int] = {}
        self._something = trio.Event()
        self._room = trio.Event()
        self._regroup = trio.Event()

    # ---- for the source

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Read for the length of the block."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run)
            yield
            nursery.cancel_scope.cancel()

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Go on from these offsets, also in partitions that were not read before."""
        if not positions.keys() <= self._next.keys():
            self._regroup.set()
        self._next.update(positions)
        for key in positions:
            self._gone.pop(key, None)
        self._came = deque(one for one in self._came if _key(one) not in positions)
        self._room.set()

    async def passed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """How far the reading is: also past what takes up an offset and is no record."""
        waiting: dict[TopicPartition, int] = {}
        for record in self._came:
            waiting.setdefault(_key(record), record.offset)
        return {key: waiting.get(key, self._next[key]) for key in partitions if key in self._next}

    async def fetch(self, most: int | None) -> tuple[list[Record], bool]:
        """See odin_ws.source.fetching.Fetcher."""
        await trio.lowlevel.checkpoint()
        limit = BATCH_RECORDS if most is None else min(most, BATCH_RECORDS)
        with trio.move_on_after(POLL_SECONDS):
            while not self._came and not self._gone:
                self._something = trio.Event()
                await self._something.wait()
        if not self._came and self._gone:
            raise OffsetOutOfRangeError(
                {aiokafka.TopicPartition(*key): offset for key, offset in self._gone.items()}
            )
        count = min(limit, len(self._came))
        records = [self._came.popleft() for _ in range(count)]
        self._room.set()
        return records, count == limit

    # ---- reading

    async def _run(self) -> None:
        while True:
            self._regroup = trio.Event()
            async with trio.open_nursery() as nursery:
                for node, keys in self._by_leader().items():
                    nursery.start_soon(self._read, node, keys)
                await self._regroup.wait()
                nursery.cancel_scope.cancel()

    def _by_leader(self) -> dict[int | None, list[TopicPartition]]:
        """The partitions of each broker; None for those that nobody leads at the moment."""
        groups: dict[int | None, list[TopicPartition]] = {}
        for key in self._next:
            leader = self._client.cluster.leader_for_partition(aiokafka.TopicPartition(*key))
            groups.setdefault(None if leader == -1 else leader, []).append(key)
        return groups

    async def _read(self, node: int | None, keys: list[TopicPartition]) -> None:
        """Read one broker's partitions until somebody else leads one of them."""
        session = FetchSession()
        stays = node is not None
        while stays:
            while len(self._came) >= _ENOUGH_RECORDS:
                self._room = trio.Event()
                await self._room.wait()
            wanted = {key: self._next[key] for key in keys if key not in self._gone}
            request = _Fetch(self._max_wait, session.request(wanted))
            started = trio.current_time()
            try:
                response = await aio_as_trio(self._client.send)(node, request)
            except KafkaError:
                # It is down or hangs: its partitions may have another leader by now.
                stays = False
            else:
                size = 0
                if session.answered(response.error_code, response.session_id):
                    size, stays = await self._take(session, response.topics)
                # More is waiting where so much has come: that need not be gathered.
                if 0 < size < _PARTITION_BYTES // 2:
                    await trio.sleep_until(started + self._gather)
        await trio.sleep(_RETRY_SECONDS)
        await aio_as_trio(self._update_metadata)()
        self._regroup.set()

    async def _update_metadata(self) -> None:
        await self._client.force_metadata_update()

    async def _take(self, session: FetchSession, topics: Iterable[Any]) -> tuple[int, bool]:
        """Take what an answer holds: its bytes, and whether the broker leads all it was asked for.

        Raises KafkaError for what no retry would mend.
        """
        size, leads = 0, True
        for key, error_code, aborted, data in _partitions(topics):
            # What was asked before a seek is not wanted any more.
            if self._next.get(key) != session.asked(key):
                continue
            error = for_code(error_code)
            if issubclass(error, OffsetOutOfRangeError):
                self._gone[key] = self._next[key]
                self._something.set()
            elif issubclass(error, _MOVED) or error_code in _LEADER_EPOCHS:
                leads = False
            elif error_code:
                raise error(key.topic)
            elif data:
                size += len(data)
                self._append(key, aborted, data)
                await trio.lowlevel.checkpoint()
        return size, leads

    def _append(self, key: TopicPartition, aborted: Any, data: bytes) -> None:
        found = PartitionRecords(
            aiokafka.TopicPartition(*key),
            MemoryRecords(data),
            aborted,
            self._next[key],
            None,  # keys and values stay bytes
            None,
            True,  # noqa: FBT003 -- check the CRC
            READ_COMMITTED,
        )
        topic, partition = key
        self._came.extend(
            Record(topic, partition, one.offset, one.timestamp, one.key, one.value) for one in found
        )
        # Also where that was no record: the end of a transaction takes up an offset.
        self._next[key] = found.next_fetch_offset
        self._something.set()


def _partitions(topics: Iterable[Any]) -> Iterator[tuple[TopicPartition, int, Any, bytes]]:
    """Of each partition in an answer of version 11: key, error code, aborted transactions, data."""
    for topic, partitions in topics:
        for partition, error, _high, _stable, _start, aborted, _replica, data in partitions:
            yield TopicPartition(topic, partition), error, aborted, data


def _key(record: Record) -> TopicPartition:
    return TopicPartition(record.topic, record.partition)
