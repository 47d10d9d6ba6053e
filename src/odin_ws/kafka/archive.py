"""Kafka's past: a few readers answer what connections ask."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, Generic, TypeVar

import aiokafka
import attrs
import trio
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import OffsetOutOfRangeError

from odin_ws.archive import ArchiveUnavailable, Bounds, RecordsExpired, Span
from odin_ws.kafka.aio import call_aiokafka, open_asyncio
from odin_ws.kafka.cluster import (
    BUGS,
    ClusterFailure,
    KafkaOptions,
    Questions,
    first_leaf,
    make_consumer,
    running,
    within,
)
from odin_ws.kafka.fetching import assign_paused, records_of
from odin_ws.records import Record, TopicPartition

__all__ = ["KafkaArchive"]

T = TypeVar("T")

# So many keep the loop from the subscribers for 8 ms at most, measured on a busy machine.
_BATCH_RECORDS: Final = 500

# What the broker may send ahead: it bounds a reader's memory, compressed as it comes.
_FETCH_BYTES: Final = 4 << 20

# The past is there: only behind its last record does a broker hold a fetch.
_FETCH_SECONDS: Final = 0.1

# How long one look waits: what is no record is noticed after it.
_LOOK_MS: Final = 50

# Connecting takes 20 ms, which many who come back together should not pay each.
_IDLE_SECONDS: Final = 30

# Who does not take a batch for so long lets others read, if some wait.
_UNTAKEN_SECONDS: Final = 2

Give = Callable[[T], Awaitable[None]]


class KafkaArchive:
    """Kafka's past, read by `readers` consumers at most. See Archive.

    Who asks has no asyncio loop: each question is a job for a reader, with a channel for what
    comes of it. Connections are opened for the first job, and closed when there is none for long.
    """

    def __init__(self, options: KafkaOptions, readers: int) -> None:
        self._options = options
        self._readers = readers
        # Without a buffer: who waits for a reader waits in the order of coming, and may leave.
        self._asked, self._jobs = trio.open_memory_channel[_Job[Any]](0)

    async def run(self) -> None:
        """See Archive."""
        # Not `async with`: cancelled, that would put Cancelled in the place of a bug.
        with self._jobs:
            async with open_asyncio(), trio.open_nursery() as nursery:
                for _ in range(self._readers):
                    nursery.start_soon(self._work)

    async def bounds(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Bounds]:
        """See Archive."""
        return await self._ask(lambda reader: reader.bounds(partitions))

    async def positions_at(
        self, topics: Collection[str], timestamp: int
    ) -> dict[TopicPartition, int]:
        """See Archive."""
        return await self._ask(lambda reader: reader.positions_at(topics, timestamp))

    @asynccontextmanager
    async def read(
        self, spans: Mapping[TopicPartition, Span]
    ) -> AsyncIterator[AsyncIterator[Sequence[Record]]]:
        """See Archive."""

        async def work(reader: _Reader, give: Give[Sequence[Record]]) -> None:
            await reader.read(spans, give)

        async with self._hand_in(work) as batches:
            yield batches

    async def _ask(self, question: Callable[[_Reader], Awaitable[T]]) -> T:
        async def work(reader: _Reader, give: Give[T]) -> None:
            await give(await question(reader))

        async with self._hand_in(work) as answers:
            return await anext(answers)

    @asynccontextmanager
    async def _hand_in(
        self, work: Callable[[_Reader, Give[T]], Awaitable[None]]
    ) -> AsyncIterator[_Answers[T]]:
        """Wait for a reader, and let it work for the length of the block at most."""
        send, receive = trio.open_memory_channel[T](1)
        job = _Job(work, send)
        with send, receive:
            try:
                await self._asked.send(job)
            except trio.BrokenResourceError:
                raise _stopped() from None
            try:
                yield _Answers(job, receive)
            finally:
                job.scope.cancel()

    # ---- the readers

    async def _work(self) -> None:
        """Do one job after the other."""
        while True:
            job: _Job[Any] | None = await self._jobs.receive()
            try:
                async with _open_reader(self._options) as reader:
                    while job is not None:
                        await job.run(reader, partial(self._give, job.outbox))
                        job = await self._next_job()
            except* BUGS:
                raise
            except* ClusterFailure as failures:
                error = first_leaf(failures)
                if job is not None:
                    job.failure = ArchiveUnavailable(str(error) or type(error).__name__)
            finally:
                if job is not None:
                    job.outbox.close()

    async def _next_job(self) -> _Job[Any] | None:
        with trio.move_on_after(_IDLE_SECONDS):
            return await self._jobs.receive()
        return None

    async def _give(self, outbox: trio.MemorySendChannel[T], item: T) -> None:
        """Let a caller have something, who may take as long as no others wait."""
        while True:
            with trio.move_on_after(_UNTAKEN_SECONDS) as patience:
                await outbox.send(item)
            if not patience.cancelled_caught:
                return
            if self._jobs.statistics().tasks_waiting_send:
                raise ArchiveUnavailable("records were not taken while others waited to read")


def _stopped() -> ArchiveUnavailable:
    return ArchiveUnavailable("the service is stopping")


@attrs.define(eq=False)
class _Job(Generic[T]):
    """What a caller wants done. Cancelling `scope` ends the work on it.

    Once `outbox` is closed nothing more comes; `failure` says why, if that is not all.
    """

    work: Callable[[_Reader, Give[T]], Awaitable[None]]
    outbox: trio.MemorySendChannel[T]
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    failure: Exception | None = attrs.field(factory=_stopped)

    async def run(self, reader: _Reader, give: Give[T]) -> None:
        """Do it. Raises one of ClusterFailure; of that the caller does not know yet."""
        try:
            with self.scope:
                await self.work(reader, give)
                self.failure = None
        except (ArchiveUnavailable, RecordsExpired) as error:
            self.failure = error
        self.outbox.close()


class _Answers(AsyncIterator[T]):
    """What comes of a job."""

    def __init__(self, job: _Job[T], inbox: trio.MemoryReceiveChannel[T]) -> None:
        self._job = job
        self._inbox = inbox

    async def __anext__(self) -> T:
        try:
            return await self._inbox.receive()
        except trio.EndOfChannel:
            if self._job.failure is not None:
                raise self._job.failure from None
            raise StopAsyncIteration from None


class _Reader(Questions):
    """One consumer, which reads by `assign` and `seek`. Calls raise one of ClusterFailure."""

    async def bounds(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Bounds]:
        """What those of the partitions have that exist."""
        there = await self.layout({key.topic for key in partitions}) & set(partitions)
        self._know(there)
        firsts = await self.beginnings(there)
        ends = await self.ends(there)
        return {key: Bounds(firsts[key], ends[key]) for key in there}

    async def positions_at(
        self, topics: Collection[str], timestamp: int
    ) -> dict[TopicPartition, int]:
        """The offset before each partition's first record of a time."""
        there = await self.layout(topics)
        self._know(there)
        found = await self.first_since(there, timestamp)
        return {key: first - 1 for key, first in found.items()}

    async def read(
        self, spans: Mapping[TopicPartition, Span], give: Give[Sequence[Record]]
    ) -> None:
        """Give the records of these spans. Raises RecordsExpired."""
        spans = {key: span for key, span in spans.items() if span.first <= span.last}
        if not spans:
            return
        # A consumer that is told of a topic asks for it by name, which may create it.
        missing = spans.keys() - await self.layout({key.topic for key in spans})
        if missing:
            raise _expired(min(missing))
        self._know(spans)
        for key, span in spans.items():
            self._asking.seek(aiokafka.TopicPartition(*key), span.first)
        self._asking.resume(*self._asking.paused())
        try:
            await self._read_to({key: span.last for key, span in spans.items()}, give)
        finally:
            # What it has fetched ahead is let go.
            self._know(spans)

    async def _read_to(self, left: dict[TopicPartition, int], give: Give[Sequence[Record]]) -> None:
        """Give records until the consumer is past the last offset of each partition.

        Not until that record has come: markers and compaction leave offsets without one.
        """
        reached: dict[TopicPartition, int] = {}
        deadline = trio.current_time() + self._bound
        while left:
            with within(self._bound):
                found, places = await call_aiokafka(self._look, left)
            records = [
                one for one in found if one.offset <= left[TopicPartition(one.topic, one.partition)]
            ]
            left = {key: last for key, last in left.items() if places[key] <= last}
            self._asking.pause(*(aiokafka.TopicPartition(*key) for key in places.keys() - left))
            if records:
                await give(records)
            if places != reached:
                reached, deadline = places, trio.current_time() + self._bound
            elif trio.current_time() > deadline:
                # aiokafka does not say so when the broker is gone.
                stuck = min(left)
                raise trio.TooSlowError(f"no records come from {stuck.topic} {stuck.partition}")

    async def _look(
        self, partitions: Collection[TopicPartition]
    ) -> tuple[list[Record], dict[TopicPartition, int]]:
        """What has come, and where that leaves each partition; in asyncio."""
        try:
            found = await self._asking.getmany(timeout_ms=_LOOK_MS, max_records=_BATCH_RECORDS)
        except OffsetOutOfRangeError as error:
            raise _expired(*error.args[0]) from error
        places = {
            key: await self._asking.position(aiokafka.TopicPartition(*key)) for key in partitions
        }
        return records_of(found), places

    def _know(self, partitions: Collection[TopicPartition]) -> None:
        # Told of none, a consumer would look for all there are.
        if partitions:
            assign_paused(self._asking, [aiokafka.TopicPartition(*key) for key in partitions])


def _expired(key: tuple[str, int], *_others: tuple[str, int]) -> RecordsExpired:
    return RecordsExpired(f"{key[0]} {key[1]} no longer has the records asked for")


@asynccontextmanager
async def _open_reader(options: KafkaOptions) -> AsyncIterator[_Reader]:
    bound = options.probe
    consumer_made = partial(make_consumer, options, _FETCH_SECONDS, fetch_max_bytes=_FETCH_BYTES)
    async with (
        running(consumer_made, bound) as consumer,
        running(lambda: AIOKafkaAdminClient(**options.client()), bound) as admin,
    ):
        yield _Reader(consumer, admin, bound)
