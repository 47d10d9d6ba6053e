"""Brokers with topic ids that fetch by name (Kafka 2.8 and 3.0): a recreated topic is another log.

Such a broker reads a topic that was deleted and created again like the old one. So a fetch is sent
only soon after the topic was last seen, by a fetch or by metadata.
"""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from odin_ws.kafka.protocol import ListOffsetsRequest, OffsetForLeaderEpochRequest
from odin_ws.kafka.source_status import SourceState
from odin_ws.records import GapReason, TopicPartition
from tests.kafka.fake_cluster import FakeCluster
from tests.kafka.fetchers import FIRST, SLOT, fetching, places
from tests.kafka.sources import SOCIAL, TRADES, Received, sourcing, whole

SECONDS_WITHOUT_TOPIC = 0.03


def on_one_broker(*more: TopicPartition) -> FakeCluster:
    """All topics, led by the broker that also leads a recreated one."""
    cluster = whole(*more)
    cluster.leaders = dict.fromkeys(cluster.leaders, 0)
    cluster.fetches_by_name = True
    return cluster


async def recreate(cluster: FakeCluster, count: int, seconds: float) -> None:
    """Delete the topic of `TRADES`; after some time make another with so many records."""
    cluster.delete(TRADES.topic)
    await trio.sleep(seconds)
    cluster.recreate(TRADES.topic, 1)
    for _ in range(count):
        cluster.publish(TRADES)


def resets(received: Received) -> list[GapReason]:
    """The reasons of the resets of `TRADES`, in order."""
    return [
        assignment.gaps[TRADES] for assignment in received.assignments if TRADES in assignment.gaps
    ]


@pytest.mark.parametrize("count", [0, 2, 3, 8])
@pytest.mark.parametrize("seconds", [0.001, SECONDS_WITHOUT_TOPIC, 1])
@pytest.mark.parametrize("without_metadata", [0, 3])
async def test_topic_recreated_between_two_metadata_responses_is_not_read_as_the_old_one(
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    seconds: float,
    without_metadata: float,
) -> None:
    """Whether the new log is shorter than our position or longer; each record comes once."""
    cluster = on_one_broker()
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(2.1)
        cluster.publish(TRADES, 3)
        # A fetch was answered just before the topic is deleted.
        await trio.sleep(0.1)
        assert received.offsets(TRADES) == [0, 1, 2]
        received.news.clear()
        cluster.metadata_fails = bool(without_metadata)
        await recreate(cluster, count, seconds)
        await trio.sleep(without_metadata)
        cluster.metadata_fails = False
        await trio.sleep(8)
        assert resets(received) == [GapReason.RECREATED]
        assert received.offsets(TRADES) == list(range(count))
        cluster.publish(TRADES)
        await trio.sleep(0.2)
        assert received.offsets(TRADES) == list(range(count + 1))
        assert received.changes == [SourceState.STARTING, SourceState.LIVE]


@pytest.mark.parametrize("metadata_seconds", [0.2, 0.5, 2])
async def test_metadata_that_was_requested_before_an_error_does_not_end_the_doubt(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, metadata_seconds: float
) -> None:
    """It may have the id of a topic that was deleted meanwhile."""
    cluster = on_one_broker()
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(2.1)
        cluster.publish(TRADES, 3)
        await trio.sleep(0.3)
        received.news.clear()
        cluster.metadata_seconds = metadata_seconds
        asked = len(cluster.metadata_requests)
        while len(cluster.metadata_requests) == asked:  # noqa: ASYNC110 -- the fake tells nobody
            await trio.sleep(0.01)
        await recreate(cluster, 8, SECONDS_WITHOUT_TOPIC)
        await trio.sleep(12)
        assert resets(received) == [GapReason.RECREATED]
        assert received.offsets(TRADES) == list(range(8))


async def test_topic_recreated_while_its_broker_is_lost_is_not_read_as_the_old_one(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the broker is back before the metadata."""
    cluster = on_one_broker()
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(2.1)
        cluster.publish(TRADES, 3)
        await trio.sleep(0.1)
        received.news.clear()
        cluster.metadata_fails = True
        cluster.down.add(0)
        cluster.change()
        await recreate(cluster, 8, SECONDS_WITHOUT_TOPIC)
        cluster.down.clear()
        await trio.sleep(3)
        cluster.metadata_fails = False
        await trio.sleep(8)
        assert resets(received) == [GapReason.RECREATED]
        assert received.offsets(TRADES) == list(range(8))


async def test_partition_that_was_not_fetched_for_a_while_waits_for_metadata(
    autojump_clock: MockClock,
) -> None:
    """While its buffer was full no fetch waited, which the deletion of the topic would end."""
    cluster = FakeCluster({FIRST: 0}, fetches_by_name=True)
    async with fetching(cluster) as fetcher:
        cluster.publish_large(FIRST, 1 << 20, 4)
        await trio.sleep(10)
        assert fetcher.partitions[FIRST].position < 4
        cluster.metadata_requests.clear()
        since = trio.current_time()
        await places(fetcher, 4, 10)
        assert cluster.metadata_requests
        assert min(fetche.at for fetche in cluster.fetches(since)) >= cluster.metadata_requests[0]


async def test_partition_that_a_quota_has_delayed_waits_for_metadata(
    autojump_clock: MockClock,
) -> None:
    """No fetch waited at the broker meanwhile."""
    cluster = FakeCluster({FIRST: 0}, fetches_by_name=True)
    async with fetching(cluster) as fetcher:
        # Between two fetches, which wait for 0.5 s each.
        await trio.sleep(1.1)
        cluster.throttles[0] = 3
        cluster.publish(FIRST)
        await places(fetcher, 1)
        cluster.throttles.clear()
        cluster.metadata_requests.clear()
        since = trio.current_time()
        cluster.publish(FIRST)
        assert await places(fetcher, 1, 5) == ["0-1"]
        assert cluster.fetches(since)[0].at >= cluster.metadata_requests[0] >= since + 2.9


async def test_steady_fetches_need_no_metadata(autojump_clock: MockClock) -> None:
    """Each fetch shows that the topic is still there."""
    cluster = FakeCluster({FIRST: 0}, fetches_by_name=True)
    async with fetching(cluster) as fetcher:
        await trio.sleep(1)
        cluster.metadata_requests.clear()
        for _ in range(50):
            cluster.publish(FIRST)
            await places(fetcher, 1)
            await trio.sleep(3 * SLOT)
        await trio.sleep(10)
        assert cluster.metadata_requests == []


async def test_position_out_of_range_is_looked_up_only_after_metadata(
    autojump_clock: MockClock,
) -> None:
    """The log may be that of another topic: its end is no truncation."""
    cluster = FakeCluster({FIRST: 0}, fetches_by_name=True)
    async with fetching(cluster) as fetcher:
        cluster.publish_each(FIRST, 3)
        await places(fetcher, 3)
        cluster.query_errors[FIRST] = 78
        cluster.logs[FIRST].truncate(1)
        cluster.change()
        await trio.sleep(3)
        assert cluster.requests(OffsetForLeaderEpochRequest)
        cluster.metadata_fails = True
        await trio.sleep(1)
        since = trio.current_time()
        await trio.sleep(20)
        assert not cluster.requests(ListOffsetsRequest, since)
        cluster.metadata_fails = False
        await trio.sleep(6)
        assert cluster.requests(ListOffsetsRequest, since)


async def test_other_topics_are_read_while_one_is_in_doubt(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their fetches go on while metadata is awaited."""
    cluster = on_one_broker(other := TopicPartition(TRADES.topic, 1))
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(2.1)
        cluster.errors[other] = 56
        cluster.publish(other)
        for number in range(20):
            cluster.publish(SOCIAL)
            await trio.sleep(0.3)
            assert received.offsets(SOCIAL) == list(range(number + 1))
        cluster.errors.clear()
        await trio.sleep(8)
        assert received.offsets(other) == [0]
