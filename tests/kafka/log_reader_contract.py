"""The contract of every log reader. A module with these tests has a fixture `past`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import attrs
import pytest
import trio

from odin_ws.log_reader import LogReader, LogUnavailable, RecordsExpired, Span, TimePositions
from odin_ws.records import Record, TopicPartition

__all__ = ["LogReaderContract", "LogUnderTest", "read_all"]


class LogUnderTest(Protocol):
    """An archive that runs, and its log: `topic` of two partitions, and nothing else."""

    log_reader: LogReader
    topic: str

    async def publish(self, partition: int, count: int, timestamp: int = 1_000) -> None:
        """Append records whose values are their offsets, of times a second apart (epoch ms)."""

    async def delete_before(self, partition: int, offset: int) -> None:
        """Let retention take what is before `offset`."""


async def read_all(log_reader: LogReader, spans: Mapping[TopicPartition, Span]) -> list[Record]:
    """All records of these spans."""
    async with log_reader.read(spans) as batches:
        return [record async for records in batches for record in records]


class LogReaderContract:
    """The tests; `past` is empty at the start of each."""

    async def test_bounds(self, past: LogUnderTest) -> None:
        """The oldest offset and the next one, also of an empty partition."""
        here, empty = TopicPartition(past.topic, 0), TopicPartition(past.topic, 1)
        await past.publish(0, 10)
        assert await past.log_reader.bounds([here, empty]) == {here: (0, 10), empty: (0, 0)}
        await past.delete_before(0, 4)
        assert await past.log_reader.bounds([here]) == {here: (4, 10)}

    async def test_missing_topic_or_partition_has_no_bounds(self, past: LogUnderTest) -> None:
        """The request does not create it."""
        here = TopicPartition(past.topic, 1)
        others = [TopicPartition(past.topic, 2), TopicPartition(f"{past.topic}.not", 0)]
        assert await past.log_reader.bounds([here, *others]) == {here: (0, 0)}
        assert await past.log_reader.bounds(others) == {}
        assert await past.log_reader.bounds([]) == {}

    async def test_positions_at_a_time(self, past: LogUnderTest) -> None:
        """The offset before the first record that is not older; none if all are older."""
        first, second = TopicPartition(past.topic, 0), TopicPartition(past.topic, 1)
        await past.publish(0, 3, 1_000)
        await past.publish(1, 3, 2_000)
        topics = [past.topic, f"{past.topic}.not"]
        found = [
            (await past.log_reader.positions_at(topics, at)).found
            for at in (0, 1_000, 1_001, 3_001, 4_001)
        ]
        assert found == [
            {first: -1, second: -1},
            {first: -1, second: -1},
            {first: 0, second: -1},
            {second: 1},
            {},
        ]
        assert await past.log_reader.positions_at(topics, 1 << 80) == TimePositions({})
        assert await past.log_reader.positions_at(topics[1:], 0) == TimePositions({})

    async def test_spans_are_inclusive(self, past: LogUnderTest) -> None:
        """In order within each partition."""
        first, second = TopicPartition(past.topic, 0), TopicPartition(past.topic, 1)
        await past.publish(0, 1200)
        await past.publish(1, 30)
        records = await read_all(past.log_reader, {first: Span(7, 1100), second: Span(29, 29)})
        offsets = [record.offset for record in records if record.partition == 0]
        assert offsets == list(range(7, 1101))
        (other,) = (record for record in records if record.partition == 1)
        assert attrs.astuple(other) == (past.topic, 1, 29, 30_000, b"BTC", b"29", None, ())

    async def test_batches_are_small(self, past: LogUnderTest) -> None:
        """The event loop serves others between them."""
        key = TopicPartition(past.topic, 0)
        await past.publish(0, 1200)
        async with past.log_reader.read({key: Span(0, 1199)}) as batches:
            sizes = [len(records) async for records in batches]
        assert sum(sizes) == 1200
        assert max(sizes) <= 500

    async def test_empty_spans(self, past: LogUnderTest) -> None:
        """A span may be empty, and there may be none."""
        key = TopicPartition(past.topic, 0)
        await past.publish(0, 3)
        assert await read_all(past.log_reader, {key: Span(3, 2)}) == []
        assert await read_all(past.log_reader, {}) == []

    async def test_deleted_records_raise_records_expired(self, past: LogUnderTest) -> None:
        """The rest can be read."""
        key = TopicPartition(past.topic, 0)
        await past.publish(0, 20)
        await past.delete_before(0, 10)
        with pytest.raises(RecordsExpired, match=past.topic):
            await read_all(past.log_reader, {key: Span(9, 19)})
        assert len(await read_all(past.log_reader, {key: Span(10, 19)})) == 10

    async def test_offsets_beyond_the_end_raise_records_expired(self, past: LogUnderTest) -> None:
        """Also of a topic or partition that does not exist."""
        await past.publish(0, 20)
        beyond = TopicPartition(past.topic, 0)
        nowhere = [TopicPartition(past.topic, 2), TopicPartition(f"{past.topic}.not", 0)]
        for key in beyond, *nowhere:
            with pytest.raises(RecordsExpired, match=key.topic):
                await read_all(past.log_reader, {key: Span(21, 30)})
        assert await past.log_reader.bounds(nowhere) == {}

    async def test_span_beyond_the_end_raises_after_timeout(self, past: LogUnderTest) -> None:
        """The existing records come first."""
        key = TopicPartition(past.topic, 0)
        await past.publish(0, 20)
        received: list[Record] = []
        async with past.log_reader.read({key: Span(15, 30)}) as batches:
            while len(received) < 5:
                received += await anext(batches)
            with pytest.raises(LogUnavailable, match=f"no records come from {past.topic} 0"):
                await anext(batches)
        assert [record.offset for record in received] == list(range(15, 20))

    async def test_abandoned_read_does_not_block_others(self, past: LogUnderTest) -> None:
        """By leaving the block or by cancellation, before or after the first batch."""
        key = TopicPartition(past.topic, 0)
        await past.publish(0, 3000)
        spans = {key: Span(0, 2999)}
        for _ in range(3):
            async with past.log_reader.read(spans) as batches:
                await anext(batches)
            async with past.log_reader.read(spans):
                pass
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read_all, past.log_reader, spans)
                nursery.start_soon(past.log_reader.bounds, [key])
                async with past.log_reader.read(spans) as batches:
                    await anext(batches)
                    nursery.cancel_scope.cancel()
        assert len(await read_all(past.log_reader, spans)) == 3000
