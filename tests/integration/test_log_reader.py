"""The log reader with real brokers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import attrs
import pytest
import trio

from odin_ws.log_reader import LogReader, LogUnavailable, Span
from odin_ws.records import Record, TopicPartition
from odin_ws.testing.brokers import embedded_broker
from tests.integration import kafka
from tests.integration.conftest import ApacheFactory
from tests.integration.running_log_reader import running
from tests.integration.running_source import (
    Publisher,
    Sent,
    delete_records_before,
    every_partition,
    new_topics,
    numbered,
    options,
    publish_in_transaction,
)
from tests.kafka.log_reader_contract import LogReaderContract, read_all


async def exhaust(batches: AsyncIterator[Sequence[Record]]) -> None:
    """Read all batches to the end."""
    async for _ in batches:
        pass


@attrs.frozen
class KafkaLog:
    """A Past in Kafka."""

    bootstrap: str
    topic: str
    log_reader: LogReader

    async def publish(self, partition: int, count: int, timestamp: int = 1_000) -> None:
        """See Past."""
        records = [
            Sent(self.topic, b"BTC", b"%d" % number, partition, timestamp + number * 1_000)
            for number in range(count)
        ]
        await Publisher(self.bootstrap).publish(records)

    async def delete_before(self, partition: int, offset: int) -> None:
        """See Past."""
        await delete_records_before(self.bootstrap, self.topic, partition, offset)


@pytest.fixture
async def past(apache: str) -> AsyncIterator[KafkaLog]:
    """A new topic in Apache Kafka, and a log reader with one consumer."""
    (topic,) = new_topics()
    await kafka.create_topics(apache, [topic], 2)
    async with running(options(apache)) as log_reader:
        yield KafkaLog(apache, topic, log_reader)


class TestKafkaLogReader(LogReaderContract):
    """It is an archive."""


async def test_range_ends_at_an_offset_without_a_record(apache: str) -> None:
    """A span ends where the reading is past it, though the last offset is a transaction's mark."""
    (topic,) = new_topics()
    await kafka.create_topics(apache, [topic], 1)
    (key,) = every_partition([topic], 1)
    for _ in range(2):
        await publish_in_transaction(apache, Sent(topic), Sent(topic))
    async with running(options(apache)) as log_reader:
        assert await log_reader.bounds([key]) == {key: (0, 6)}
        for span, offsets in (
            (Span(0, 5), [0, 1, 3, 4]),
            (Span(1, 2), [1]),
            (Span(2, 2), []),
            (Span(5, 5), []),
            (Span(0, 3), [0, 1, 3]),
        ):
            assert [record.offset for record in await read_all(log_reader, {key: span})] == offsets


async def test_many_reads_share_few_consumers(apache: str) -> None:
    """Each gets its own records, all of them, from many partitions."""
    topics = new_topics(2)
    await kafka.create_topics(apache, topics, 6)
    partitions = every_partition(topics, 6)
    await Publisher(apache).publish(numbered(partitions, 300))
    read: dict[int, list[Record]] = {}

    # Twelve at once on a busy machine: an answer may take longer than other tests allow.
    async with running(options(apache, probe=5.0), readers=2) as log_reader:

        async def read_from(first: int) -> None:
            read[first] = await read_all(log_reader, dict.fromkeys(partitions, Span(first, 299)))

        async with trio.open_nursery() as nursery:
            for first in range(12):
                nursery.start_soon(read_from, first)
    for first, records in read.items():
        for key in partitions:
            offsets = [
                record.offset for record in records if (record.topic, record.partition) == key
            ]
            assert offsets == list(range(first, 300))


async def test_blocked_read_gives_way_to_others(apache: str) -> None:
    """It hears so after some seconds; what it has had stands, and it can ask for the rest."""
    (topic,) = new_topics()
    await kafka.create_topics(apache, [topic], 1)
    (key,) = every_partition([topic], 1)
    await Publisher(apache).publish(numbered([key], 5000))
    received: list[Record] = []
    async with running(options(apache)) as log_reader:
        async with log_reader.read({key: Span(0, 4999)}) as batches:
            received += await anext(batches)
            with trio.fail_after(15):
                assert len(await read_all(log_reader, {key: Span(0, 4)})) == 5
            with pytest.raises(LogUnavailable, match="not taken"):
                await anext(batches)
        received += await read_all(log_reader, {key: Span(received[-1].offset + 1, 4999)})
    assert [record.offset for record in received] == list(range(5000))


async def test_lost_broker_fails_reads_until_it_is_back(own_apache: ApacheFactory) -> None:
    """Whoever asks or reads meanwhile hears soon that it cannot be had now; then all is well."""
    (topic,) = new_topics()
    async with own_apache() as broker:
        await kafka.create_topics(broker.bootstrap, [topic], 1)
        (key,) = every_partition([topic], 1)
        # Larger than what one fetch brings.
        large = [Sent(topic, value=b"x" * 400_000, partition=0)] * 40
        await Publisher(broker.bootstrap).publish(large)
        async with running(options(broker.bootstrap)) as log_reader:
            async with log_reader.read({key: Span(0, 39)}) as batches:
                await anext(batches)
                await broker.kill()
                with trio.fail_after(5), pytest.raises(LogUnavailable, match=r"\w"):
                    await exhaust(batches)
            with trio.fail_after(5), pytest.raises(LogUnavailable, match=r"\w"):
                await log_reader.bounds([key])
            await broker.start()
            assert await log_reader.bounds([key]) == {key: (0, 40)}
            assert len(await read_all(log_reader, {key: Span(0, 39)})) == 40


async def test_hanging_broker_fails_queries_in_time() -> None:
    """A question is bounded; the reason is for operators."""
    async with embedded_broker() as broker, running(options(broker.bootstrap)) as log_reader:
        key = TopicPartition(new_topics()[0], 0)
        assert await log_reader.bounds([key]) == {}
        broker.pause()
        with (
            trio.fail_after(5),
            pytest.raises(LogUnavailable, match=r"no response within 0.5 s"),
        ):
            await log_reader.bounds([key])
        broker.unpause()
        assert await log_reader.bounds([key]) == {}
