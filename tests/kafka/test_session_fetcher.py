"""Every partition is read from its leader, each record once, whatever the brokers do."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import pytest
import trio
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaTimeoutError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
)
from trio.testing import MockClock

from odin_ws.kafka.brokers import Fetched, FetchedPartition, Patience
from odin_ws.kafka.fetch_session import SessionRequest
from odin_ws.kafka.fetching import BATCH_RECORDS
from odin_ws.kafka.session_fetcher import SessionFetcher
from odin_ws.records import Record, TopicPartition
from tests.kafka.batches import batch

FIRST, SECOND, THIRD = (TopicPartition("odin.trades", number) for number in range(3))
MAX_WAIT: Final = 0.5
GATHER: Final = 0.05
OUT_OF_RANGE, NOT_LEADER, NOT_ALLOWED, NO_SESSION = 1, 6, 29, 70


class Cluster:
    """Brokers that hold what a test has published. `leaders`: who leads which partition.

    `down`: brokers that answer nothing. `errors`: what a partition is answered instead of records.
    `nobody_looks`: whoever asks for the leaders waits for ever.
    """

    def __init__(self, leaders: dict[TopicPartition, int | None]) -> None:
        self.leaders = dict(leaders)
        self.known = dict(leaders)
        # Batches, each with the offset behind it.
        self.log: dict[TopicPartition, list[tuple[int, bytes]]] = {key: [] for key in leaders}
        self.ends = dict.fromkeys(leaders, 0)
        self.errors: dict[TopicPartition, int] = {}
        self.down: set[int] = set()
        self.fetches: list[tuple[float, int, SessionRequest]] = []
        self.looks = 0
        self.nobody_looks = False
        self._sessions: dict[int, dict[TopicPartition, int]] = {}
        self._changed = trio.Event()

    # ---- for the test

    def publish(self, key: TopicPartition, count: int = 1) -> None:
        """Append records in one batch."""
        made = batch(self.ends[key], count)
        self.ends[key] += count
        self.log[key].append((self.ends[key], made))
        self.change()

    def change(self) -> None:
        """Let fetches that are held look again."""
        self._changed.set()
        self._changed = trio.Event()

    def forget_sessions(self) -> None:
        """As a broker does that was restarted."""
        self._sessions.clear()

    # ---- for the fetcher: see Leaders

    def leader(self, key: TopicPartition) -> int | None:
        """Who led it when that was asked last."""
        return self.known[key]

    async def look_again(self) -> None:
        """Ask."""
        await trio.lowlevel.checkpoint()
        if self.nobody_looks:
            await trio.sleep_forever()
        self.looks += 1
        self.known = dict(self.leaders)

    async def fetch(self, node: int, request: SessionRequest, patience: Patience) -> Fetched:
        """Answer when there is so much, or after so long."""
        await trio.lowlevel.checkpoint()
        self.fetches.append((trio.current_time(), node, request))
        if node in self.down:
            raise KafkaConnectionError("it is down")
        if request.epoch == 0:
            self._sessions[node] = {}
        elif node not in self._sessions:
            return Fetched(NO_SESSION, 0, [])
        reads = self._sessions[node]
        reads.update(request.changed)
        for key in request.gone:
            del reads[key]
        with trio.move_on_after(patience.seconds):
            while _size(self._found(node, reads)) < patience.at_least:
                await self._changed.wait()
        found = self._found(node, reads)
        return Fetched(0, node + 1, found)

    def _found(self, node: int, reads: dict[TopicPartition, int]) -> list[FetchedPartition]:
        found = []
        for key, offset in reads.items():
            error = NOT_LEADER if self.leaders[key] != node else self.errors.get(key, 0)
            data = b"".join(made for end, made in self.log[key] if end > offset and not error)
            if error or data:
                found.append(FetchedPartition(key, error, (), data))
        return found


def _size(found: list[FetchedPartition]) -> float:
    """Errors are told at once."""
    return math.inf if any(one.error for one in found) else sum(len(one.data) for one in found)


@asynccontextmanager
async def reading(cluster: Cluster) -> AsyncIterator[SessionFetcher]:
    """A fetcher of all partitions from their beginning."""
    fetcher = SessionFetcher(cluster, MAX_WAIT, GATHER)
    async with fetcher.running():
        fetcher.seek(dict.fromkeys(cluster.leaders, 0))
        yield fetcher


async def places(fetcher: SessionFetcher, count: int) -> list[str]:
    """Partition and offset of the next `count` records, within ten seconds."""
    found: list[Record] = []
    with trio.fail_after(10):
        while len(found) < count:
            found += (await fetcher.fetch(None))[0]
    return [f"{one.partition}-{one.offset}" for one in found]


async def test_a_record_comes_as_soon_as_it_is_published(autojump_clock: MockClock) -> None:
    """While nothing comes, the broker holds the fetch: it is answered by the first record."""
    cluster = Cluster({FIRST: 0})
    async with reading(cluster) as fetcher:
        await trio.sleep(3.3)
        cluster.publish(FIRST)
        assert await places(fetcher, 1) == ["0-0"]
        assert trio.current_time() == pytest.approx(3.3)


async def test_while_records_come_it_is_fetched_once_a_slot(autojump_clock: MockClock) -> None:
    """A fetch costs the same for one record and for many."""
    cluster = Cluster({FIRST: 0})
    async with reading(cluster) as fetcher:
        for _ in range(100):
            cluster.publish(FIRST)
            await trio.sleep(GATHER / 10)
        assert await places(fetcher, 100) == [f"0-{number}" for number in range(100)]
    times = [at for at, _, _ in cluster.fetches]
    assert len(times) <= 13


async def test_a_fetch_names_only_what_has_changed(autojump_clock: MockClock) -> None:
    """The partition that a record came from; of a quiet one nothing is said again."""
    cluster = Cluster(dict.fromkeys((FIRST, SECOND, THIRD), 0))
    async with reading(cluster) as fetcher:
        cluster.publish(SECOND, 3)
        await places(fetcher, 3)
        await trio.sleep(2 * GATHER)
        requests = [request for _, _, request in cluster.fetches]
    assert requests[0].changed == {FIRST: 0, SECOND: 0, THIRD: 0}
    assert requests[1].changed == {SECOND: 3}


async def test_each_partition_is_read_from_its_leader(autojump_clock: MockClock) -> None:
    """Several brokers are read side by side: one that holds its fetch holds up no other."""
    cluster = Cluster({FIRST: 0, SECOND: 1, THIRD: 1})
    async with reading(cluster) as fetcher:
        cluster.publish(SECOND, 2)
        assert await places(fetcher, 2) == ["1-0", "1-1"]
        cluster.publish(FIRST)
        assert await places(fetcher, 1) == ["0-0"]
        assert trio.current_time() < MAX_WAIT
    assert {node: set(one.changed) for _, node, one in cluster.fetches[:2]} == {
        0: {FIRST},
        1: {SECOND, THIRD},
    }


async def test_when_another_broker_leads_it_is_read_from_there(autojump_clock: MockClock) -> None:
    """Nothing is lost or doubled, and the partitions that stayed go on."""
    cluster = Cluster({FIRST: 0, SECOND: 0})
    async with reading(cluster) as fetcher:
        cluster.publish(FIRST, 2)
        assert await places(fetcher, 2) == ["0-0", "0-1"]
        cluster.leaders[FIRST] = 1
        cluster.publish(FIRST)
        cluster.publish(SECOND)
        assert sorted(await places(fetcher, 2)) == ["0-2", "1-0"]


async def test_a_partition_without_a_leader_is_looked_for(autojump_clock: MockClock) -> None:
    """Others are read meanwhile; it is asked for twice a second, and read when it has one."""
    cluster = Cluster({FIRST: None, SECOND: 0})
    async with reading(cluster) as fetcher:
        cluster.publish(SECOND)
        assert await places(fetcher, 1) == ["1-0"]
        await trio.sleep(5)
        assert 8 <= cluster.looks <= 11
        cluster.leaders[FIRST] = 0
        cluster.publish(FIRST)
        assert await places(fetcher, 1) == ["0-0"]


async def test_a_broker_that_fails_is_tried_again(autojump_clock: MockClock) -> None:
    """For ever, twice a second; what was published meanwhile comes when it is back."""
    cluster = Cluster({FIRST: 0})
    async with reading(cluster) as fetcher:
        await trio.sleep(0.1)
        cluster.down.add(0)
        await trio.sleep(60)
        tries = len(cluster.fetches)
        assert 100 <= tries <= 130
        cluster.publish(FIRST, 4)
        cluster.down.clear()
        cluster.forget_sessions()
        assert await places(fetcher, 4) == ["0-0", "0-1", "0-2", "0-3"]


async def test_a_lost_session_costs_one_fetch(autojump_clock: MockClock) -> None:
    """The broker says so, and the next fetch names everything again."""
    cluster = Cluster({FIRST: 0})
    async with reading(cluster) as fetcher:
        cluster.publish(FIRST)
        await places(fetcher, 1)
        cluster.forget_sessions()
        cluster.publish(FIRST)
        assert await places(fetcher, 1) == ["0-1"]
        assert trio.current_time() < 2 * MAX_WAIT


async def test_an_offset_the_broker_does_not_have_is_told_until_a_seek(
    autojump_clock: MockClock,
) -> None:
    """What came before is handed on first; other partitions are read on."""
    cluster = Cluster({FIRST: 0, SECOND: 0})
    async with reading(cluster) as fetcher:
        cluster.publish(SECOND)
        cluster.errors[FIRST] = OUT_OF_RANGE
        cluster.change()
        assert await places(fetcher, 1) == ["1-0"]
        for _ in range(2):
            with pytest.raises(OffsetOutOfRangeError) as told:
                await fetcher.fetch(None)
            assert told.value.args[0] == {FIRST: 0}
        cluster.errors.clear()
        cluster.publish(FIRST, 5)
        fetcher.seek({FIRST: 3})
        assert await places(fetcher, 2) == ["0-3", "0-4"]


async def test_what_no_retry_mends_is_told(autojump_clock: MockClock) -> None:
    """As a topic that may not be read: the source says so to operators."""
    cluster = Cluster({FIRST: 0})
    async with reading(cluster) as fetcher:
        cluster.errors[FIRST] = NOT_ALLOWED
        cluster.change()
        with pytest.raises(TopicAuthorizationFailedError):
            await places(fetcher, 1)


async def test_a_look_without_an_end_is_told(autojump_clock: MockClock) -> None:
    """The client that should look is broken: the source has to make another."""
    cluster = Cluster({FIRST: 0})
    async with reading(cluster) as fetcher:
        cluster.nobody_looks = True
        cluster.leaders[FIRST] = 1
        cluster.publish(FIRST)
        await trio.sleep(65)
        with pytest.raises(KafkaTimeoutError):
            await fetcher.fetch(None)


async def test_a_look_may_ask_each_broker_in_turn(autojump_clock: MockClock) -> None:
    """With two there is twice the time: the first may be the one that does not answer."""
    cluster = Cluster({FIRST: 0, SECOND: 1})
    async with reading(cluster) as fetcher:
        cluster.nobody_looks = True
        cluster.down.add(0)
        await trio.sleep(100)
        assert await fetcher.fetch(None) == ([], False)
        await trio.sleep(30)
        with pytest.raises(KafkaTimeoutError):
            await fetcher.fetch(None)


async def test_a_seek_forgets_what_came_of_the_partition(autojump_clock: MockClock) -> None:
    """Also what is on its way: nothing comes from where it was read before."""
    cluster = Cluster({FIRST: 0, SECOND: 0})
    async with reading(cluster) as fetcher:
        cluster.publish(FIRST, 5)
        cluster.publish(SECOND, 1)
        await trio.sleep(0.01)
        fetcher.seek({FIRST: 4})
        assert sorted(await places(fetcher, 2)) == ["0-4", "1-0"]


async def test_what_is_on_its_way_when_a_seek_comes_is_not_taken(
    autojump_clock: MockClock,
) -> None:
    """A fetch that is held asks from the old offset: its answer would leave records out."""
    cluster = Cluster({FIRST: 0})
    async with reading(cluster) as fetcher:
        cluster.publish(FIRST, 2)
        cluster.publish(FIRST, 3)
        await places(fetcher, 5)
        await trio.sleep(2 * GATHER)
        fetcher.seek({FIRST: 0})
        cluster.publish(FIRST)
        assert await places(fetcher, 6) == [f"0-{number}" for number in range(6)]


async def test_nothing_is_fetched_while_enough_waits(autojump_clock: MockClock) -> None:
    """When the hub is busy the records stay in Kafka: that is the back-pressure."""
    cluster = Cluster({FIRST: 0, SECOND: 1})
    async with reading(cluster) as fetcher:
        for _ in range(5):
            cluster.publish(FIRST, BATCH_RECORDS)
            cluster.publish(SECOND, BATCH_RECORDS)
            await trio.sleep(GATHER)
        await trio.sleep(10)
        before = len(cluster.fetches)
        await trio.sleep(10)
        assert len(cluster.fetches) == before
        assert len(await places(fetcher, 10 * BATCH_RECORDS)) == 10 * BATCH_RECORDS


async def test_a_limit_cuts_off_and_says_so(autojump_clock: MockClock) -> None:
    """What is left is the next call's; nothing waits for a second where there is something."""
    cluster = Cluster({FIRST: 0})
    async with reading(cluster) as fetcher:
        cluster.publish(FIRST, 5)
        await trio.sleep(0.01)
        records, cut_off = await fetcher.fetch(3)
        assert ([one.offset for one in records], cut_off) == ([0, 1, 2], True)
        assert await fetcher.passed([FIRST]) == {FIRST: 3}
        records, cut_off = await fetcher.fetch(3)
        assert ([one.offset for one in records], cut_off) == ([3, 4], False)
        assert await fetcher.passed([FIRST, SECOND]) == {FIRST: 5}


async def test_a_quiet_feed_gives_nothing_after_a_second(autojump_clock: MockClock) -> None:
    """So that the source can look round."""
    cluster = Cluster({FIRST: 0})
    async with reading(cluster) as fetcher:
        assert await fetcher.fetch(None) == ([], False)
        assert trio.current_time() == pytest.approx(1)
