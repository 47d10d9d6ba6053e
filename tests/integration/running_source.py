"""A KafkaSource that runs, what it has handed on so far, and an independent producer."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NamedTuple

import attrs
import trio
from confluent_kafka import KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions
from confluent_kafka.cimpl import TopicPartition as Place
from trio_util import AsyncValue

from odin_ws.catalogue import Catalogue, Topic
from odin_ws.kafka.options import KafkaOptions
from odin_ws.kafka.security import KafkaSecurity
from odin_ws.kafka.source import KafkaSource
from odin_ws.kafka.source_status import SourceState, SourceStatus
from odin_ws.records import Assignment, Batch, HistoryEnd, Item, Record, TopicPartition

__all__ = [
    "Publisher",
    "RunningSource",
    "Sent",
    "add_partitions",
    "catalogue_of",
    "count_partitions",
    "delete_records_before",
    "every_partition",
    "feeding",
    "new_topics",
    "numbered",
    "options",
    "publish_in_transaction",
    "same_offsets",
    "until",
    "wait_until",
]

# For what takes milliseconds on a free machine.
PATIENCE = 30.0
POLL_SECONDS = 0.02

# Between two probes of the broker: short, so that tests see soon what a probe finds.
PROBE_SECONDS = 0.5


class Sent(NamedTuple):
    """A record for the producer; without a partition the key decides, without a time it is now."""

    topic: str
    key: bytes | None = b"BTC"
    value: bytes | None = b"{}"
    partition: int = -1
    timestamp: int = 0
    headers: tuple[tuple[str, bytes | None], ...] = ()


async def wait_until(holds: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Return when `holds()` is true. Raises trio.TooSlowError when it never is."""

    async def ask() -> object:
        return holds()

    await until(ask, seconds)


async def until(holds: Callable[[], Awaitable[object]], seconds: float = PATIENCE) -> None:
    """Return when `await holds()` is true. Raises trio.TooSlowError when it never is."""
    with trio.fail_after(seconds):
        while True:
            if await holds():
                return
            await trio.sleep(POLL_SECONDS)


def new_topics(count: int = 1) -> list[str]:
    """Names that no other test uses."""
    run = uuid.uuid4().hex[:8]
    return [f"test.{run}.{number}" for number in range(count)]


def every_partition(topics: Iterable[str], partitions: int) -> list[TopicPartition]:
    """All partitions of these topics."""
    return [TopicPartition(topic, number) for topic in topics for number in range(partitions)]


def same_offsets(
    partitions: Iterable[TopicPartition], offsets: Iterable[int]
) -> dict[TopicPartition, list[int]]:
    """What `RunningSource.offsets` is when these came from each partition."""
    expected = list(offsets)
    return {key: list(expected) for key in partitions}


def catalogue_of(topics: Iterable[str]) -> Catalogue:
    """A catalogue of just these topics; each is a category of its own."""
    rows = [Topic(name, f"category{number}", ()) for number, name in enumerate(topics)]
    return Catalogue({row.name: row for row in rows}, bundles={})


def options(bootstrap: str, **changes: Any) -> KafkaOptions:
    """How tests read, unless they are about something else: soon, and without a history."""
    usual = KafkaOptions(
        KafkaSecurity((bootstrap,)),
        group=None,
        max_wait=0.1,
        slot=0.02,
        rate=0,
        probe=PROBE_SECONDS,
        history_seconds=0,
        history_records=0,
    )
    return attrs.evolve(usual, **changes)


def numbered(partitions: Iterable[TopicPartition], count: int, first: int = 0) -> list[Sent]:
    """So many records for each partition, its number in the value, mixed as publishers mix them."""
    keys = list(partitions)
    return [
        Sent(topic, b"BTC", b"%d" % number, partition)
        for number in range(first, first + count)
        for topic, partition in keys
    ]


class Publisher:
    """Writes records with librdkafka, which shares no code with what reads them here.

    `together`: records of one batch at most.
    """

    def __init__(self, bootstrap: str, codec: str = "none", *, together: int = 10_000) -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "compression.type": codec,
                "batch.num.messages": together,
                # Of what it gathers; the brokers decide what they take.
                "message.max.bytes": 8 << 20,
                # A broker that comes back is noticed at once.
                "reconnect.backoff.max.ms": 500,
                # Nor does a broker that answers nothing hold up what another one leads now.
                "socket.timeout.ms": 5000,
                "topic.metadata.refresh.interval.ms": 2000,
                # It writes of every lost connection to stderr.
                "log_level": 0,
                # A retry must not write a record twice: the tests count.
                "enable.idempotence": True,
            }
        )

    def queue(self, records: Iterable[Sent], written: list[TopicPartition]) -> None:
        """Begin to write records; each one's place is appended once the broker has it."""

        def report(error: KafkaError | None, message: Message) -> None:
            topic, partition = message.topic(), message.partition()
            if error is None and topic is not None and partition is not None:
                written.append(TopicPartition(topic, partition))

        for record in records:
            self._producer.produce(
                record.topic,
                record.value,
                record.key,
                partition=record.partition,
                timestamp=record.timestamp,
                headers=list(record.headers),
                on_delivery=report,
            )

    async def flush(self, seconds: float = PATIENCE) -> None:
        """Return when the broker has everything. Raises trio.TooSlowError."""
        left = await trio.to_thread.run_sync(self._producer.flush, seconds, abandon_on_cancel=True)
        if left:
            raise trio.TooSlowError

    async def knows(self, topic: str, partitions: int) -> bool:
        """Whether the producer has heard of so many partitions; till then it rejects the others."""
        ask = partial(self._producer.list_topics, topic, PATIENCE)
        found = await trio.to_thread.run_sync(ask, abandon_on_cancel=True)
        return len(found.topics[topic].partitions) >= partitions

    async def publish(self, records: Sequence[Sent]) -> None:
        """Write records, and return when the broker has every one."""
        written: list[TopicPartition] = []
        self.queue(records, written)
        await self.flush()
        assert len(written) == len(records)


class RunningSource:
    """A running source. What it hands on is kept in `items`, as long as `takes` is true."""

    def __init__(self, source_status: SourceStatus) -> None:
        self.source_status = source_status
        self.takes = AsyncValue(value=True)
        self.items: list[Item] = []

    @property
    def batches(self) -> list[Batch]:
        """Every batch so far."""
        return [item for item in self.items if isinstance(item, Batch)]

    @property
    def assignments(self) -> list[Assignment]:
        """Every assignment so far."""
        return [item for item in self.items if isinstance(item, Assignment)]

    @property
    def history(self) -> list[Record]:
        """The records that came before the end of the history was told."""
        end = next(n for n, item in enumerate(self.items) if isinstance(item, HistoryEnd))
        return [
            record
            for item in self.items[:end]
            if isinstance(item, Batch)
            for record in item.records
        ]

    @property
    def records(self) -> list[Record]:
        """Every record so far, in the order of arrival."""
        return [record for batch in self.batches for record in batch.records]

    @property
    def values(self) -> list[bytes | None]:
        """The values of `records`."""
        return [record.value for record in self.records]

    def offsets(self) -> dict[TopicPartition, list[int]]:
        """The offsets that came, by partition, in the order of arrival."""
        found: dict[TopicPartition, list[int]] = {}
        for record in self.records:
            found.setdefault(TopicPartition(record.topic, record.partition), []).append(
                record.offset
            )
        return found

    async def live(self, seconds: float = PATIENCE) -> None:
        """Wait until the feed is live."""
        with trio.fail_after(seconds):
            await self.source_status.state.wait_value(SourceState.LIVE)

    async def stalled(self, seconds: float = PATIENCE) -> None:
        """Wait until the feed is stalled."""
        with trio.fail_after(seconds):
            await self.source_status.state.wait_value(SourceState.STALLED)

    async def received(self, count: int, seconds: float = PATIENCE) -> None:
        """Wait until at least so many records have come."""
        await wait_until(
            lambda: sum(len(batch.records) for batch in self.batches) >= count, seconds
        )

    async def probes(self, count: int) -> None:
        """Wait for so many probes of the broker to succeed: each one measures the lag anew."""
        for _ in range(count):
            await self._probe(self.source_status.lag)

    async def _probe(self, before: object) -> None:
        await wait_until(lambda: self.source_status.lag is not before)

    async def collect(self, inbox: trio.MemoryReceiveChannel[Item]) -> None:
        """The hub's part."""
        async for item in inbox:
            self.items.append(item)
            await self.takes.wait_value(bool)


@asynccontextmanager
async def feeding(
    topics: Iterable[str], options: KafkaOptions, *, live: bool = True
) -> AsyncIterator[RunningSource]:
    """Run a source for the length of the block, which begins when it is live if `live`."""
    source = KafkaSource(catalogue_of(topics), options)
    source_status = RunningSource(source.status)
    # With no room but for one item, the source waits as soon as nobody takes.
    send, receive = trio.open_memory_channel[Item](0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run, send)
        nursery.start_soon(source_status.collect, receive)
        if live:
            await source_status.live()
        yield source_status
        nursery.cancel_scope.cancel()


async def add_partitions(bootstrap: str, topic: str, total: int) -> None:
    """Let a topic have so many partitions."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    (future,) = admin.create_partitions([NewPartitions(topic, total)]).values()
    await trio.to_thread.run_sync(future.result)


async def delete_records_before(bootstrap: str, topic: str, partition: int, offset: int) -> None:
    """Delete what a partition has before this offset, as retention would."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    (future,) = admin.delete_records([Place(topic, partition, offset)]).values()
    await trio.to_thread.run_sync(future.result)


def count_partitions(bootstrap: str, topic: str) -> int:
    """How many partitions of a topic have a leader."""
    found = AdminClient({"bootstrap.servers": bootstrap}).list_topics(topic, PATIENCE).topics
    return sum(partition.leader >= 0 for partition in found[topic].partitions.values())


async def publish_in_transaction(bootstrap: str, *records: Sent) -> None:
    """Write records as one transaction, commit it, and wait for its markers."""

    def publish() -> None:
        settings = {"bootstrap.servers": bootstrap, "transactional.id": uuid.uuid4().hex}
        producer = Producer(settings)
        producer.init_transactions(PATIENCE)
        producer.begin_transaction()
        for record in records:
            producer.produce(record.topic, record.value, record.key)
        producer.commit_transaction(PATIENCE)
        # The markers are written after the commit is answered. The id's next owner waits for them.
        Producer(settings).init_transactions(PATIENCE)

    await trio.to_thread.run_sync(publish)
