"""The pace of fetches: latency of records, and number of fetches."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import pytest
import trio
from trio.testing import MockClock

from odin_ws.kafka.client import Purpose
from odin_ws.kafka.fetch_pace import FetchPace
from odin_ws.kafka.fetcher import Fetcher
from odin_ws.records import TopicPartition
from tests.kafka.fake_cluster import FakeCluster
from tests.kafka.fetchers import FIRST, MAX_WAIT, SECOND, SLOT, THIRD

# One way between server and broker, and what brokers asked at the same time differ by.
TRAVEL: Final = 0.001

ROUNDING: Final = 1e-6


@attrs.define(eq=False)
class DistantCluster(FakeCluster):
    """Brokers that are `TRAVEL` away; those of higher numbers a little further."""

    async def send(
        self, node: int, request: Any, purpose: Purpose = Purpose.QUERY, wait_seconds: float = 0
    ) -> Any:
        """See FakeCluster."""
        await trio.sleep(TRAVEL)
        response = await super().send(node, request, purpose, wait_seconds)
        await trio.sleep((1 + node) * TRAVEL)
        return response


class Taking:
    """Takes all that comes, forever; by record how long it waited, and when something came."""

    def __init__(self, cluster: FakeCluster, fetcher: Fetcher) -> None:
        self.fetcher = fetcher
        self.waits: list[float] = []
        self.taken_at: list[float] = []
        self._cluster = cluster
        self._published: dict[tuple[int, int], float] = {}

    def publish(self, key: TopicPartition) -> None:
        """Publish a record and note when."""
        self._published[key.partition, self._cluster.logs[key].end] = trio.current_time()
        self._cluster.publish(key)

    async def publish_evenly(self, seconds: float, every: float, *keys: TopicPartition) -> None:
        """Publish to the partitions by turns."""
        for number in range(round(seconds / every)):
            self.publish(keys[number % len(keys)])
            await trio.sleep(every)

    async def run(self) -> None:
        """Take until cancelled."""
        while True:
            taken = await self.fetcher.take(None)
            if taken.records:
                self.taken_at.append(trio.current_time())
            for record in taken.records:
                published = self._published[record.partition, record.offset]
                self.waits.append(trio.current_time() - published)

    @property
    def mean_wait(self) -> float:
        """Of all records so far."""
        return sum(self.waits) / len(self.waits)


@asynccontextmanager
async def taking(cluster: FakeCluster, slot: float = SLOT) -> AsyncIterator[Taking]:
    """A fetcher of which all is taken, after three seconds without a record."""
    fetcher = Fetcher(cluster, MAX_WAIT, slot)
    fetcher.apply((await cluster.metadata([FIRST.topic])).topics)
    fetcher.assign(dict.fromkeys(cluster.leaders, 0))
    taking = Taking(cluster, fetcher)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetcher.run)
        nursery.start_soon(taking.run)
        await trio.sleep(3)
        yield taking
        nursery.cancel_scope.cancel()


async def test_records_at_the_slot_rate_do_not_wait(autojump_clock: MockClock) -> None:
    """20 per second: each is fetched at once, one fetch each, even if some are late."""
    cluster = DistantCluster({FIRST: 0})
    async with taking(cluster) as one:
        before = len(cluster.fetches())
        for number in range(200):
            one.publish(FIRST)
            late = 0.9 * SLOT if number % 7 == 3 else 0.0
            await trio.sleep_until(3 + SLOT * (number + 1) + late)
        assert max(one.waits) <= 2 * TRAVEL + ROUNDING
        assert len(cluster.fetches()) - before <= 200


async def test_faster_records_wait_half_a_slot_on_average(autojump_clock: MockClock) -> None:
    """100 per second: one fetch per slot, and no record waits for more than one."""
    cluster = DistantCluster({FIRST: 0})
    async with taking(cluster) as one:
        before = len(cluster.fetches())
        await one.publish_evenly(10, 0.01, FIRST)
        assert one.mean_wait <= SLOT / 2 + 2 * TRAVEL + ROUNDING
        assert max(one.waits) <= SLOT + 2 * TRAVEL + ROUNDING
        assert len(cluster.fetches()) - before <= 10 / SLOT + 2


@pytest.mark.parametrize("every", [0.05, 0.01, 0.001])
async def test_brokers_share_the_slots(autojump_clock: MockClock, every: float) -> None:
    """With three of them no record waits for two clocks, nor is more handed on than slots."""
    cluster = DistantCluster({FIRST: 0, SECOND: 1, THIRD: 2})
    async with taking(cluster) as one:
        before = len(cluster.fetches())
        await one.publish_evenly(10, every, FIRST, SECOND, THIRD)
        # The furthest of them, and those that were asked at the same time.
        far = 4 * TRAVEL + SLOT / 10
        assert one.mean_wait <= SLOT / 2 + far
        assert max(one.waits) <= SLOT + far
        # Each slot makes up for 1% of a delay.
        slots = 10 / SLOT * 1.0102 + 2
        assert len(one.taken_at) <= slots
        assert len(cluster.fetches()) - before <= 3 * slots


async def test_quiet_broker_does_not_delay_others(autojump_clock: MockClock) -> None:
    """Its fetches wait as long as those of an idle server."""
    cluster = DistantCluster({FIRST: 0, SECOND: 1})
    async with taking(cluster) as one:
        await one.publish_evenly(10, SLOT, FIRST)
        assert len(cluster.fetches(since=3, node=1)) <= 10 / MAX_WAIT + 1
        late = [wait for wait in one.waits if wait > 2 * TRAVEL + ROUNDING]
        # Where the quiet one was asked just before.
        assert len(late) <= 10 / MAX_WAIT
        assert max(one.waits) <= 2 * TRAVEL + SLOT / 10 + ROUNDING


async def test_record_of_quiet_broker_waits_at_most_one_slot(
    autojump_clock: MockClock,
) -> None:
    """Also while another broker has records in every slot."""
    cluster = DistantCluster({FIRST: 0, SECOND: 1})
    async with taking(cluster) as one, trio.open_nursery() as nursery:
        nursery.start_soon(one.publish_evenly, 10, 0.007, FIRST)
        nursery.start_soon(one.publish_evenly, 10, 0.7, SECOND)
        await trio.sleep(10)
        assert max(one.waits) <= SLOT + 4 * TRAVEL + SLOT / 10


async def test_backlog_does_not_wait_for_slots(autojump_clock: MockClock) -> None:
    """It is fetched and delivered as fast as possible."""
    cluster = DistantCluster({FIRST: 0})
    cluster.publish_large(FIRST, 100_000, 100)
    fetcher = Fetcher(cluster, MAX_WAIT, SLOT)
    fetcher.apply((await cluster.metadata([FIRST.topic])).topics)
    fetcher.assign({FIRST: 0})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetcher.run)
        with trio.fail_after(SLOT):
            while fetcher.partitions[FIRST].first_buffered < 100:
                await fetcher.take(None)
        assert len(cluster.fetches()) >= 10
        nursery.cancel_scope.cancel()


async def test_fetches_are_a_slot_apart_while_the_hub_is_behind(autojump_clock: MockClock) -> None:
    """A slow hub does not cause a fetch per record."""
    cluster = DistantCluster({FIRST: 0})
    fetcher = Fetcher(cluster, MAX_WAIT, SLOT)
    fetcher.apply((await cluster.metadata([FIRST.topic])).topics)
    fetcher.assign({FIRST: 0})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetcher.run)
        for _ in range(1000):
            cluster.publish(FIRST)
            await trio.sleep(0.001)
        assert len(cluster.fetches()) <= 1 / SLOT + 4
        nursery.cancel_scope.cancel()


async def test_low_rate_pauses_fetches_at_most_max_wait(
    autojump_clock: MockClock,
) -> None:
    """With one cycle in ten seconds a new partition need not wait for it."""
    cluster = DistantCluster({FIRST: 0})
    async with taking(cluster, slot=10) as one:
        await one.publish_evenly(10, 0.1, FIRST)
        assert max(one.waits) <= MAX_WAIT + 2 * TRAVEL + ROUNDING
        assert 18 <= len(cluster.fetches(since=3)) <= 23


async def test_begin_slot_returns_false_if_too_far(autojump_clock: MockClock) -> None:
    """The source has other work meanwhile."""
    pace = FetchPace(10.0)
    assert [await pace.begin_slot(1) for _ in range(3)] == [True, True, False]
    assert trio.current_time() == 1
    assert [await pace.begin_slot(9) for _ in range(2)] == [True, False]
    assert trio.current_time() == pytest.approx(19, abs=0.21)
