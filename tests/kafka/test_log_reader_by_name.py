"""Replays from brokers with topic ids that fetch by name (Kafka 2.8 and 3.0).

Such a broker reads a topic that was deleted and created again like the old one.
"""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
import trio
from trio.testing import MockClock

from odin_ws.log_reader import RecordsExpired, Span
from odin_ws.records import Record, TopicPartition
from tests.kafka.fake_cluster import FakeCluster
from tests.kafka.fetchers import FIRST
from tests.kafka.log_readers import running

SPAN = Span(0, 9)

OTHER = TopicPartition("odin.social", 0)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """One partition with ten records, each in a fetch of its own."""
    cluster = FakeCluster({FIRST: 0}, fetches_by_name=True)
    cluster.publish_large(FIRST, 1 << 20, 10)
    monkeypatch.setattr("odin_ws.kafka.log_reader.KafkaClient", lambda *_: cluster)
    return cluster


def recreate(cluster: FakeCluster) -> None:
    """Make another topic of the name, with as many records of as many bytes."""
    cluster.recreate(FIRST.topic, 1)
    cluster.publish_large(FIRST, 1 << 20, 10)


async def rest(batches: AsyncIterator[Sequence[Record]]) -> list[int]:
    """The offsets of all records that are left."""
    return [record.offset async for records in batches for record in records]


@pytest.mark.parametrize("pause", [0.3, 5])
async def test_topic_recreated_while_nothing_was_read_is_not_read(
    autojump_clock: MockClock, cluster: FakeCluster, pause: float
) -> None:
    """A slow client pauses a replay: its next record would be one of another topic."""
    async with running() as reader, reader.read({FIRST: SPAN}) as batches:
        assert [record.offset for record in await anext(batches)] == [0]
        recreate(cluster)
        await trio.sleep(pause)
        with pytest.raises(RecordsExpired):
            await anext(batches)


async def test_topic_recreated_after_an_error_is_not_read(
    autojump_clock: MockClock, cluster: FakeCluster
) -> None:
    """The deletion of a topic may show as any error, while another topic has records."""
    cluster.add(OTHER)
    cluster.publish_large(OTHER, 1 << 20, 40)
    async with (
        running() as reader,
        reader.read({OTHER: Span(0, 39), FIRST: SPAN}) as batches,
    ):
        while (await anext(batches))[0].topic != FIRST.topic:
            pass
        cluster.errors[FIRST] = 56
        for _ in range(4):
            assert (await anext(batches))[0].topic == OTHER.topic
        recreate(cluster)
        cluster.errors.clear()
        with pytest.raises(RecordsExpired):
            await rest(batches)


async def test_pause_without_a_recreated_topic_costs_one_metadata_request(
    autojump_clock: MockClock, cluster: FakeCluster
) -> None:
    """All records arrive; a read without a pause asks only at its start."""
    async with running() as reader:
        async with reader.read({FIRST: SPAN}) as batches:
            assert await rest(batches) == list(range(10))
        assert len(cluster.metadata_requests) == 1
        async with reader.read({FIRST: SPAN}) as batches:
            await anext(batches)
            await trio.sleep(10)
            assert await rest(batches) == list(range(1, 10))
        assert len(cluster.metadata_requests) == 3


async def test_slow_metadata_does_not_stop_a_read(
    autojump_clock: MockClock, cluster: FakeCluster
) -> None:
    """The response may take longer than a topic may be unseen."""
    cluster.metadata_seconds = 1.0
    async with running() as reader, reader.read({FIRST: SPAN}) as batches:
        await anext(batches)
        await trio.sleep(10)
        with trio.fail_after(5):
            assert await rest(batches) == list(range(1, 10))


async def test_broker_that_fetches_by_id_gets_no_second_metadata_request(
    autojump_clock: MockClock, cluster: FakeCluster
) -> None:
    """It reports a recreated topic itself."""
    cluster.fetches_by_name = False
    async with running() as reader, reader.read({FIRST: SPAN}) as batches:
        await anext(batches)
        await trio.sleep(10)
        await anext(batches)
        assert len(cluster.metadata_requests) == 1
        recreate(cluster)
        with pytest.raises(RecordsExpired):
            await rest(batches)
