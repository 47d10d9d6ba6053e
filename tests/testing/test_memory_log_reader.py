"""The log reader of a log in memory is like Kafka's, and can be made to wait and to fail."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from odin_ws.log_reader import LogUnavailable, RecordsExpired, Span
from odin_ws.records import TopicPartition
from odin_ws.testing.memory_log import MemoryLog
from odin_ws.testing.memory_log_reader import MemoryLogReader
from tests.kafka.log_reader_contract import LogReaderContract, read_all

TOPIC = "odin.trades"
KEY = TopicPartition(TOPIC, 0)


class MemoryLogContract:
    """A log in memory and its reader, as `LogUnderTest` of the contract."""

    def __init__(self) -> None:
        self.topic = TOPIC
        self.log = MemoryLog([TOPIC], 2)
        self.log_reader = MemoryLogReader(self.log)

    async def publish(self, partition: int, count: int, timestamp: int = 1_000) -> None:
        """See Past."""
        for number in range(count):
            at = timestamp + number * 1_000
            value = b"%d" % number
            self.log.append(TOPIC, b"BTC", value, partition=partition, timestamp=at)
        await trio.lowlevel.checkpoint()

    async def delete_before(self, partition: int, offset: int) -> None:
        """See Past."""
        self.log.delete_before(TOPIC, partition, offset)
        await trio.lowlevel.checkpoint()


@pytest.fixture
def past() -> MemoryLogContract:
    """A log in memory and its reader."""
    return MemoryLogContract()


class TestMemoryLogReader(LogReaderContract):
    """The contract of log readers."""


async def test_held_log_reader_answers_when_it_is_released(
    past: MemoryLogContract, autojump_clock: MockClock
) -> None:
    """A test can let something happen before the answer."""
    await past.publish(0, 1)
    past.log_reader.hold()
    responses: list[object] = []

    async def read_all_later() -> None:
        responses.append(await past.log_reader.bounds([KEY]))
        responses.append(len(await read_all(past.log_reader, {KEY: Span(0, 1)})))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_all_later)
        await trio.sleep(60)
        assert responses == []
        await past.publish(0, 1)
        past.log_reader.release()
    assert responses == [{KEY: (0, 2)}, 2]


async def test_read_can_be_held_between_two_batches(past: MemoryLogContract) -> None:
    """Records deleted meanwhile are expired."""
    await past.publish(0, 1000)
    async with past.log_reader.read({KEY: Span(0, 999)}) as batches:
        assert len(await anext(batches)) == 500
        past.log_reader.hold()
        async with trio.open_nursery() as nursery:

            async def read_on() -> None:
                with pytest.raises(RecordsExpired):
                    await anext(batches)

            nursery.start_soon(read_on)
            await wait_all_tasks_blocked()
            await past.delete_before(0, 600)
            past.log_reader.release()


async def test_failing_log_reader_raises_until_it_recovers(past: MemoryLogContract) -> None:
    """Each call raises LogUnavailable, also a read that has begun."""
    await past.publish(0, 1000)
    spans = {KEY: Span(0, 999)}
    calls = (
        partial(past.log_reader.bounds, [KEY]),
        partial(past.log_reader.positions_at, [TOPIC], 0),
        partial(read_all, past.log_reader, spans),
    )
    async with past.log_reader.read(spans) as batches:
        await anext(batches)
        past.log_reader.fail("connection refused")
        for call in (*calls, partial(anext, batches)):
            with pytest.raises(LogUnavailable, match="connection refused"):
                await call()
    past.log_reader.recover()
    for call in calls:
        assert await call()
