"""A log whose last offsets have no record, because compaction has removed the records."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from odin_ws.kafka.source_status import SourceState
from odin_ws.log_reader import LogUnavailable, Span
from odin_ws.records import TopicPartition
from tests.kafka.fake_cluster import FakeCluster
from tests.kafka.fetchers import FIRST, SECOND, fetching, places
from tests.kafka.log_readers import offsets, running
from tests.kafka.sources import SOCIAL, TRADES, sourcing, whole

# A gap is noticed within a second or so.
NOTICED_SECONDS = 3

GAP = 5


def with_gap(cluster: FakeCluster, key: TopicPartition) -> FakeCluster:
    """Give a partition three records, and a gap behind them."""
    cluster.publish(key, 3)
    cluster.logs[key].skip_offsets(GAP)
    cluster.change()
    return cluster


async def test_gap_at_the_end_is_passed(autojump_clock: MockClock) -> None:
    """The position is at the log's end, and the next record arrives once."""
    cluster = with_gap(FakeCluster({FIRST: 0}), FIRST)
    async with fetching(cluster) as fetcher:
        assert await places(fetcher, 3) == ["0-0", "0-1", "0-2"]
        await trio.sleep(NOTICED_SECONDS)
        taken = await fetcher.take(None)
        assert taken.records == []
        assert taken.passed == {FIRST: 2 + GAP}
        cluster.publish(FIRST)
        assert await places(fetcher, 1) == ["0-8"]


async def test_gap_is_passed_while_others_fill_the_responses(autojump_clock: MockClock) -> None:
    """Each fetch of the broker has records of another partition."""
    cluster = with_gap(FakeCluster({FIRST: 0, SECOND: 0}), FIRST)
    async with fetching(cluster) as fetcher:
        passed: dict[TopicPartition, int] = {}
        with trio.move_on_after(NOTICED_SECONDS):
            while True:
                cluster.publish(SECOND)
                passed |= (await fetcher.take(None)).passed
        assert passed[FIRST] == 2 + GAP


async def test_records_that_a_full_response_left_out_are_no_gap(autojump_clock: MockClock) -> None:
    """They arrive, though a fetch had none of them."""
    cluster = FakeCluster({FIRST: 0, SECOND: 0})
    cluster.publish_large(FIRST, 6 << 20, 3)
    cluster.publish(SECOND, 2)
    async with fetching(cluster) as fetcher:
        found = await places(fetcher, 5)
        assert sorted(found) == ["0-0", "0-1", "0-2", "1-0", "1-1"]


async def test_records_in_remote_storage_are_no_gap(autojump_clock: MockClock) -> None:
    """A broker that cannot read them in time sends nothing."""
    cluster = FakeCluster({FIRST: 0})
    cluster.publish(FIRST, 3)
    cluster.logs[FIRST].local_start = 3
    async with fetching(cluster) as fetcher:
        await trio.sleep(60)
        assert fetcher.partitions[FIRST].position == 0
        cluster.logs[FIRST].local_start = 0
        cluster.change()
        assert await places(fetcher, 3) == ["0-0", "0-1", "0-2"]


async def test_offsets_are_no_gap_if_the_broker_cannot_tell(autojump_clock: MockClock) -> None:
    """It does not know which records are on its disks."""
    cluster = with_gap(FakeCluster({FIRST: 0}, knows_local=False), FIRST)
    async with fetching(cluster) as fetcher:
        await trio.sleep(60)
        assert fetcher.partitions[FIRST].position == 3
        assert fetcher.partitions[FIRST].problem is None


async def test_open_transaction_is_no_gap(autojump_clock: MockClock) -> None:
    """Its records are delivered when it is committed."""
    cluster = FakeCluster({FIRST: 0})
    cluster.publish(FIRST, 3, producer=7)
    async with fetching(cluster) as fetcher:
        await trio.sleep(NOTICED_SECONDS)
        assert fetcher.partitions[FIRST].position == 0
        cluster.logs[FIRST].end_transaction(7, commit=True)
        cluster.change()
        assert await places(fetcher, 3) == ["0-0", "0-1", "0-2"]


async def test_history_that_ends_in_a_gap_ends(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The feed becomes live, at the position of an instance that starts at the end."""
    cluster = with_gap(whole(), TRADES)
    history = {"history_seconds": 600.0, "history_records": 1000}
    async with (
        sourcing(cluster, monkeypatch, **history) as received,
        sourcing(cluster, monkeypatch) as other,
    ):
        await trio.sleep(NOTICED_SECONDS)
        assert received.changes[-1] is SourceState.LIVE
        for source in received, other:
            assert source.ingest.stream.position(TRADES) == 2 + GAP
            assert source.source_status.lag.get(TRADES.topic, 0) == 0
        cluster.publish(TRADES)
        cluster.publish(SOCIAL)
        await trio.sleep(1)
        assert received.offsets(TRADES) == other.offsets(TRADES) == [3 + GAP]


async def test_span_that_ends_in_a_gap_ends(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that begins in it, and beside one with records."""
    cluster = with_gap(FakeCluster({FIRST: 0, SECOND: 0}), FIRST)
    cluster.publish(SECOND, 2)
    monkeypatch.setattr("odin_ws.kafka.log_reader.KafkaClient", lambda *_: cluster)
    async with running() as reader:
        assert await offsets(reader, FIRST, Span(0, 7)) == [0, 1, 2]
        assert await offsets(reader, FIRST, Span(5, 6)) == []
        async with reader.read({FIRST: Span(1, 7), SECOND: Span(0, 1)}) as batches:
            found = [
                (record.partition, record.offset) async for records in batches for record in records
            ]
        assert sorted(found) == [(0, 1), (0, 2), (1, 0), (1, 1)]
        assert trio.current_time() < NOTICED_SECONDS


async def test_span_in_remote_storage_is_not_skipped(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The read fails in time, and can be repeated."""
    cluster = FakeCluster({FIRST: 0})
    cluster.publish(FIRST, 3)
    cluster.logs[FIRST].local_start = 3
    monkeypatch.setattr("odin_ws.kafka.log_reader.KafkaClient", lambda *_: cluster)
    async with running() as reader:
        with pytest.raises(LogUnavailable, match="no records come"):
            await offsets(reader, FIRST, Span(0, 2))
        cluster.logs[FIRST].local_start = 0
        assert await offsets(reader, FIRST, Span(0, 2)) == [0, 1, 2]
