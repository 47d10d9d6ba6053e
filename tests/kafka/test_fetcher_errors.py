"""Errors of a partition or broker stay separate, are reported, and are retried with back-off."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from odin_ws.kafka.errors import error_text
from odin_ws.kafka.fetcher import Fetcher
from tests.kafka.fake_cluster import FakeCluster
from tests.kafka.fetchers import FIRST, SECOND, SLOT, THIRD, fetching, places

ASKS_FOR_METADATA = {3, 5, 6, 9, 56, 74, 75, 78, 100, 103}
CODES = sorted(ASKS_FOR_METADATA | {-1, 2, 7, 29, 17, 76})


async def flows(cluster: FakeCluster, fetcher: Fetcher, seconds: float = 60) -> None:
    """Records of the second partition come at once, one each 0.3 s."""
    until = trio.current_time() + seconds
    while trio.current_time() < until:
        await trio.sleep(0.3)
        before = trio.current_time()
        cluster.publish(SECOND)
        await places(fetcher, 1)
        # A fetch that is under way for another reason is as long as the gathering.
        assert trio.current_time() - before <= 0.06


@pytest.mark.parametrize("code", CODES)
async def test_error_of_one_partition_does_not_affect_others(
    autojump_clock: MockClock, code: int
) -> None:
    """It is reported and retried at most 5 s apart; metadata is requested if that may help."""
    cluster = FakeCluster({FIRST: 0, SECOND: 0})
    async with fetching(cluster) as fetcher:
        await trio.sleep(0.1)
        cluster.errors[FIRST] = code
        cluster.publish(FIRST, 3)
        cluster.metadata_requests.clear()
        await flows(cluster, fetcher)
        problem = fetcher.partitions[FIRST].problem
        assert problem is not None
        assert problem.reason == error_text(code)
        assert problem.since == pytest.approx(0.1)
        assert fetcher.partitions[SECOND].problem is None
        retries = [
            fetche for fetche in cluster.fetches(since=30) if FIRST in fetche.request.changed
        ]
        assert 5 <= len(retries) <= 40
        if code in ASKS_FOR_METADATA:
            assert 5 <= len(cluster.metadata_requests) <= 100
        else:
            assert not cluster.metadata_requests
        # Two fetches for each record of the other partition, and the retries.
        assert len(cluster.fetches()) < 60 / 0.3 * 3 + 100
        del cluster.errors[FIRST]
        assert await places(fetcher, 3, 6) == ["0-0", "0-1", "0-2"]
        assert fetcher.partitions[FIRST].problem is None


@pytest.mark.parametrize("code", [-1, 2, 6, 29, 56])
async def test_lone_partition_with_an_error_is_not_fetched_in_a_loop(
    autojump_clock: MockClock, code: int
) -> None:
    """The broker holds no other fetch then."""
    cluster = FakeCluster({FIRST: 0}, errors={FIRST: code})
    async with fetching(cluster):
        await trio.sleep(60)
        assert 10 <= len(cluster.fetches()) <= 60


async def test_first_retry_of_a_partition_is_quick(autojump_clock: MockClock) -> None:
    """Most errors are leader elections and short."""
    cluster = FakeCluster({FIRST: 0})
    async with fetching(cluster) as fetcher:
        await trio.sleep(0.1)
        cluster.errors[FIRST] = 6
        cluster.publish(FIRST)
        await trio.sleep(0.01)
        del cluster.errors[FIRST]
        await places(fetcher, 1)
        assert trio.current_time() < 0.25


@pytest.mark.parametrize("code", [-1, 2, 56, 87])
async def test_error_of_a_whole_fetch_is_reported_and_backs_off(
    autojump_clock: MockClock, code: int
) -> None:
    """Only for that broker."""
    cluster = FakeCluster({FIRST: 1, SECOND: 0, THIRD: 1}, fetch_errors={1: code})
    async with fetching(cluster) as fetcher:
        await flows(cluster, fetcher)
        for key in (FIRST, THIRD):
            problem = fetcher.partitions[key].problem
            assert problem is not None
            assert problem.reason == error_text(code)
            assert problem.since == 0
        assert 50 <= len(cluster.fetches(node=1)) <= 140
        assert fetcher.metadata_requested.is_set() or len(cluster.metadata_requests) > 20
        cluster.publish(FIRST)
        cluster.fetch_errors.clear()
        assert await places(fetcher, 1, 2) == ["0-0"]
        await trio.testing.wait_all_tasks_blocked()
        assert fetcher.partitions[THIRD].problem is None


async def test_lost_broker_is_retried_for_ever(
    autojump_clock: MockClock,
) -> None:
    """Once or twice per second; records published meanwhile arrive after its return."""
    cluster = FakeCluster({FIRST: 0})
    async with fetching(cluster) as fetcher:
        await trio.sleep(0.1)
        cluster.down.add(0)
        await trio.sleep(60)
        assert 50 <= len(cluster.fetches()) <= 140
        problem = fetcher.partitions[FIRST].problem
        assert problem is not None
        assert problem.reason == "broker 0: connection refused"
        cluster.publish(FIRST, 4)
        cluster.down.clear()
        cluster.forget_sessions()
        assert await places(fetcher, 4, 2) == ["0-0", "0-1", "0-2", "0-3"]
        assert fetcher.partitions[FIRST].problem is None


async def test_hanging_broker_does_not_delay_others(autojump_clock: MockClock) -> None:
    """Neither their records, nor offset lookups after a leader change."""
    cluster = FakeCluster({FIRST: 1, SECOND: 0, THIRD: 0})
    async with fetching(cluster) as fetcher:
        for key in cluster.leaders:
            cluster.publish(key)
        await places(fetcher, 3)
        cluster.hanging.add(1)
        cluster.move(FIRST, 1)
        fetcher.apply((await cluster.metadata(["odin.trades"])).topics)
        await flows(cluster, fetcher, 5)
        # This one's new leader has to be asked about the log, while the other's look-up hangs.
        cluster.move(THIRD, 2)
        cluster.publish(THIRD)
        before = trio.current_time()
        assert await places(fetcher, 1) == ["2-1"]
        assert trio.current_time() - before <= 1
        # Since when: that of its request.
        await trio.sleep(10)
        problem = fetcher.partitions[FIRST].problem
        assert problem is not None
        assert "no response" in problem.reason
        assert problem.since < 5.5


async def test_partition_without_leader_is_reported_and_recovers(autojump_clock: MockClock) -> None:
    """Others are read meanwhile; it is read soon after it has a leader."""
    cluster = FakeCluster({FIRST: None, SECOND: 0})
    async with fetching(cluster) as fetcher:
        await flows(cluster, fetcher, 5)
        problem = fetcher.partitions[FIRST].problem
        assert problem is not None
        assert problem.reason == "no leader"
        assert problem.since == 0
        cluster.leaders[FIRST] = 1
        cluster.publish(FIRST)
        fetcher.apply((await cluster.metadata(["odin.trades"])).topics)
        before = trio.current_time()
        assert await places(fetcher, 1) == ["0-0"]
        # The other broker was asked just now.
        assert trio.current_time() - before <= SLOT / 10
        assert fetcher.partitions[FIRST].problem is None


async def test_lost_leader_is_reported_despite_responses_of_the_old_one(
    autojump_clock: MockClock,
) -> None:
    """A response to an earlier request does not end the problem."""
    cluster = FakeCluster({FIRST: 0, SECOND: 0})
    async with fetching(cluster) as fetcher:
        await trio.sleep(0.1)
        cluster.leaders[FIRST] = None
        fetcher.apply((await cluster.metadata(["odin.trades"])).topics)
        cluster.leaders[FIRST] = 0
        cluster.metadata_fails = True
        # The fetch that was held ends, without records.
        await trio.sleep(1)
        problem = fetcher.partitions[FIRST].problem
        assert problem is not None
        assert problem.reason == "no leader"


@pytest.mark.parametrize("how", ["hidden", "left_out"])
async def test_topic_missing_once_in_metadata_is_still_read(
    autojump_clock: MockClock, how: str
) -> None:
    """With its id and leader; the session continues too."""
    cluster = FakeCluster({FIRST: 0, SECOND: 0})
    async with fetching(cluster) as fetcher:
        cluster.publish(FIRST)
        await places(fetcher, 1)
        getattr(cluster, how).add("odin.trades")
        fetcher.apply((await cluster.metadata(["odin.trades"])).topics)
        await trio.sleep(1)
        cluster.publish(FIRST)
        assert await places(fetcher, 1) == ["0-1"]
        assert fetcher.partitions[FIRST].problem is None
        assert len([fetche for fetche in cluster.fetches() if fetche.request.epoch == 0]) == 1
