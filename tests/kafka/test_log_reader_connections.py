"""The log reader: the order of reads, and how waiting reads end."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from odin_ws.kafka.log_reader import KafkaLogReader
from odin_ws.log_reader import LogUnavailable, Span
from tests.kafka.log_readers import (
    BOUND,
    KEY,
    OPTIONS,
    OTHER,
    append_batches,
    offsets,
    running,
)
from tests.kafka.memory_cluster import MemoryCluster


async def test_concurrent_reads_are_limited_and_queue_in_order(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """A read that leaves the queue is skipped."""
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


async def test_untaken_read_ends_for_waiting_ones(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """After two seconds, if others wait; the error says why."""
    append_batches(cluster.logs[KEY], 20)
    async with running() as reader, reader.read({KEY: Span(0, 199)}) as batches:
        await anext(batches)
        await trio.sleep(3600)
        await anext(batches)
        began, fetched = trio.current_time(), cluster.fetched[0]
        assert await offsets(reader, KEY, Span(0, 9)) == list(range(10))
        assert 2 <= trio.current_time() - began <= 3
        fetched = cluster.fetched[0]
        with pytest.raises(LogUnavailable, match="not taken while other reads waited"):
            await anext(batches)
        assert cluster.fetched[0] == fetched


async def test_read_that_waits_for_the_broker_keeps_its_slot(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """The caller is not the reason of the delay."""
    cluster.logs[KEY].append(10)
    cluster.logs[KEY].leader = None
    async with running() as reader, trio.open_nursery() as nursery:
        async with reader.read({KEY: Span(0, 9)}) as batches:
            nursery.start_soon(offsets, reader, OTHER, Span(0, -1))
            with pytest.raises(LogUnavailable, match="no leader"):
                await anext(batches)
        assert trio.current_time() > BOUND


async def test_slowly_taken_read_keeps_its_slot(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """Others wait for it; the next one starts at its end."""
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
    """For calls that read, wait for a slot, wait for a leader, or come later."""
    reported: list[str] = []
    cluster.logs[KEY].append(1000)
    reader = KafkaLogReader(OPTIONS, 1)

    async def read() -> None:
        async with reader.read({KEY: Span(0, 999)}) as batches:
            await anext(batches)
            await trio.sleep(1.5)
            with pytest.raises(LogUnavailable, match="stopped"):
                await anext(batches)
        reported.append("reading")

    async def wait() -> None:
        with pytest.raises(LogUnavailable, match="stopped"):
            await offsets(reader, KEY, Span(0, 9))
        reported.append("waiting")

    async with trio.open_nursery() as nursery:
        for caller in read, wait, wait:
            nursery.start_soon(caller)
            await wait_all_tasks_blocked()
        with trio.move_on_after(1):
            await reader.run()
    assert reported == ["waiting", "waiting", "reading"]
    await wait()
    with pytest.raises(LogUnavailable, match="stopped"):
        await reader.bounds([KEY])
