"""The log reader: missing brokers, leaders, records, topics and permissions."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from odin_ws.log_reader import (
    LogReader,
    LogUnavailable,
    PartitionsUnavailable,
    RecordsExpired,
    Span,
    TimePositions,
)
from odin_ws.records import TopicPartition
from tests.kafka.log_readers import (
    BOUND,
    KEY,
    OTHER,
    TOPIC,
    append_batches,
    offsets,
    running,
)
from tests.kafka.memory_cluster import MemoryCluster


@pytest.mark.parametrize("away", [{0}, {0, 1}])
async def test_unavailable_brokers_end_a_read_after_timeout(
    autojump_clock: MockClock, cluster: MemoryCluster, away: set[int]
) -> None:
    """Only the leader, or all brokers."""
    cluster.logs[KEY].append(10)
    cluster.away = away
    async with running() as reader:
        with pytest.raises(LogUnavailable, match=r"refused|nobody answers"):
            await offsets(reader, KEY, Span(0, 9))
        assert BOUND < trio.current_time() < BOUND + 1
        cluster.away = set()
        assert await offsets(reader, KEY, Span(0, 9)) == list(range(10))


async def test_read_survives_short_outage_of_brokers(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """A restart of the only broker does not end it."""
    append_batches(cluster.logs[KEY], 2)
    async with running() as reader, trio.open_nursery() as nursery:

        async def come_back() -> None:
            await trio.sleep(BOUND - 1)
            cluster.away = set()

        async with reader.read({KEY: Span(0, 19)}) as batches:
            read = [record.offset for record in await anext(batches)]
            cluster.away = {0, 1}
            nursery.start_soon(come_back)
            read += [record.offset async for records in batches for record in records]
    assert read == list(range(20))


async def test_timeout_excludes_time_of_the_caller(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """Slow callers and waits for a slot do not count."""
    append_batches(cluster.logs[KEY], 2)
    async with running() as reader, reader.read({KEY: Span(0, 19)}) as batches:
        await trio.sleep(10 * BOUND)
        cluster.logs[KEY].errors = [6]
        await anext(batches)
        await trio.sleep(10 * BOUND)
        cluster.logs[KEY].errors = [6]
        assert [record.offset for record in await anext(batches)] == list(range(10, 20))


async def test_retention_during_a_read_is_reported(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """Records read until then are valid."""
    append_batches(cluster.logs[KEY], 3)
    async with running() as reader, reader.read({KEY: Span(0, 29)}) as batches:
        assert len(await anext(batches)) == 10
        cluster.logs[KEY].delete_before(20)
        with pytest.raises(RecordsExpired, match=rf"{TOPIC} 0"):
            await anext(batches)
        assert trio.current_time() < 1


async def test_out_of_range_is_retried_once(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """Some brokers respond so for a moment after a leader change."""
    cluster.logs[KEY].append(10)
    cluster.logs[KEY].errors = [1]
    async with running() as reader:
        assert await offsets(reader, KEY, Span(0, 9)) == list(range(10))
        cluster.logs[KEY].errors = [1, 1]
        with pytest.raises(RecordsExpired):
            await offsets(reader, KEY, Span(0, 9))


async def test_missing_topic_is_requested_again(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """A broker that has just started may not know it yet."""
    cluster.logs[KEY].append(10)
    async with running() as reader, trio.open_nursery() as nursery:
        for question in (
            reader.bounds([KEY]),
            found_at(reader),
            offsets(reader, KEY, Span(0, 9)),
        ):

            async def learn() -> None:
                await trio.sleep(1)
                cluster.hidden = set()

            cluster.hidden = {TOPIC}
            nursery.start_soon(learn)
            assert await question


async def found_at(reader: LogReader) -> Mapping[TopicPartition, int]:
    """The positions of the beginning of time."""
    return (await reader.positions_at([TOPIC], 0)).found


async def test_topic_missing_for_long_is_missing_at_once(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """Otherwise each call for such a topic would take seconds."""
    cluster.hidden = {TOPIC}
    async with running() as reader:
        assert await reader.positions_at([TOPIC], 0) == TimePositions({})
        assert 2 <= trio.current_time() < 3
        assert await reader.bounds([KEY]) == {}
        assert trio.current_time() < 3
        cluster.hidden = set()
        assert await reader.bounds([KEY]) == {KEY: (0, 0)}
        cluster.hidden = {TOPIC}
        assert await reader.bounds([KEY]) == {}
        assert trio.current_time() > 4


async def test_recreated_topic_is_not_read(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """Its offsets may overlap the span."""
    append_batches(cluster.logs[KEY], 2)
    async with running() as reader, reader.read({KEY: Span(0, 19)}) as batches:
        await anext(batches)
        cluster.topic_ids[TOPIC] = f"{2:032x}"
        cluster.logs[KEY].errors = [100]
        with pytest.raises(RecordsExpired):
            await anext(batches)


async def test_log_with_another_topic_id_is_not_read(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """Neither bounds nor offsets by time nor records."""
    cluster.logs[KEY].append(10)
    cluster.topic_ids[TOPIC] = f"{2:032x}"
    former, current = {TOPIC: f"{1:032x}"}, {TOPIC: f"{2:032x}"}
    async with running() as reader:
        with pytest.raises(PartitionsUnavailable, match=rf"{TOPIC} 0: the topic was recreated"):
            await reader.bounds([KEY], former)
        with pytest.raises(PartitionsUnavailable, match="the topic was recreated"):
            await reader.positions_at([TOPIC], 0, former)
        with pytest.raises(RecordsExpired):
            async with reader.read({KEY: Span(0, 9)}, former) as batches:
                await anext(batches)
        assert await reader.bounds([KEY], current) == {KEY: (0, 10)}
        assert await reader.positions_at([TOPIC], 0, current) == TimePositions({KEY: -1})
        async with reader.read({KEY: Span(0, 9)}, current) as batches:
            assert len(await anext(batches)) == 10


async def test_bounds_of_a_topic_recreated_meanwhile_are_unavailable(
    autojump_clock: MockClock, cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offsets are requested by name, so the id is compared before and after."""
    cluster.logs[KEY].append(10)
    former = {TOPIC: f"{1:032x}"}
    cluster.topic_ids = dict(former)
    list_offsets = cluster.send

    async def recreate_and_ask(_self: MemoryCluster, *args: Any, **options: Any) -> Any:
        cluster.topic_ids[TOPIC] = f"{9:032x}"
        return await list_offsets(*args, **options)

    monkeypatch.setattr(MemoryCluster, "send", recreate_and_ask)
    async with running() as reader:
        with pytest.raises(PartitionsUnavailable, match="the topic was recreated"):
            await reader.bounds([KEY], former)


async def test_missing_permission_fails_at_once(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """Retries for seconds would occupy a slot."""
    cluster.topic_errors = {TOPIC: 29}
    async with running() as reader:
        with pytest.raises(LogUnavailable, match="not authorized to read the topic"):
            await offsets(reader, KEY, Span(0, 9))
    assert trio.current_time() < 1


@pytest.mark.parametrize("code", [-1, 5, 7, 41])
async def test_topic_with_an_error_in_the_metadata_is_not_missing(
    autojump_clock: MockClock, cluster: MemoryCluster, code: int
) -> None:
    """A resume would report its records as lost, and `since_ms` would leave them out."""
    cluster.logs[KEY].append(10)
    cluster.topic_errors = {TOPIC: code}
    async with running() as reader:
        with pytest.raises(PartitionsUnavailable, match=TOPIC) as failure:
            await reader.bounds([KEY])
        assert failure.value.failed.keys() == {KEY}
        with pytest.raises(PartitionsUnavailable, match=TOPIC):
            await reader.positions_at([TOPIC], 0)
        cluster.topic_errors = {}
        assert await reader.bounds([KEY]) == {KEY: (0, 10)}
        assert await reader.positions_at([TOPIC], 0) == TimePositions({KEY: -1})


async def test_denied_topic_is_not_missing(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """Its bounds are unavailable; other topics begin at a time without it."""
    cluster.logs[KEY].append(10)
    cluster.topic_errors = {TOPIC: 29}
    async with running() as reader:
        with pytest.raises(PartitionsUnavailable, match="not authorized"):
            await reader.bounds([KEY])
        found = await reader.positions_at([TOPIC], 0)
        assert not found.found
        assert set(found.failed_topics) == {TOPIC}
    assert trio.current_time() < 1


async def test_bounds_of_a_partition_without_a_leader_are_unavailable(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """The error names the partition and has the bounds of the other."""
    cluster.logs[OTHER].leader = None
    async with running() as reader:
        with pytest.raises(PartitionsUnavailable, match=rf"{TOPIC} 1: no leader") as failure:
            await reader.bounds([KEY, OTHER])
        assert failure.value.found.keys() == {KEY}
        cluster.away = {0, 1}
        with pytest.raises(LogUnavailable, match="nobody answers"):
            await reader.bounds([KEY])
