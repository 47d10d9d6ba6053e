"""The log in memory has Kafka's order and offsets, and its source behaves as Kafka's source."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from collections import defaultdict

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from odin_ws.kafka.source_status import SourceState
from odin_ws.records import Record, TopicPartition
from odin_ws.testing.memory_log import MemoryLog, MemorySource
from tests.hypothesis_examples import examples
from tests.kafka.source_items import KEY, TOPIC, fill, reading
from tests.virtual_time import in_virtual_time

# ---- the log


@given(st.lists(st.binary(max_size=3) | st.none(), max_size=30), st.integers(1, 12))
def test_key_stays_in_its_partition_and_offsets_have_no_gap(
    keys: list[bytes | None], partitions: int
) -> None:
    """So the records of a token are in order, as in Kafka."""

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
    """A test can choose both."""
    record = MemoryLog([TOPIC]).append(TOPIC, None, None, partition=7, timestamp=5)
    assert (record.partition, record.offset, record.timestamp) == (7, 0, 5)


async def test_delete_before_keeps_offsets_of_remaining_records(autojump_clock: MockClock) -> None:
    """New records continue after them."""
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


async def test_delete_before_beyond_end_raises(autojump_clock: MockClock) -> None:
    """A test that deletes records that it never wrote is wrong."""
    log = MemoryLog([TOPIC], 1)
    fill(log, 5)
    with pytest.raises(ValueError, match=r"odin\.trades 0 ends at 5, before 6"):
        log.delete_before(TOPIC, 0, 6)


async def test_recreated_topic_is_empty_and_begins_at_0(autojump_clock: MockClock) -> None:
    """Other topics do not change."""
    log = MemoryLog([TOPIC, "odin.social"], 1)
    fill(log, 5)
    log.append("odin.social", b"BTC", b"{}")
    log.recreate(TOPIC)
    assert log.bounds() == {KEY: (0, 0), TopicPartition("odin.social", 0): (0, 1)}
    assert fill(log, 1)[0].offset == 0


async def test_first_since_returns_first_offset_of_that_time(autojump_clock: MockClock) -> None:
    """First in offset order; there may be none."""
    log = MemoryLog([TOPIC], 1)
    for timestamp in (10, 30, 20, 40):
        log.append(TOPIC, b"BTC", b"{}", timestamp=timestamp)
    found = [log.first_since(timestamp).get(KEY) for timestamp in (0, 10, 11, 31, 41)]
    assert found == [0, 0, 1, 3, None]


# ---- the source


async def test_failing_11_source_starts_at_the_end(autojump_clock: MockClock) -> None:
    """Records from before are not delivered as live, and no later record is missed."""
    log = MemoryLog([TOPIC], 2)
    log.append(TOPIC, b"a", b"{}", partition=0)
    log.append(TOPIC, b"b", b"{}", partition=0)
    async with reading(MemorySource(log)) as reader:
        assignment = await reader.begin()
        assert assignment.positions == {TopicPartition(TOPIC, 0): 1, TopicPartition(TOPIC, 1): -1}
        assert not assignment.partial
        new = [log.append(TOPIC, b"c", b"{}", partition=number) for number in (0, 1)]
        assert await reader.records(2) == new


async def test_source_is_live_when_it_reads(autojump_clock: MockClock) -> None:
    """Before that it is starting."""
    source = MemorySource(MemoryLog([TOPIC]))
    seen = [source.status.state.value]
    async with reading(source) as reader:
        await reader.begin()
        await wait_all_tasks_blocked()
        seen.append(source.status.state.value)
    assert seen == [SourceState.STARTING, SourceState.LIVE]


async def test_records_are_delivered_at_once_in_batches(autojump_clock: MockClock) -> None:
    """Without a rate no record waits; the size of a batch is limited."""
    log = MemoryLog([TOPIC], 1)
    async with reading(MemorySource(log, batch=10)) as reader:
        await reader.begin()
        await wait_all_tasks_blocked()
        fill(log, 25)
        await wait_all_tasks_blocked()
        assert reader.batches() == [10, 10, 5]
        assert trio.current_time() == 0


@pytest.mark.parametrize("rate", [0, 1000])
async def test_batch_size_is_limited_across_partitions(
    autojump_clock: MockClock, rate: float
) -> None:
    """With and without a rate."""
    log = MemoryLog([TOPIC], 3)
    async with reading(MemorySource(log, rate, batch=10)) as reader:
        await reader.begin()
        await wait_all_tasks_blocked()
        for number in range(45):
            log.append(TOPIC, None, b"{}", partition=number % 3)
        await wait_all_tasks_blocked()
        assert reader.batches() == [10, 10, 10, 10, 5]


@pytest.mark.parametrize("rate", [1, 3, 7.5, 100, 1000])
async def test_failing_08_rate_delays_and_never_drops(
    autojump_clock: MockClock, rate: float
) -> None:
    """All records arrive in order, no faster than the rate after a burst of one slot."""
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


async def test_status_is_paced_while_rate_delays_records(
    autojump_clock: MockClock,
) -> None:
    """Health shows it."""
    log = MemoryLog([TOPIC], 1)
    source = MemorySource(log, rate=10)
    async with reading(source) as reader:
        await reader.begin()
        await wait_all_tasks_blocked()
        assert not source.status.paced
        fill(log, 30)
        await trio.sleep(1.05)
        assert source.status.paced
        await trio.sleep(5)
        log.append(TOPIC, b"BTC", b"{}")
        await wait_all_tasks_blocked()
        assert not source.status.paced


@pytest.mark.parametrize("capacity", [0, 1, 4])
async def test_source_stops_reading_while_channel_is_full(
    autojump_clock: MockClock, capacity: int
) -> None:
    """This is the back-pressure: records that the hub has not taken stay in the log."""
    log = MemoryLog([TOPIC], 1)
    async with reading(MemorySource(log, batch=1), capacity) as reader:
        await reader.begin()
        await wait_all_tasks_blocked()
        expected = fill(log, 100)
        await trio.sleep(1000)
        # The source holds one batch more than the channel.
        assert reader.batches() == [1] * (capacity + 1)
        assert await reader.records(99 - capacity) == expected[capacity + 1 :]


@settings(max_examples=examples(60))
@given(
    st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c", b"d"]), st.booleans()), max_size=40),
    st.integers(1, 5),
    st.sampled_from([0, 30]),
    st.integers(0, 2),
)
def test_failing_13_records_of_a_partition_are_delivered_in_order_and_once(
    steps: list[tuple[bytes, bool]], batch: int, rate: float, capacity: int
) -> None:
    """With any batch sizes, rates and pauses."""

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
                assert [record for record in received if record.partition == number] == [
                    record for record in appended if record.partition == number
                ]

    in_virtual_time(main)
