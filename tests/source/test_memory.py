"""The log in memory has Kafka's order and offsets, and its source a source's manners."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from odin_ws.records import Assignment, Batch, HistoryEnd, Item, Record, TopicPartition
from odin_ws.source.feed import FeedStatus
from odin_ws.source.memory import MemoryLog, MemorySource
from tests.virtual_time import in_virtual_time

TOPIC = "odin.trades"
KEY = TopicPartition(TOPIC, 0)


class Reader:
    """The hub's end of a source's channel."""

    def __init__(self, receive: trio.MemoryReceiveChannel[Item]) -> None:
        self._receive = receive

    async def begin(self) -> Assignment:
        """The first assignment of a source without a history."""
        assignment = await self.assignment()
        await self.history_end()
        return assignment

    async def assignment(self) -> Assignment:
        """The next item, which is one."""
        item = await self._receive.receive()
        assert isinstance(item, Assignment)
        return item

    async def history_end(self) -> None:
        """The next item is the end of the history."""
        assert isinstance(await self._receive.receive(), HistoryEnd)

    async def batch(self) -> list[Record]:
        """The records of the next item, which is a batch."""
        item = await self._receive.receive()
        assert isinstance(item, Batch)
        return list(item.records)

    async def records(self, count: int) -> list[Record]:
        """The next records, which come in one batch or several."""
        found: list[Record] = []
        while len(found) < count:
            found += await self.batch()
        assert len(found) == count
        return found

    def batches(self) -> list[int]:
        """The sizes of the batches that are there now."""
        sizes: list[int] = []
        while True:
            try:
                item = self._receive.receive_nowait()
            except trio.WouldBlock:
                return sizes
            assert isinstance(item, Batch)
            sizes.append(len(item.records))


@asynccontextmanager
async def reading(source: MemorySource, capacity: float = 100) -> AsyncIterator[Reader]:
    """Run a source for the length of the block."""
    send, receive = trio.open_memory_channel[Item](capacity)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run, send)
        yield Reader(receive)
        nursery.cancel_scope.cancel()


def fill(log: MemoryLog, count: int, key: bytes = b"BTC") -> list[Record]:
    """Append records of one token."""
    return [log.append(TOPIC, key, b"{}") for _ in range(count)]


# ---- the log


@given(st.lists(st.binary(max_size=3) | st.none(), max_size=30), st.integers(1, 12))
def test_a_key_stays_in_its_partition_and_offsets_have_no_hole(
    keys: list[bytes | None], partitions: int
) -> None:
    """So one token's records are in order, as in Kafka."""

    async def main(_: MockClock) -> None:
        log = MemoryLog([TOPIC, "odin.social"], partitions)
        where: dict[bytes | None, int] = {}
        offsets: dict[int, list[int]] = defaultdict(list)
        for key in keys:
            record = log.append(TOPIC, key, b"{}")
            assert where.setdefault(key, record.partition) == record.partition
            assert 0 <= record.partition < partitions
            offsets[record.partition].append(record.offset)
        assert all(found == list(range(len(found))) for found in offsets.values())
        assert log.ends() == {
            TopicPartition(topic, number): len(offsets[number]) if topic == TOPIC else 0
            for topic in (TOPIC, "odin.social")
            for number in range(partitions)
        }

    in_virtual_time(main)


async def test_partition_and_timestamp_can_be_given(autojump_clock: MockClock) -> None:
    """What a test needs to be so is so."""
    record = MemoryLog([TOPIC]).append(TOPIC, None, None, partition=7, timestamp=5)
    assert (record.partition, record.offset, record.timestamp) == (7, 0, 5)


async def test_retention_leaves_the_offsets_as_they_are(autojump_clock: MockClock) -> None:
    """What is deleted is gone, what is left keeps its place, and new records come behind it."""
    log = MemoryLog([TOPIC], 1)
    kept = fill(log, 5)[3:]
    log.delete_before(TOPIC, 0, 3)
    log.delete_before(TOPIC, 0, 1)
    assert log.bounds() == {KEY: (3, 5)}
    kept += fill(log, 1)
    assert [record.offset for record in kept] == [3, 4, 5]
    assert log.read({KEY: 3}, None) == kept
    assert log.read({KEY: 4}, 1) == kept[1:2]
    log.delete_before(TOPIC, 0, 6)
    assert log.bounds() == {KEY: (6, 6)}


async def test_more_than_there_is_cannot_be_deleted(autojump_clock: MockClock) -> None:
    """A test that deletes what it has not written is wrong, and hears of it."""
    log = MemoryLog([TOPIC], 1)
    fill(log, 5)
    with pytest.raises(ValueError, match=r"odin\.trades 0 ends at 5, before 6"):
        log.delete_before(TOPIC, 0, 6)


async def test_a_recreated_topic_is_empty_and_begins_at_0(autojump_clock: MockClock) -> None:
    """Other topics are as they were."""
    log = MemoryLog([TOPIC, "odin.social"], 1)
    fill(log, 5)
    log.append("odin.social", b"BTC", b"{}")
    log.recreate(TOPIC)
    assert log.bounds() == {KEY: (0, 0), TopicPartition("odin.social", 0): (0, 1)}
    assert fill(log, 1)[0].offset == 0


async def test_a_place_in_time(autojump_clock: MockClock) -> None:
    """It is that of the first record in offset order; there may be none."""
    log = MemoryLog([TOPIC], 1)
    for timestamp in (10, 30, 20, 40):
        log.append(TOPIC, b"BTC", b"{}", timestamp=timestamp)
    found = [log.first_since(timestamp).get(KEY) for timestamp in (0, 10, 11, 31, 41)]
    assert found == [0, 0, 1, 3, None]


# ---- the source


async def test_failing_11_a_source_starts_at_the_end(autojump_clock: MockClock) -> None:
    """What was there before is not delivered as if it were live, and nothing after it is missed."""
    log = MemoryLog([TOPIC], 2)
    log.append(TOPIC, b"a", b"{}", partition=0)
    log.append(TOPIC, b"b", b"{}", partition=0)
    async with reading(MemorySource(log)) as reader:
        assignment = await reader.begin()
        assert assignment.positions == {TopicPartition(TOPIC, 0): 1, TopicPartition(TOPIC, 1): -1}
        assert not assignment.partial
        new = [log.append(TOPIC, b"c", b"{}", partition=number) for number in (0, 1)]
        assert await reader.records(2) == new


async def test_a_source_is_live_when_it_reads(autojump_clock: MockClock) -> None:
    """Not when it was made."""
    source = MemorySource(MemoryLog([TOPIC]))
    seen = [source.feed.status.value]
    async with reading(source) as reader:
        await reader.begin()
        await wait_all_tasks_blocked()
        seen.append(source.feed.status.value)
    assert seen == [FeedStatus.STARTING, FeedStatus.LIVE]


async def test_records_come_at_once_and_in_batches(autojump_clock: MockClock) -> None:
    """Without a rate nothing waits; a batch has a largest size."""
    log = MemoryLog([TOPIC], 1)
    async with reading(MemorySource(log, batch=10)) as reader:
        await reader.begin()
        await wait_all_tasks_blocked()
        fill(log, 25)
        await wait_all_tasks_blocked()
        assert reader.batches() == [10, 10, 5]
        assert trio.current_time() == 0


@pytest.mark.parametrize("rate", [0, 1000])
async def test_a_batch_is_bounded_across_partitions(autojump_clock: MockClock, rate: float) -> None:
    """Neither many partitions nor a generous rate make a batch larger than it may be."""
    log = MemoryLog([TOPIC], 3)
    async with reading(MemorySource(log, rate, batch=10)) as reader:
        await reader.begin()
        await wait_all_tasks_blocked()
        for number in range(45):
            log.append(TOPIC, None, b"{}", partition=number % 3)
        await wait_all_tasks_blocked()
        assert reader.batches() == [10, 10, 10, 10, 5]


@pytest.mark.parametrize("rate", [1, 3, 7.5, 100, 1000])
async def test_failing_8_a_rate_paces_and_never_drops(
    autojump_clock: MockClock, rate: float
) -> None:
    """Everything arrives, in order, and no faster than the rate but for one slot's burst."""
    log = MemoryLog([TOPIC], 1)
    source = MemorySource(log, rate)
    count = max(10, round(rate * 2))
    async with reading(source) as reader:
        await reader.begin()
        await wait_all_tasks_blocked()
        expected = fill(log, count)
        burst = max(1, rate * 0.05)
        received: list[Record] = []
        while len(received) < count:
            received += await reader.batch()
            assert len(received) <= burst + rate * trio.current_time() + 1e-3
        assert received == expected
        assert trio.current_time() == pytest.approx((count - burst) / rate, abs=2 / rate + 0.1)


async def test_a_feed_is_paced_while_its_rate_holds_records_back(
    autojump_clock: MockClock,
) -> None:
    """Health can say so while it is so, and no longer."""
    log = MemoryLog([TOPIC], 1)
    source = MemorySource(log, rate=10)
    async with reading(source) as reader:
        await reader.begin()
        await wait_all_tasks_blocked()
        assert not source.feed.paced
        fill(log, 30)
        await trio.sleep(1.05)
        assert source.feed.paced
        await trio.sleep(5)
        log.append(TOPIC, b"BTC", b"{}")
        await wait_all_tasks_blocked()
        assert not source.feed.paced


@pytest.mark.parametrize("capacity", [0, 1, 4])
async def test_with_a_full_channel_a_source_reads_no_further(
    autojump_clock: MockClock, capacity: int
) -> None:
    """That is the back-pressure: what the hub has not taken stays in the log."""
    log = MemoryLog([TOPIC], 1)
    async with reading(MemorySource(log, batch=1), capacity) as reader:
        await reader.begin()
        await wait_all_tasks_blocked()
        expected = fill(log, 100)
        await trio.sleep(1000)
        # One more than fits is in the source's hands.
        assert reader.batches() == [1] * (capacity + 1)
        assert await reader.records(99 - capacity) == expected[capacity + 1 :]


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c", b"d"]), st.booleans()), max_size=40),
    st.integers(1, 5),
    st.sampled_from([0, 30]),
    st.integers(0, 2),
)
def test_failing_13_each_partitions_records_come_in_order_and_once(
    steps: list[tuple[bytes, bool]], batch: int, rate: float, capacity: int
) -> None:
    """Whatever the sizes, rates and pauses, what comes out is what was put in."""

    async def main(_: MockClock) -> None:
        log = MemoryLog([TOPIC], 3)
        async with reading(MemorySource(log, rate, batch), capacity) as reader:
            await reader.begin()
            await wait_all_tasks_blocked()
            appended = []

            async def publish() -> None:
                for key, pause in steps:
                    appended.append(log.append(TOPIC, key, b"{}"))
                    if pause:
                        await trio.sleep(0.02)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(publish)
                received = await reader.records(len(steps))
            for number in range(3):
                assert [one for one in received if one.partition == number] == [
                    one for one in appended if one.partition == number
                ]

    in_virtual_time(main)


# ---- what was there before


def fill_at(log: MemoryLog, partition: int, *ages: float) -> list[Record]:
    """Append records that are so many seconds old."""
    now = time.time()
    return [
        log.append(TOPIC, b"a", b"{}", partition=partition, timestamp=int((now - age) * 1000))
        for age in ages
    ]


async def test_history_is_what_is_young_enough(autojump_clock: MockClock) -> None:
    """The assignment says where it begins and where it ends; its end is told; then comes news."""
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


async def test_history_is_no_more_than_so_many_records(autojump_clock: MockClock) -> None:
    """The newest of each partition; one that has few leaves its share to the others."""
    log = MemoryLog([TOPIC], 3)
    records = {number: fill_at(log, number, *[1] * count) for number, count in enumerate((2, 9, 9))}
    source = MemorySource(log, history_seconds=60, history_records=12)
    async with reading(source) as reader:
        await reader.assignment()
        assert await reader.records(12) == [*records[0], *records[1][-5:], *records[2][-5:]]
        await reader.history_end()


@pytest.mark.parametrize(("seconds", "records"), [(0, 0), (60, 0), (0, 1000)])
async def test_no_history_is_asked_for(
    autojump_clock: MockClock, seconds: float, records: int
) -> None:
    """Without a time or without a number there is none, and its end comes all the same."""
    log = MemoryLog([TOPIC], 1)
    fill(log, 3)
    source = MemorySource(log, history_seconds=seconds, history_records=records)
    async with reading(source) as reader:
        assert not (await reader.begin()).history
        news = fill(log, 1)
        assert await reader.records(1) == news


async def test_a_feed_is_starting_while_it_reads_its_history_and_no_rate_holds_that_up(
    autojump_clock: MockClock,
) -> None:
    """Only what is news is paced."""
    log = MemoryLog([TOPIC], 1)
    fill(log, 30)
    source = MemorySource(log, 10, 1, history_seconds=60, history_records=1000)
    async with reading(source, capacity=0) as reader:
        await reader.assignment()
        for _ in range(30):
            assert source.feed.status.value is FeedStatus.STARTING
            await reader.batch()
        assert trio.current_time() == 0
        await reader.history_end()
        fill(log, 30)
        await reader.records(30)
        assert source.feed.status.value is FeedStatus.LIVE
        assert trio.current_time() > 2


# ---- places that are gone


async def test_records_deleted_before_they_were_read(autojump_clock: MockClock) -> None:
    """The source says where it goes on before it does, and counts what is lost."""
    log = MemoryLog([TOPIC], 1)
    source = MemorySource(log, batch=1)
    async with reading(source, capacity=0) as reader:
        await reader.begin()
        records = fill(log, 5)
        assert await reader.batch() == records[:1]
        # The next one is in the source's hands.
        await wait_all_tasks_blocked()
        log.delete_before(TOPIC, 0, 4)
        assert await reader.batch() == records[1:2]
        assert (await reader.assignment()).positions == {KEY: 3}
        assert await reader.batch() == records[4:]
        assert source.feed.lost_records == 2


async def test_a_recreated_topic_is_read_from_its_first_record(autojump_clock: MockClock) -> None:
    """The assignment before it has a position that is behind the last one; nothing is lost."""
    log = MemoryLog([TOPIC], 1)
    source = MemorySource(log)
    fill(log, 5)
    async with reading(source) as reader:
        await reader.begin()
        log.recreate(TOPIC)
        assert (await reader.assignment()).positions == {KEY: -1}
        news = fill(log, 2)
        assert await reader.records(2) == news
        assert source.feed.lost_records == 0


async def test_history_deleted_before_it_was_read(autojump_clock: MockClock) -> None:
    """It goes on with what is left of it, the position stays, and nothing counts as lost."""
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
        assert source.feed.lost_records == 0


# ---- a broker that is away


async def test_a_lost_broker(autojump_clock: MockClock) -> None:
    """The feed stalls and says why; what is published meanwhile comes when it is back."""
    log = MemoryLog([TOPIC], 1)
    source = MemorySource(log)
    async with reading(source) as reader:
        await reader.begin()
        await wait_all_tasks_blocked()
        source.lose_broker("connection refused")
        assert source.feed.status.value is FeedStatus.STALLED
        assert source.feed.reason == "connection refused"
        records = fill(log, 3)
        await trio.sleep(60)
        assert reader.batches() == []
        source.find_broker()
        assert await reader.records(3) == records
        await source.feed.status.wait_value(FeedStatus.LIVE)


async def test_a_broker_that_is_away_at_the_start(autojump_clock: MockClock) -> None:
    """The feed is starting until it is there."""
    source = MemorySource(MemoryLog([TOPIC], 1))
    source.lose_broker("no answer")
    async with reading(source) as reader:
        await trio.sleep(60)
        assert source.feed.status.value is FeedStatus.STARTING
        assert source.feed.reason == "no answer"
        source.find_broker()
        await reader.begin()
        await source.feed.status.wait_value(FeedStatus.LIVE)
