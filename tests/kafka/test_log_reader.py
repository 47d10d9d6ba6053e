"""The log reader: spans over leaders and their moves, and whose turn it is; without a broker."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from odin_ws.archive import (
    Archive,
    ArchiveUnavailable,
    PartitionsUnavailable,
    RecordsExpired,
    Span,
)
from odin_ws.kafka.access import KafkaAccess
from odin_ws.kafka.log_reader import KafkaLogReader
from odin_ws.kafka.options import KafkaOptions
from odin_ws.records import TopicPartition
from tests.kafka.archive_contract import ArchiveContract, read_all
from tests.kafka.memory_cluster import MemoryCluster, StoredLog

TOPIC = "odin.trades"
KEY, OTHER = TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)
BOUND = 5.0
OPTIONS = KafkaOptions(KafkaAccess(("nowhere:1",)), None, 1, 1, 0, BOUND, 0, 0)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> MemoryCluster:
    """Two partitions, led by brokers 0 and 1, that the reader's client reads."""
    logs = {KEY: StoredLog(leader=0), OTHER: StoredLog(leader=1)}
    cluster = MemoryCluster(logs, {TOPIC: f"{1:032x}"})
    monkeypatch.setattr("odin_ws.kafka.log_reader.KafkaClient", cluster)
    return cluster


@asynccontextmanager
async def running(readings: int = 1, bound: float = BOUND) -> AsyncIterator[KafkaLogReader]:
    """A log reader that runs for the length of the block."""
    reader = KafkaLogReader(attrs.evolve(OPTIONS, probe=bound), readings)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.run)
        yield reader
        nursery.cancel_scope.cancel()


async def offsets(reader: KafkaLogReader, key: TopicPartition, span: Span) -> list[int]:
    """The offsets of the records of one span."""
    return [record.offset for record in await read_all(reader, {key: span})]


@attrs.frozen
class ClusterPast:
    """A Past in a MemoryCluster."""

    cluster: MemoryCluster
    archive: Archive
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
) -> AsyncIterator[ClusterPast]:
    """An empty topic, and a log reader for one reading at a time."""
    # The contract's tests run under no virtual clock.
    monkeypatch.setattr("odin_ws.kafka.log_reader._MISSING_SECONDS", 0)
    async with running(bound=0.2) as reader:
        yield ClusterPast(cluster, reader)


class TestKafkaLogReader(ArchiveContract):
    """It is an archive."""


# ---- leaders and their moves


async def test_spans_of_several_leaders_are_read_from_each(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """Each fetch names the partitions of its broker only."""
    for log in cluster.logs.values():
        log.append(100)
    async with running() as reader:
        records = await read_all(reader, {KEY: Span(10, 99), OTHER: Span(0, 49)})
    for key, span in (KEY, range(10, 100)), (OTHER, range(50)):
        assert [one.offset for one in records if one.partition == key.partition] == list(span)
    assert set(cluster.fetched) == {0, 1}
    assert all(len(request.changed) == 1 for request in cluster.requests)


async def test_fetch_carries_leader_epoch_and_topic_id(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """A broker that is behind its followers, or has another topic, must not answer."""
    cluster.logs[KEY].append(1)
    cluster.logs[KEY].epoch = 7
    async with running() as reader:
        await offsets(reader, KEY, Span(0, 0))
    (request,) = cluster.requests
    assert request.changed[KEY].epoch == 7
    assert request.topic_ids == {TOPIC: f"{1:032x}"}
    assert (request.session, request.epoch) == (0, -1)


@pytest.mark.parametrize("error", [5, 6, 9, 74, 75, 78, -1, 7, 56])
async def test_reading_goes_on_after_a_retriable_error(
    autojump_clock: MockClock, cluster: MemoryCluster, error: int
) -> None:
    """Each record once, in order, whatever a partition answered for a while."""
    for _ in range(3):
        # Each batch is a fetch of its own.
        cluster.logs[KEY].append(10, size=200_000)
    cluster.logs[KEY].errors = [error, error, 0, error]
    async with running() as reader:
        assert await offsets(reader, KEY, Span(0, 29)) == list(range(30))


async def test_reading_follows_a_leader_that_moves(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """The metadata is asked for again, and the rest is read from the new leader."""
    for _ in range(3):
        cluster.logs[KEY].append(10, size=200_000)
    async with running() as reader, reader.read({KEY: Span(0, 29)}) as batches:
        read = [one.offset for one in await anext(batches)]
        cluster.logs[KEY].leader = 1
        read += [one.offset async for records in batches for one in records]
    assert read == list(range(30))
    assert cluster.fetched[1] >= 1


async def test_reading_waits_for_a_leader_that_is_elected(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """A partition without a leader for less than the bound costs time only."""
    cluster.logs[KEY].append(10)
    cluster.logs[KEY].leader = None
    async with running() as reader, trio.open_nursery() as nursery:

        async def elect() -> None:
            await trio.sleep(BOUND - 1)
            cluster.logs[KEY].leader = 1

        nursery.start_soon(elect)
        assert await offsets(reader, KEY, Span(0, 9)) == list(range(10))


async def test_partition_without_leader_holds_up_no_other(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """The others' records come at once; then the one that is stuck is named."""
    cluster.logs[KEY].append(10)
    cluster.logs[OTHER].append(10)
    cluster.logs[KEY].leader = None
    async with running() as reader, reader.read({KEY: Span(0, 9), OTHER: Span(0, 9)}) as batches:
        assert [one.partition for one in await anext(batches)] == [1] * 10
        assert trio.current_time() == 0
        with pytest.raises(ArchiveUnavailable, match=rf"from {TOPIC} 0: no leader"):
            await anext(batches)
        assert BOUND < trio.current_time() < BOUND + 1


async def test_leader_that_moves_is_looked_up_while_other_partitions_are_read(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """Their records do not hold up those of the partition that moved."""
    cluster.logs[KEY].append(10)
    for _ in range(50):
        cluster.logs[OTHER].append(10, size=200_000)
    cluster.logs[KEY].errors = [6]
    read: list[int] = []
    async with running() as reader, reader.read({KEY: Span(0, 9), OTHER: Span(0, 499)}) as batches:
        while 0 not in read:
            read += {one.partition for one in await anext(batches)}
    assert read.count(1) < 10


async def test_partitions_of_one_leader_take_turns(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """An answer has no room for all of them: those left out are first in the next one."""
    keys = [TopicPartition(TOPIC, number) for number in range(12)]
    for key in keys:
        cluster.logs[key] = StoredLog(leader=0)
        for _ in range(4):
            cluster.logs[key].append(1, size=1_000_000)
    first_seen: dict[int, int] = {}
    async with running() as reader, reader.read(dict.fromkeys(keys, Span(0, 3))) as batches:
        number = 0
        async for records in batches:
            for one in records:
                first_seen.setdefault(one.partition, number)
            number += 1
    assert number == 48
    # An answer has 4 MiB: the last of twelve partitions is read by the third.
    assert max(first_seen.values()) < 16


# ---- what is not there


@pytest.mark.parametrize("away", [{0}, {0, 1}])
async def test_unavailable_brokers_end_a_reading_after_the_bound(
    autojump_clock: MockClock, cluster: MemoryCluster, away: set[int]
) -> None:
    """The leader alone, or all of them: both are tried for as long as a probe may take."""
    cluster.logs[KEY].append(10)
    cluster.away = away
    async with running() as reader:
        with pytest.raises(ArchiveUnavailable, match="nobody"):
            await offsets(reader, KEY, Span(0, 9))
        assert BOUND < trio.current_time() < BOUND + 1
        cluster.away = set()
        assert await offsets(reader, KEY, Span(0, 9)) == list(range(10))


async def test_reading_survives_brokers_that_are_away_for_less_than_the_bound(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """A restart of the only broker is not an end of the reading."""
    for _ in range(2):
        cluster.logs[KEY].append(10, size=200_000)
    async with running() as reader, trio.open_nursery() as nursery:

        async def come_back() -> None:
            await trio.sleep(BOUND - 1)
            cluster.away = set()

        async with reader.read({KEY: Span(0, 19)}) as batches:
            read = [one.offset for one in await anext(batches)]
            cluster.away = {0, 1}
            nursery.start_soon(come_back)
            read += [one.offset async for records in batches for one in records]
    assert read == list(range(20))


async def test_time_for_which_the_caller_does_not_ask_is_not_the_brokers(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """Slow callers and waits for the turn leave the broker all of its time."""
    for _ in range(2):
        cluster.logs[KEY].append(10, size=200_000)
    async with running() as reader, reader.read({KEY: Span(0, 19)}) as batches:
        await trio.sleep(10 * BOUND)
        cluster.logs[KEY].errors = [6]
        await anext(batches)
        await trio.sleep(10 * BOUND)
        cluster.logs[KEY].errors = [6]
        assert [one.offset for one in await anext(batches)] == list(range(10, 20))


async def test_retention_in_the_middle_of_a_reading_is_told(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """What was read by then stands."""
    for _ in range(3):
        cluster.logs[KEY].append(10, size=200_000)
    async with running() as reader, reader.read({KEY: Span(0, 29)}) as batches:
        assert len(await anext(batches)) == 10
        cluster.logs[KEY].delete_before(20)
        with pytest.raises(RecordsExpired, match=rf"{TOPIC} 0"):
            await anext(batches)
        assert trio.current_time() < 1


async def test_offset_out_of_range_is_asked_twice(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """Some brokers answer so for a moment after a leader has moved."""
    cluster.logs[KEY].append(10)
    cluster.logs[KEY].errors = [1]
    async with running() as reader:
        assert await offsets(reader, KEY, Span(0, 9)) == list(range(10))
        cluster.logs[KEY].errors = [1, 1]
        with pytest.raises(RecordsExpired):
            await offsets(reader, KEY, Span(0, 9))


async def test_topic_that_one_answer_lacks_is_asked_for_again(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """A broker that has just started may not know it yet."""
    cluster.logs[KEY].append(10)
    async with running() as reader, trio.open_nursery() as nursery:
        for question in (
            reader.bounds([KEY]),
            reader.positions_at([TOPIC], 0),
            offsets(reader, KEY, Span(0, 9)),
        ):

            async def learn() -> None:
                await trio.sleep(1)
                cluster.hidden = set()

            cluster.hidden = {TOPIC}
            nursery.start_soon(learn)
            assert await question


async def test_topic_whose_absence_has_lasted_is_absent_at_once(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """Each question about a topic that does not exist would take seconds."""
    cluster.hidden = {TOPIC}
    async with running() as reader:
        assert await reader.positions_at([TOPIC], 0) == {}
        assert 2 <= trio.current_time() < 3
        assert await reader.bounds([KEY]) == {}
        assert trio.current_time() < 3
        cluster.hidden = set()
        assert await reader.bounds([KEY]) == {KEY: (0, 0)}
        cluster.hidden = {TOPIC}
        assert await reader.bounds([KEY]) == {}
        assert trio.current_time() > 4


async def test_topic_created_anew_is_another_log(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """Its offsets may be the same: the rest of a span is not read from it."""
    for _ in range(2):
        cluster.logs[KEY].append(10, size=200_000)
    async with running() as reader, reader.read({KEY: Span(0, 19)}) as batches:
        await anext(batches)
        cluster.topic_ids[TOPIC] = f"{2:032x}"
        cluster.logs[KEY].errors = [100]
        with pytest.raises(RecordsExpired):
            await anext(batches)


async def test_missing_right_is_told_at_once(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """Trying again for seconds would keep the turn from others."""
    cluster.topic_errors = {TOPIC: 29}
    async with running() as reader:
        with pytest.raises(ArchiveUnavailable, match="not authorized to read the topic"):
            await offsets(reader, KEY, Span(0, 9))
    assert trio.current_time() < 1


async def test_bounds_of_a_partition_without_a_leader_are_unavailable(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """The partition is named."""
    cluster.logs[OTHER].leader = None
    async with running() as reader:
        with pytest.raises(PartitionsUnavailable, match=rf"{TOPIC} 1: no leader") as failure:
            await reader.bounds([KEY, OTHER])
        assert failure.value.found.keys() == {KEY}
        cluster.away = {0, 1}
        with pytest.raises(ArchiveUnavailable, match="nobody answers"):
            await reader.bounds([KEY])


# ---- what a log may hold


async def test_markers_and_holes_are_passed(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """A span ends where the reading is past it, also where its last offsets hold no record."""
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
    """A second time it is passed, as one record with its reason."""
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


async def test_batches_have_at_most_500_records(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """One batch of Kafka's may hold many more: others are served between ours."""
    cluster.logs[KEY].append(1300)
    async with running() as reader, reader.read({KEY: Span(0, 1299)}) as batches:
        assert [len(records) async for records in batches] == [200] * 6 + [100]


# ---- whose turn it is


async def test_no_more_read_at_once_than_there_are_readings_and_others_wait_in_turn(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """The first to come is next; one that leaves the queue is passed over."""
    cluster.logs[KEY].append(10)
    served: list[int] = []
    async with running(readings=2) as reader, trio.open_nursery() as nursery:

        async def read(number: int, scope: trio.CancelScope) -> None:
            with scope:
                async with reader.read({KEY: Span(0, 9)}) as batches:
                    await anext(batches)
                    served.append(number)
                    # Not both at once: the next one is the first that came.
                    await trio.sleep(1 + number / 8)

        scopes = [trio.CancelScope() for _ in range(6)]
        for number, scope in enumerate(scopes):
            nursery.start_soon(read, number, scope)
            await wait_all_tasks_blocked()
        assert served == [0, 1]
        scopes[3].cancel()
        await trio.sleep(5)
        assert served == [0, 1, 2, 4, 5]


async def test_reading_that_is_not_taken_lets_others_read(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """After two seconds, if others wait; the caller is told why there is no more."""
    for _ in range(20):
        cluster.logs[KEY].append(10, size=200_000)
    async with running() as reader, reader.read({KEY: Span(0, 199)}) as batches:
        await anext(batches)
        await trio.sleep(3600)
        await anext(batches)
        began, fetched = trio.current_time(), cluster.fetched[0]
        assert await offsets(reader, KEY, Span(0, 9)) == list(range(10))
        assert 2 <= trio.current_time() - began <= 3
        fetched = cluster.fetched[0]
        with pytest.raises(ArchiveUnavailable, match="not taken while others waited"):
            await anext(batches)
        assert cluster.fetched[0] == fetched


async def test_reading_that_waits_for_the_broker_keeps_its_turn(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """Its caller asks for records: that they do not come is not the caller's doing."""
    cluster.logs[KEY].append(10)
    cluster.logs[KEY].leader = None
    async with running() as reader, trio.open_nursery() as nursery:
        async with reader.read({KEY: Span(0, 9)}) as batches:
            nursery.start_soon(offsets, reader, OTHER, Span(0, -1))
            with pytest.raises(ArchiveUnavailable, match="no leader"):
                await anext(batches)
        assert trio.current_time() > BOUND


async def test_reading_that_is_taken_slowly_keeps_its_turn(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """Others wait for as long as that takes; after it the next one is served at once."""
    cluster.logs[KEY].append(15_000)
    async with running() as reader, trio.open_nursery() as nursery:
        async with reader.read({KEY: Span(0, 14_999)}) as batches:
            await anext(batches)
            nursery.start_soon(offsets, reader, KEY, Span(0, 9))
            for _ in range(20):
                await trio.sleep(1.5)
                await anext(batches)
        assert trio.current_time() == 30
        await wait_all_tasks_blocked()
        assert not nursery.child_tasks


async def test_stopped_log_reader_is_unavailable(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """Callers that read, wait for a turn, wait for a leader, or come later are told so."""
    told: list[str] = []
    cluster.logs[KEY].append(1000)
    reader = KafkaLogReader(OPTIONS, 1)

    async def read() -> None:
        async with reader.read({KEY: Span(0, 999)}) as batches:
            await anext(batches)
            await trio.sleep(1.5)
            with pytest.raises(ArchiveUnavailable, match="stopped"):
                await anext(batches)
        told.append("reading")

    async def wait() -> None:
        with pytest.raises(ArchiveUnavailable, match="stopped"):
            await offsets(reader, KEY, Span(0, 9))
        told.append("waiting")

    async with trio.open_nursery() as nursery:
        for caller in read, wait, wait:
            nursery.start_soon(caller)
            await wait_all_tasks_blocked()
        with trio.move_on_after(1):
            await reader.run()
    assert told == ["waiting", "waiting", "reading"]
    await wait()
    with pytest.raises(ArchiveUnavailable, match="stopped"):
        await reader.bounds([KEY])
