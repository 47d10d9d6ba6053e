"""The log reader: spans over several leaders, and leader changes; without a broker."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from collections.abc import AsyncIterator

import attrs
import pytest
import trio
from trio.testing import MockClock

from odin_ws.log_reader import LogReader, LogUnavailable, Span, TimePositions
from odin_ws.records import InvalidBatch, TopicPartition
from tests.kafka.fake_cluster import FakeCluster
from tests.kafka.log_reader_contract import LogReaderContract, read_all
from tests.kafka.log_readers import (
    BOUND,
    KEY,
    OTHER,
    TOPIC,
    append_batches,
    offsets,
    running,
)
from tests.kafka.memory_cluster import MemoryCluster, StoredLog


@attrs.frozen
class ClusterLog:
    """A Past in a MemoryCluster."""

    cluster: MemoryCluster
    log_reader: LogReader
    topic: str = TOPIC

    async def publish(self, partition: int, count: int, timestamp: int = 1_000) -> None:
        """See Past."""
        await trio.lowlevel.checkpoint()
        log = self.cluster.logs[TopicPartition(TOPIC, partition)]
        for first in range(0, count, 700):
            log.append(min(700, count - first), timestamp + first * 1_000)

    async def delete_before(self, partition: int, offset: int) -> None:
        """See Past."""
        await trio.lowlevel.checkpoint()
        self.cluster.logs[TopicPartition(TOPIC, partition)].delete_before(offset)


@pytest.fixture
async def past(
    cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ClusterLog]:
    """An empty topic, and a log reader for one reading at a time."""
    # The contract's tests run under no virtual clock.
    monkeypatch.setattr("odin_ws.kafka.log_reader._MISSING_SECONDS", 0)
    async with running(bound=0.2) as reader:
        yield ClusterLog(cluster, reader)


class TestKafkaLogReader(LogReaderContract):
    """It is an archive."""


async def test_spans_of_several_leaders_are_read_from_each(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """Each fetch has only the partitions of its broker."""
    for log in cluster.logs.values():
        log.append(100)
    async with running() as reader:
        records = await read_all(reader, {KEY: Span(10, 99), OTHER: Span(0, 49)})
    for key, span in (KEY, range(10, 100)), (OTHER, range(50)):
        assert [record.offset for record in records if record.partition == key.partition] == list(
            span
        )
    assert set(cluster.fetched) == {0, 1}
    assert all(len(request.changed) == 1 for request in cluster.requests)


async def test_fetch_carries_leader_epoch_and_topic_id(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """A broker that lags behind, or has another topic, must not return records."""
    cluster.logs[KEY].append(1)
    cluster.logs[KEY].epoch = 7
    async with running() as reader:
        await offsets(reader, KEY, Span(0, 0))
    (request,) = cluster.requests
    assert request.changed[KEY].epoch == 7
    assert request.topic_ids == {TOPIC: f"{1:032x}"}
    assert (request.session, request.epoch) == (0, -1)


@pytest.mark.parametrize("error", [5, 6, 9, 74, 75, 78, -1, 7, 56])
async def test_read_continues_after_retriable_error(
    autojump_clock: MockClock, cluster: MemoryCluster, error: int
) -> None:
    """Each record once, in order."""
    append_batches(cluster.logs[KEY], 3)
    cluster.logs[KEY].errors = [error, error, 0, error]
    async with running() as reader:
        assert await offsets(reader, KEY, Span(0, 29)) == list(range(30))


async def test_read_follows_a_moved_leader(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """Metadata is requested again, and the rest is read from the new leader."""
    append_batches(cluster.logs[KEY], 3)
    async with running() as reader, reader.read({KEY: Span(0, 29)}) as batches:
        read = [record.offset for record in await anext(batches)]
        cluster.logs[KEY].leader = 1
        read += [record.offset async for records in batches for record in records]
    assert read == list(range(30))
    assert cluster.fetched[1] >= 1


async def test_read_waits_for_leader_election(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """A missing leader within the timeout costs only time."""
    cluster.logs[KEY].append(10)
    cluster.logs[KEY].leader = None
    async with running() as reader, trio.open_nursery() as nursery:

        async def elect() -> None:
            await trio.sleep(BOUND - 1)
            cluster.logs[KEY].leader = 1

        nursery.start_soon(elect)
        assert await offsets(reader, KEY, Span(0, 9)) == list(range(10))


async def test_partition_without_leader_does_not_delay_others(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """Their records come at once; then the error names the partition."""
    cluster.logs[KEY].append(10)
    cluster.logs[OTHER].append(10)
    cluster.logs[KEY].leader = None
    async with running() as reader, reader.read({KEY: Span(0, 9), OTHER: Span(0, 9)}) as batches:
        assert [record.partition for record in await anext(batches)] == [1] * 10
        assert trio.current_time() == 0
        with pytest.raises(LogUnavailable, match=rf"from {TOPIC} 0: no leader"):
            await anext(batches)
        assert BOUND < trio.current_time() < BOUND + 1


async def test_moved_leader_is_found_while_others_are_read(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """Other partitions' records do not delay it."""
    cluster.logs[KEY].append(10)
    append_batches(cluster.logs[OTHER], 50)
    cluster.logs[KEY].errors = [6]
    read: list[int] = []
    async with running() as reader, reader.read({KEY: Span(0, 9), OTHER: Span(0, 499)}) as batches:
        while 0 not in read:
            read += {record.partition for record in await anext(batches)}
    assert read.count(1) < 10


async def test_partitions_of_one_leader_take_turns(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """A response may not have room for all: partitions left out go first in the next fetch."""
    keys = [TopicPartition(TOPIC, number) for number in range(12)]
    for key in keys:
        cluster.logs[key] = StoredLog(leader=0)
        for _ in range(4):
            cluster.logs[key].append(1, size=1_000_000)
    first_seen: dict[int, int] = {}
    async with running() as reader, reader.read(dict.fromkeys(keys, Span(0, 3))) as batches:
        number = 0
        async for records in batches:
            for record in records:
                first_seen.setdefault(record.partition, number)
            number += 1
    assert number == 48
    # An answer has 4 MiB: the last of twelve partitions is read by the third.
    assert max(first_seen.values()) < 16


async def test_markers_and_holes_are_skipped(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """A span ends even if its last offsets have no record."""
    log = cluster.logs[KEY]
    log.append(3)
    log.append_hole(4)
    log.append(2)
    log.append_hole(1)
    async with running() as reader:
        assert await offsets(reader, KEY, Span(0, 9)) == [0, 1, 2, 7, 8]
        assert await offsets(reader, KEY, Span(3, 5)) == []
        assert await offsets(reader, KEY, Span(9, 9)) == []
        assert await offsets(reader, KEY, Span(1, 7)) == [1, 2, 7]


async def test_batch_with_a_wrong_checksum_is_fetched_again(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """The second time it becomes one invalid record."""
    log = cluster.logs[KEY]
    for _ in range(3):
        log.append(5)
    bad = log.batches[1]
    log.batches[1] = attrs.evolve(bad, data=bad.data[:-1] + b"!")
    async with running() as reader:
        records = await read_all(reader, {KEY: Span(0, 14)})
    whole = [record.offset for record in records if record.invalid is None]
    assert whole == [*range(5), *range(10, 15)]
    assert [record.offset for record in records if record.invalid is not None] == [9]


async def test_batch_with_a_wrong_length_is_skipped(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """No fetch is large enough for it: the replay continues after it."""
    log = cluster.logs[KEY]
    for _ in range(3):
        log.append(5)
    bad = log.batches[1]
    length = (1 << 31) - 1
    log.batches[1] = attrs.evolve(
        bad, data=bad.data[:8] + length.to_bytes(4, "big") + bad.data[12:]
    )
    async with running() as reader:
        records = await read_all(reader, {KEY: Span(0, 14)})
    assert [record.offset for record in records if record.invalid is None] == [
        *range(5),
        *range(10, 15),
    ]
    (skipped,) = (record for record in records if record.invalid is not None)
    assert (skipped.offset, skipped.invalid) == (9, InvalidBatch.BATCH_TOO_LARGE)


async def test_record_of_an_open_transaction_is_not_found_by_time(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No instance has reached it: `since_ms` would wait until the transaction ends."""
    other_cluster = FakeCluster({KEY: 0, OTHER: 0})
    for key in (KEY, OTHER):
        other_cluster.publish(key, 3, published_ms=1_000)
    other_cluster.publish(KEY, 2, producer=7, published_ms=2_000)
    other_cluster.publish(KEY, published_ms=3_000)
    monkeypatch.setattr("odin_ws.kafka.log_reader.KafkaClient", lambda *_: other_cluster)
    async with running() as reader:
        assert await reader.positions_at([TOPIC], 1_000) == TimePositions({KEY: -1, OTHER: -1})
        assert await reader.positions_at([TOPIC], 2_000) == TimePositions({})
        other_cluster.logs[KEY].end_transaction(7, commit=True)
        assert await reader.positions_at([TOPIC], 2_000) == TimePositions({KEY: 2})


async def test_batches_have_at_most_500_records(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """A batch in Kafka may be much larger: other tasks run between ours."""
    cluster.logs[KEY].append(1300)
    async with running() as reader, reader.read({KEY: Span(0, 1299)}) as batches:
        assert [len(records) async for records in batches] == [200] * 6 + [100]
