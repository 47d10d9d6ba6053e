"""A broker that delays fetches because of a quota is slow, not lost."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from odin_ws.kafka.source_status import SourceState
from tests.kafka.fake_cluster import FakeCluster
from tests.kafka.fetchers import FIRST, SECOND, fetching, places
from tests.kafka.sources import PATIENCE, SOCIAL, TRADES, sourcing, whole

QUOTA = "odin.trades 0: a quota of the broker delays the fetches"


@pytest.mark.parametrize("seconds", [0.3, 20])
async def test_no_fetch_is_sent_while_a_quota_delays_it(
    autojump_clock: MockClock, seconds: float
) -> None:
    """It would time out at the broker; partitions of other brokers are not delayed."""
    cluster = FakeCluster({FIRST: 0, SECOND: 1})
    async with fetching(cluster) as fetcher:
        await trio.sleep(1)
        cluster.throttles[0] = seconds
        cluster.publish(FIRST)
        assert await places(fetcher, 1, 1) == ["0-0"]
        begun = trio.current_time()
        cluster.publish(FIRST)
        cluster.publish(SECOND)
        assert await places(fetcher, 1, 1) == ["1-0"]
        assert await places(fetcher, 1, 2 * seconds + 1) == ["0-1"]
        assert trio.current_time() - begun == pytest.approx(seconds, abs=0.1)
        times = [fetche.at for fetche in cluster.fetches(since=begun, node=0)]
        assert all(after - at >= seconds for at, after in pairwise(times))
        assert fetcher.partitions[FIRST].problem is None


@pytest.mark.parametrize("seconds", [-0.001, 2_147_483.647])
async def test_invalid_throttle_time_does_not_stop_the_reading(
    autojump_clock: MockClock, seconds: float
) -> None:
    """A negative one is none, and the largest one is not 24 days."""
    cluster = FakeCluster({FIRST: 0}, mutes=False)
    async with fetching(cluster) as fetcher:
        await trio.sleep(1)
        cluster.throttles[0] = seconds
        cluster.publish(FIRST)
        assert await places(fetcher, 1, 1) == ["0-0"]
        cluster.publish(FIRST)
        assert await places(fetcher, 1, 1 if seconds < 0 else 61) == ["0-1"]
        assert bool(fetcher.broker_states.throttled) is (seconds > 0)


async def test_quota_is_reported_while_it_lasts(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The feed stays live, and no topic is stalled: records come, late."""
    cluster = whole()
    async with sourcing(cluster, monkeypatch) as received:
        await trio.sleep(2)
        cluster.throttles[cluster.leaders[TRADES] or 0] = 12
        cluster.publish(TRADES)
        await trio.sleep(PATIENCE - 2)
        assert QUOTA not in received.problems()
        for _ in range(4):
            cluster.publish(TRADES)
            await trio.sleep(PATIENCE)
        assert QUOTA in received.problems()
        assert not any(problem.startswith("odin.social") for problem in received.problems()) or (
            cluster.leaders[SOCIAL] == cluster.leaders[TRADES]
        )
        cluster.throttles.clear()
        await trio.sleep(20)
        assert received.problems() == []
        assert received.offsets(TRADES) == list(range(5))
        assert received.changes == [SourceState.STARTING, SourceState.LIVE]
        assert received.topic_changes == [frozenset()]


async def test_short_quota_is_not_reported(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One delayed fetch now and then is normal near a quota."""
    cluster = whole()
    node = cluster.leaders[TRADES] or 0
    async with sourcing(cluster, monkeypatch) as received:
        for _ in range(10):
            cluster.throttles[node] = 2
            cluster.publish(TRADES)
            await trio.sleep(0.5)
            cluster.throttles.clear()
            await trio.sleep(2.5)
            assert received.problems() == []
