"""The buffer for the hub is bounded per partition and broker, and shared fairly."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from collections import Counter

import pytest
import trio
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from trio.testing import MockClock

from odin_ws.kafka.fetch_plan import FETCH_BYTES, PARTITION_BYTES
from odin_ws.kafka.fetcher import BATCH_RECORDS, Fetcher
from odin_ws.records import TopicPartition
from tests.kafka.fake_cluster import FakeCluster
from tests.kafka.fetchers import FIRST, SECOND, SLOT, fetching, places

# One cycle of a paced source, and the records of 1,000 a second in it.
CYCLE = 0.05
SHARE = 50

MANY = [TopicPartition("odin.social", number) for number in range(40)]


def buffered(fetcher: Fetcher) -> int:
    """Bytes that wait for the hub."""
    return sum(partition.buffered_bytes for partition in fetcher.partitions.values())


async def test_fetching_stops_while_the_buffer_is_full(autojump_clock: MockClock) -> None:
    """Records stay in Kafka while the hub is busy: this is the back-pressure."""
    cluster = FakeCluster({FIRST: 0, SECOND: 1})
    for key in (FIRST, SECOND):
        cluster.publish_large(key, 100_000, 100)
    async with fetching(cluster) as fetcher:
        await trio.sleep(10)
        before = len(cluster.fetches())
        assert 2 * PARTITION_BYTES <= buffered(fetcher) / 2 <= 3 * PARTITION_BYTES
        await trio.sleep(10)
        assert len(cluster.fetches()) == before
        assert len(await places(fetcher, 200)) == 200


async def test_buffer_counts_decompressed_bytes(autojump_clock: MockClock) -> None:
    """Compressed batches may be a thousand times larger in memory."""
    cluster = FakeCluster({FIRST: 0})
    log = cluster.logs[FIRST]
    for number in range(100):
        made = compressed(number, 500_000)
        log.append([b"x"])
        log.batches[-1].data = made
    async with fetching(cluster) as fetcher:
        await trio.sleep(10)
        assert fetcher.partitions[FIRST].buffered_bytes >= 100 * 500_000
        held = sum(len(record.value or b"") for record in (await fetcher.take(None)).records)
        # One fetch decodes at most some 64 MiB.
        assert held <= 70 << 20


@pytest.mark.parametrize("backlog_node", [0, 1])
async def test_quiet_partition_is_delivered_within_a_cycle_beside_a_backlog(
    autojump_clock: MockClock, backlog_node: int
) -> None:
    """With a slow hub, and a backlog on the same or another broker."""
    cluster = FakeCluster({FIRST: backlog_node, SECOND: 0})
    for _ in range(200):
        cluster.publish(FIRST, 500)
    async with fetching(cluster) as fetcher:
        await waits_at_most(cluster, fetcher, CYCLE + SLOT)


async def test_quiet_partition_is_delivered_within_a_cycle_beside_a_full_broker(
    autojump_clock: MockClock,
) -> None:
    """Forty partitions of its broker have a backlog larger than the buffer."""
    cluster = FakeCluster({SECOND: 0} | dict.fromkeys(MANY, 0))
    for key in MANY:
        cluster.publish_large(key, 50_000, 60)
    async with fetching(cluster) as fetcher:
        await trio.sleep(1)
        assert buffered(fetcher) <= 2 * FETCH_BYTES + FETCH_BYTES + len(MANY) * (64 << 10)
        await waits_at_most(cluster, fetcher, CYCLE + SLOT)


async def waits_at_most(cluster: FakeCluster, fetcher: Fetcher, seconds: float) -> None:
    """Take 1,000 records a second; the quiet partition's one a second is never older than that."""
    published: dict[int, float] = {}
    worst = 0.0
    end = cluster.logs[SECOND].end

    async with trio.open_nursery() as nursery:

        async def publish() -> None:
            for number in range(30):
                await trio.sleep(0.97)
                published[end + number] = trio.current_time()
                cluster.publish(SECOND)

        nursery.start_soon(publish)
        seen = 0
        while seen < 30:
            await trio.sleep(CYCLE)
            taken = await fetcher.take(SHARE)
            assert taken.records
            for record in taken.records:
                if (record.topic, record.partition) == SECOND:
                    seen += 1
                    worst = max(worst, trio.current_time() - published[record.offset])
    assert worst <= seconds + 0.001


async def test_backlogs_have_equal_shares(autojump_clock: MockClock) -> None:
    """Whatever was read first."""
    keys = MANY[:4]
    cluster = FakeCluster({key: key.partition % 2 for key in keys})
    for number, key in enumerate(keys):
        for _ in range(20 * (number + 1)):
            cluster.publish(key, 100)
    async with fetching(cluster) as fetcher:
        await trio.sleep(1)
        counts: Counter[int] = Counter()
        for _ in range(20):
            counts.update(record.partition for record in (await fetcher.take(SHARE)).records)
        assert sum(counts.values()) == 20 * SHARE
        assert max(counts.values()) - min(counts.values()) <= 2 * SHARE / len(keys)


async def test_take_has_records_of_each_partition(autojump_clock: MockClock) -> None:
    """A record does not wait for a take per partition with a backlog."""
    keys = [*MANY[:10], FIRST]
    cluster = FakeCluster(dict.fromkeys(keys, 0))
    for key in MANY[:10]:
        for _ in range(10):
            cluster.publish(key, 100)
    cluster.publish(FIRST)
    async with fetching(cluster) as fetcher:
        await trio.sleep(1)
        taken = await fetcher.take(SHARE)
        assert {(record.topic, record.partition) for record in taken.records} == set(keys)
        assert len(taken.records) == SHARE


async def test_single_backlog_uses_the_whole_take(autojump_clock: MockClock) -> None:
    """One partition fills all of it."""
    cluster = FakeCluster({FIRST: 0, SECOND: 0})
    for _ in range(10):
        cluster.publish(FIRST, 1000)
    async with fetching(cluster) as fetcher:
        await trio.sleep(1)
        assert len((await fetcher.take(None)).records) == BATCH_RECORDS


async def test_large_batch_of_a_quiet_partition_is_read_beside_a_full_broker(
    autojump_clock: MockClock,
) -> None:
    """Also from a broker that truncates it: small fetches are for batches that fit."""
    cluster = FakeCluster({SECOND: 0} | dict.fromkeys(MANY, 0), sends_whole=False)
    for key in MANY:
        cluster.publish_large(key, 50_000, 60)
    async with fetching(cluster) as fetcher:
        await trio.sleep(1)
        before = len(cluster.fetches())
        cluster.publish_large(SECOND, 300_000)
        await trio.sleep(1)
        assert fetcher.partitions[SECOND].has_buffered
        assert len(cluster.fetches()) - before <= 30


def compressed(offset: int, size: int) -> bytes:
    """A batch of one record, which is small and decompresses to `size` bytes."""
    builder = DefaultRecordBatchBuilder(2, 1, 0, -1, 0, 0, 1 << 30)
    builder.append(0, 1_000, b"BTC", bytes(size), [])
    made = bytes(builder.build())
    return offset.to_bytes(8, "big") + made[8:]
