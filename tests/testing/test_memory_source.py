"""The source in memory: history at the start, deleted records, broker outages."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import time

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from odin_ws.kafka.source_status import SourceState
from odin_ws.records import Record, TopicPartition
from odin_ws.testing.memory_log import MemoryLog, MemorySource
from tests.kafka.source_items import KEY, TOPIC, fill, reading

# ---- history


def fill_at(log: MemoryLog, partition: int, *ages: float) -> list[Record]:
    """Append records with these ages in seconds."""
    now = time.time()
    return [
        log.append(TOPIC, b"a", b"{}", partition=partition, timestamp=int((now - age) * 1000))
        for age in ages
    ]


async def test_history_has_records_within_history_seconds(autojump_clock: MockClock) -> None:
    """The assignment has its begin and end; the end is reported, then live records follow."""
    log = MemoryLog([TOPIC], 2)
    past = fill_at(log, 0, 300, 90, 50, 40)
    fill_at(log, 1, 300)
    source = MemorySource(log, history_seconds=60, history_records=1000)
    async with reading(source) as reader:
        assignment = await reader.assignment()
        assert assignment.positions == {KEY: 3, TopicPartition(TOPIC, 1): 0}
        assert assignment.history == {KEY: 1, TopicPartition(TOPIC, 1): 0}
        assert await reader.records(2) == past[2:]
        await reader.history_end()
        news = fill(log, 1)
        assert await reader.records(1) == news


async def test_history_has_at_most_history_records(autojump_clock: MockClock) -> None:
    """The newest of each partition; a partition with few records leaves its share to the others."""
    log = MemoryLog([TOPIC], 3)
    records = {number: fill_at(log, number, *[1] * count) for number, count in enumerate((2, 9, 9))}
    source = MemorySource(log, history_seconds=60, history_records=12)
    async with reading(source) as reader:
        await reader.assignment()
        assert await reader.records(12) == [*records[0], *records[1][-5:], *records[2][-5:]]
        await reader.history_end()


@pytest.mark.parametrize(("seconds", "records"), [(0, 0), (60, 0), (0, 1000)])
async def test_history_of_0_seconds_or_records_is_empty(
    autojump_clock: MockClock, seconds: float, records: int
) -> None:
    """Its end is reported all the same."""
    log = MemoryLog([TOPIC], 1)
    fill(log, 3)
    source = MemorySource(log, history_seconds=seconds, history_records=records)
    async with reading(source) as reader:
        assert not (await reader.begin()).history
        news = fill(log, 1)
        assert await reader.records(1) == news


async def test_source_is_starting_and_unpaced_while_reading_history(
    autojump_clock: MockClock,
) -> None:
    """The rate applies to live records only."""
    log = MemoryLog([TOPIC], 1)
    fill(log, 30)
    source = MemorySource(log, 10, 1, history_seconds=60, history_records=1000)
    async with reading(source, capacity=0) as reader:
        await reader.assignment()
        for _ in range(30):
            assert source.status.state.value is SourceState.STARTING
            await reader.batch()
        assert trio.current_time() == 0
        await reader.history_end()
        fill(log, 30)
        await reader.records(30)
        assert source.status.state.value is SourceState.LIVE
        assert trio.current_time() > 2


# ---- deleted records


async def test_records_deleted_before_being_read_are_reported_and_counted(
    autojump_clock: MockClock,
) -> None:
    """An assignment with the next position comes before the next record."""
    log = MemoryLog([TOPIC], 1)
    source = MemorySource(log, batch=1)
    async with reading(source, capacity=0) as reader:
        await reader.begin()
        records = fill(log, 5)
        assert await reader.batch() == records[:1]
        # The source holds the next record.
        await wait_all_tasks_blocked()
        log.delete_before(TOPIC, 0, 4)
        assert await reader.batch() == records[1:2]
        assert (await reader.assignment()).positions == {KEY: 3}
        assert await reader.batch() == records[4:]
        assert source.status.lost_records == 2


async def test_recreated_topic_is_read_from_its_first_record(autojump_clock: MockClock) -> None:
    """An assignment with position -1 comes before it; no record counts as lost."""
    log = MemoryLog([TOPIC], 1)
    source = MemorySource(log)
    fill(log, 5)
    async with reading(source) as reader:
        await reader.begin()
        log.recreate(TOPIC)
        assert (await reader.assignment()).positions == {KEY: -1}
        news = fill(log, 2)
        assert await reader.records(2) == news
        assert source.status.lost_records == 0


async def test_history_deleted_before_being_read_continues_with_remaining_records(
    autojump_clock: MockClock,
) -> None:
    """The position does not change, and no record counts as lost."""
    log = MemoryLog([TOPIC], 1)
    records = fill(log, 9)
    source = MemorySource(log, batch=1, history_seconds=60, history_records=8)
    async with reading(source, capacity=0) as reader:
        await reader.assignment()
        await wait_all_tasks_blocked()
        log.delete_before(TOPIC, 0, 6)
        assert await reader.batch() == records[1:2]
        assignment = await reader.assignment()
        assert assignment.positions == {KEY: 8}
        assert assignment.history == {KEY: 5}
        assert await reader.records(3) == records[6:]
        await reader.history_end()
        assert source.status.lost_records == 0


# ---- broker outages


async def test_lost_broker_stalls_source_until_found(autojump_clock: MockClock) -> None:
    """The status has the reason; records published meanwhile are delivered afterwards."""
    log = MemoryLog([TOPIC], 1)
    source = MemorySource(log)
    async with reading(source) as reader:
        await reader.begin()
        await wait_all_tasks_blocked()
        source.lose_broker("connection refused")
        assert source.status.state.value is SourceState.STALLED
        assert source.status.reason == "connection refused"
        records = fill(log, 3)
        await trio.sleep(60)
        assert reader.batches() == []
        source.find_broker()
        assert await reader.records(3) == records
        await source.status.state.wait_value(SourceState.LIVE)


async def test_broker_missing_at_start_keeps_source_starting(autojump_clock: MockClock) -> None:
    """The status has the reason."""
    source = MemorySource(MemoryLog([TOPIC], 1))
    source.lose_broker("no answer")
    async with reading(source) as reader:
        await trio.sleep(60)
        assert source.status.state.value is SourceState.STARTING
        assert source.status.reason == "no answer"
        source.find_broker()
        await reader.begin()
        await source.status.state.wait_value(SourceState.LIVE)
