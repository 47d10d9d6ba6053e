"""A connection to Kafka as Trio sees it: aiokafka's consumer with a bound on every await."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import aiokafka
import attrs
import trio
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError, for_code
from trio_asyncio import aio_as_trio

from odin_ws.records import Record, TopicPartition

__all__ = ["Cluster", "ClusterFailure", "KafkaOptions", "open_cluster"]

# What the broker or the network may do to any call; everything else is a bug of ours.
ClusterFailure: Final = (KafkaError, OSError, trio.TooSlowError)

# One record of a fetch and its handling cost some 5 us: a batch keeps the loop for 10 ms at most.
_BATCH_RECORDS: Final = 2000

# How long one getmany waits before the reader looks around again; a cancel does not wait for it.
_POLL_MS: Final = 1000

# Leaving is polite, not necessary: a dead broker must not hold up the end of the process.
_STOP_SECONDS: Final = 3


@attrs.frozen
class KafkaOptions:
    """How to reach and read Kafka.

    `group`: the consumer group to join, None to read every partition. `max_wait`: seconds the
    broker may hold an idle fetch. `gather`: seconds between two fetches while records come.
    `rate`: records per second at most, 0 for any. `probe`: seconds between two probes of the
    broker, and the bound on one.
    """

    brokers: tuple[str, ...]
    group: str | None
    max_wait: float
    gather: float
    rate: float
    probe: float

    def client(self) -> dict[str, Any]:
        """The arguments every aiokafka client takes."""
        return {
            "bootstrap_servers": list(self.brokers),
            # aiokafka's default of 100 ms means 40 log lines a second while a broker is away.
            "retry_backoff_ms": 500,
            "client_id": "odin-ws",
        }


class Cluster:
    """What the source asks of Kafka. Calls raise one of ClusterFailure within `bound` seconds."""

    def __init__(
        self, consumer: aiokafka.AIOKafkaConsumer, admin: AIOKafkaAdminClient, bound: float
    ) -> None:
        self._consumer = consumer
        self._admin = admin
        self._bound = bound

    async def layout(self, topics: Collection[str]) -> set[TopicPartition]:
        """The partitions of those of `topics` that exist.

        All topics are asked for, since asking for one by name may create it.
        """
        with trio.fail_after(self._bound):
            described = await aio_as_trio(self._admin.describe_topics)()
        found: set[TopicPartition] = set()
        for topic in described:
            if topic["topic"] not in topics:
                continue
            error = for_code(topic["error_code"])
            if issubclass(error, UnknownTopicOrPartitionError):
                continue
            if topic["error_code"]:
                raise error(topic["topic"])
            found |= {TopicPartition(topic["topic"], p["partition"]) for p in topic["partitions"]}
        return found

    async def ends(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset of each partition's next record."""
        return await self._offsets(self._consumer.end_offsets, partitions)

    async def beginnings(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset of the oldest record that each partition still has."""
        return await self._offsets(self._consumer.beginning_offsets, partitions)

    async def _offsets(
        self, ask: Any, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, int]:
        if not partitions:
            return {}
        with trio.fail_after(self._bound):
            found = await aio_as_trio(ask)([aiokafka.TopicPartition(*one) for one in partitions])
        return {TopicPartition(*key): offset for key, offset in found.items()}

    def assign(self, partitions: Collection[TopicPartition]) -> None:
        """Take these partitions, paused: `seek` places them and `resume` begins.

        Comes before any question about them: a consumer that was not told of its topics looks
        each of them up by itself, half a second a topic.
        """
        ours = [aiokafka.TopicPartition(*key) for key in partitions]
        self._consumer.assign(ours)
        self._consumer.pause(*ours)
        # Without a position aiokafka would look for one, and report that it may not choose.
        self.seek(dict.fromkeys(partitions, 0))

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Go on from these offsets in partitions that are assigned."""
        for key, offset in positions.items():
            self._consumer.seek(aiokafka.TopicPartition(*key), offset)

    def subscribe(self, pattern: str, listener: aiokafka.ConsumerRebalanceListener) -> None:
        """Join the group for the topics whose names match `pattern`."""
        self._consumer.subscribe(pattern=pattern, listener=listener)

    async def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """Store the group's positions: the offset of the next record of each partition."""
        offsets = {aiokafka.TopicPartition(*key): offset for key, offset in positions.items()}
        with trio.fail_after(self._bound):
            await aio_as_trio(self._consumer.commit)(offsets)

    async def committed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The group's positions, for those partitions where it stored one."""
        found: dict[TopicPartition, int] = {}
        with trio.fail_after(self._bound):
            for key in partitions:
                offset = await aio_as_trio(self._consumer.committed)(aiokafka.TopicPartition(*key))
                if offset is not None:
                    found[key] = offset
        return found

    async def fetch(self, most: int | None) -> tuple[list[Record], bool]:
        """Records that have come, at most `most`, and whether the consumer has no more at hand.

        In that case fetching is paused: the broker gathers until `resume`. A fetch over all
        partitions costs aiokafka milliseconds whatever it brings, so it should bring much.
        Waits about a second for the first record; none is returned where none came.
        """
        limit = _BATCH_RECORDS if most is None else min(most, _BATCH_RECORDS)
        found = await aio_as_trio(self._fetch)(limit)
        records = [
            Record(one.topic, one.partition, one.offset, one.timestamp, one.key, one.value)
            for several in found.values()
            for one in several
        ]
        return records, len(records) < limit

    async def _fetch(self, limit: int) -> dict[Any, list[Any]]:
        found: dict[Any, list[Any]] = await self._consumer.getmany(
            timeout_ms=_POLL_MS, max_records=limit
        )
        if found and sum(map(len, found.values())) < limit:
            # No await since getmany returned: aiokafka has not sent the next fetch yet.
            self._consumer.pause(*self._consumer.assignment())
        return found

    def resume(self) -> None:
        """Fetch again after a pause."""
        self._consumer.resume(*self._consumer.paused())


@asynccontextmanager
async def open_cluster(options: KafkaOptions) -> AsyncIterator[Cluster]:
    """Connect; raises one of ClusterFailure where that does not work within the probe's bound."""
    consumer = await _in_asyncio(
        lambda: aiokafka.AIOKafkaConsumer(
            **options.client(),
            group_id=options.group,
            enable_auto_commit=False,
            # Never jump in silence: the source decides where to go on, and counts what is lost.
            auto_offset_reset="none",
            fetch_max_wait_ms=round(options.max_wait * 1000),
            fetch_min_bytes=1,
            metadata_max_age_ms=30_000,
        )
    )
    async with _started(consumer.start, consumer.stop, options.probe):
        admin = await _in_asyncio(lambda: AIOKafkaAdminClient(**options.client()))
        async with _started(admin.start, admin.close, options.probe):
            yield Cluster(consumer, admin, options.probe)


async def _in_asyncio(make: Any) -> Any:
    """Call `make` inside the asyncio loop: aiokafka's constructors look for a running one."""

    async def call() -> Any:
        return make()

    return await aio_as_trio(call)()


@asynccontextmanager
async def _started(start: Any, stop: Any, bound: float) -> AsyncIterator[None]:
    try:
        with trio.fail_after(bound):
            await aio_as_trio(start)()
        yield
    finally:
        # Also after a failed start: a client that is collected unstopped takes the loop down.
        with trio.move_on_after(_STOP_SECONDS, shield=True):
            try:
                await aio_as_trio(stop)()
            except (asyncio.CancelledError, *ClusterFailure):
                # With the broker dead, stop() ends like this; there is nothing left to leave.
                pass


def records_by_partition(records: Iterable[Record]) -> dict[TopicPartition, int]:
    """The next offset of each partition after `records`, which are in offset order."""
    return {TopicPartition(one.topic, one.partition): one.offset + 1 for one in records}
