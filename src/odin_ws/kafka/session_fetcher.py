"""Reads every partition from its leader, with incremental fetch sessions.

aiokafka's consumer names all partitions in each fetch, and is answered with all of them: over 96
that is 4 ms of CPU, whatever comes. Here a fetch costs what it brings (docs/design/performance.md).
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Final, Protocol

import aiokafka
import structlog
import trio
from aiokafka.errors import (
    KafkaError,
    KafkaStorageError,
    KafkaTimeoutError,
    LeaderNotAvailableError,
    NotLeaderForPartitionError,
    OffsetOutOfRangeError,
    UnknownTopicOrPartitionError,
    for_code,
)

from odin_ws.kafka.brokers import (
    FETCH_BYTES,
    PARTITION_BYTES,
    Fetched,
    FetchedPartition,
    Patience,
)
from odin_ws.kafka.fetch_session import FetchSession, SessionRequest
from odin_ws.kafka.fetching import BATCH_RECORDS, POLL_SECONDS
from odin_ws.kafka.record_batches import read_batches
from odin_ws.records import Record, TopicPartition

__all__ = ["Leaders", "SessionFetcher"]

log = structlog.get_logger("odin_ws.kafka")

# Between two tries at a broker that fails, or at finding a partition's leader.
_RETRY_SECONDS: Final = 0.5

# For each broker, beyond aiokafka's time-out for a request, for it asks one after the other: what
# looks has ended then, and a new client is needed.
_LOOK_SECONDS: Final = 60.0

# Another broker leads the partition now, or soon. The last two have no class in aiokafka:
# FENCED_LEADER_EPOCH and UNKNOWN_LEADER_EPOCH.
_MOVED: Final = {
    NotLeaderForPartitionError.errno,
    LeaderNotAvailableError.errno,
    UnknownTopicOrPartitionError.errno,
    KafkaStorageError.errno,
    74,
    75,
}


class Leaders(Protocol):
    """The brokers: see odin_ws.kafka.brokers.Brokers."""

    def leader(self, key: TopicPartition) -> int | None:
        """The broker that a partition is read from."""
        ...

    async def look_again(self) -> None:
        """Ask who leads what."""
        ...

    async def fetch(self, node: int, request: SessionRequest, patience: Patience) -> Fetched:
        """Fetch."""
        ...


class SessionFetcher:
    """Reads the partitions it is told to, each from its leader. See odin_ws.kafka.fetching.

    `max_wait`: seconds a broker may hold a fetch while nothing comes. `gather`: seconds for which
    it gathers while records come. It is the broker that gathers: a fetch that waits there costs
    nothing, and is under way while the hub is busy. What a broker or the network does is retried
    for ever: whether records come is what the source's probe judges.
    """

    def __init__(self, brokers: Leaders, max_wait: float, gather: float) -> None:
        self._brokers = brokers
        # At the first record; after a slot; at once, for more is there.
        self._patient = Patience(1, max_wait)
        self._gathering = Patience(FETCH_BYTES, gather)
        self._eager = Patience(0, 0)
        # Where the next fetch begins; what has come and was not handed on is before it.
        self._next: dict[TopicPartition, int] = {}
        self._came: deque[Record] = deque()
        # Offsets that the broker does not have: not read until a seek.
        self._gone: dict[TopicPartition, int] = {}
        # Where the last answer had a corrupt batch.
        self._corrupt: dict[TopicPartition, int] = {}
        self._failure: KafkaError | None = None
        # How many records each broker's last answer had.
        self._answered: dict[int, int] = {}
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
        """See odin_ws.kafka.fetching.Fetcher."""
        await trio.lowlevel.checkpoint()
        limit = BATCH_RECORDS if most is None else min(most, BATCH_RECORDS)
        with trio.move_on_after(POLL_SECONDS):
            while not self._came and not self._gone and self._failure is None:
                self._something = trio.Event()
                await self._something.wait()
        if self._failure is not None and not self._came:
            raise self._failure
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
            groups.setdefault(self._brokers.leader(key), []).append(key)
        return groups

    async def _read(self, node: int | None, keys: list[TopicPartition]) -> None:
        """Read one broker's partitions until it fails or does not lead them all any more."""
        if node is not None:
            session = FetchSession()
            patience: Patience | None = self._patient
            try:
                while patience is not None:
                    patience = await self._read_some(node, keys, session, patience)
            except KafkaError as error:
                # It is down or hangs: its partitions may have another leader by now.
                log.debug("a fetch failed", node=node, error=str(error) or type(error).__name__)
        await trio.sleep(_RETRY_SECONDS)
        seconds = _LOOK_SECONDS * len(self._by_leader())
        with trio.move_on_after(seconds) as looking:
            await self._brokers.look_again()
        if looking.cancelled_caught:
            self._fail(KafkaTimeoutError(f"the leaders were not told within {seconds:g} s"))
        self._regroup.set()

    async def _read_some(
        self, node: int, keys: list[TopicPartition], session: FetchSession, patience: Patience
    ) -> Patience | None:
        """Fetch once, when there is room; how to fetch next, None where another broker leads."""
        # One answer may wait while the next is fetched: two answers are bounded in bytes.
        while len(self._came) > self._answered.get(node, 0):
            # Readers of several brokers may wait for the same.
            if self._room.is_set():
                self._room = trio.Event()
            await self._room.wait()
        wanted = {key: self._next[key] for key in keys if key not in self._gone}
        fetched = await self._brokers.fetch(node, session.request(wanted), patience)
        if not session.answered(fetched.error, fetched.session):
            return self._eager
        leads = True
        size = 0
        before = len(self._came)
        for one in fetched.partitions:
            # What was asked before a seek is not wanted any more.
            if self._next.get(one.key) == session.asked(one.key):
                leads &= await self._take(one)
                size += len(one.data)
        self._answered[node] = max(0, len(self._came) - before)
        if not leads:
            return None
        if not size:
            return self._patient
        # More is waiting where so much has come: that need not be gathered.
        return self._gathering if size < PARTITION_BYTES // 2 else self._eager

    async def _take(self, one: FetchedPartition) -> bool:
        """Take what came of a partition; False where another broker leads it."""
        key = one.key
        if one.error == OffsetOutOfRangeError.errno:
            self._gone[key] = self._next[key]
            self._something.set()
        elif one.error in _MOVED:
            return False
        elif one.error:
            self._fail(for_code(one.error)(key.topic))
        elif one.data:
            # What is corrupt may be right when it is fetched again; a second time it is skipped.
            again = self._corrupt.get(key) == self._next[key]
            decoded = read_batches(key, one.data, self._next[key], one.aborted, skip_corrupt=again)
            self._next[key] = decoded.next_offset
            if decoded.corrupt is not None:
                self._corrupt[key] = decoded.corrupt
            if decoded.records:
                self._came.extend(decoded.records)
                self._something.set()
            await trio.lowlevel.checkpoint()
        return True

    def _fail(self, error: KafkaError) -> None:
        """What no retry mends is the source's to tell."""
        self._failure = error
        self._something.set()


def _key(record: Record) -> TopicPartition:
    return TopicPartition(record.topic, record.partition)
