"""Every partition is read from its leader, each record once, whatever the brokers do."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import struct

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from odin_ws.kafka.fetcher import BATCH_RECORDS
from odin_ws.records import InvalidBatch, Record
from tests.kafka.fake_cluster import FakeCluster
from tests.kafka.fetchers import FIRST, MAX_WAIT, SECOND, SLOT, THIRD, fetching, named, places


async def test_first_record_after_a_pause_is_taken_at_once(autojump_clock: MockClock) -> None:
    """The broker holds a fetch and responds with the record."""
    cluster = FakeCluster({FIRST: 0})
    async with fetching(cluster) as fetcher:
        await trio.sleep(10.2)
        before = trio.current_time()
        cluster.publish(FIRST)
        assert await places(fetcher, 1) == ["0-0"]
        assert trio.current_time() == before


async def test_steady_records_are_fetched_every_50_ms(autojump_clock: MockClock) -> None:
    """Not with one fetch per record."""
    cluster = FakeCluster({FIRST: 0})
    async with fetching(cluster) as fetcher, trio.open_nursery() as nursery:

        async def publish() -> None:
            for _ in range(1000):
                cluster.publish(FIRST)
                await trio.sleep(0.001)

        nursery.start_soon(publish)
        await places(fetcher, 1000)
        assert len(cluster.fetches()) <= 1 / SLOT + 4


async def test_idle_fetcher_sends_two_fetches_a_second(autojump_clock: MockClock) -> None:
    """The broker holds each for the maximum time."""
    cluster = FakeCluster({FIRST: 0, SECOND: 0})
    async with fetching(cluster):
        await trio.sleep(60)
        assert 118 <= len(cluster.fetches()) <= 122


async def test_fetch_lists_only_changed_partitions(autojump_clock: MockClock) -> None:
    """The session has the others."""
    cluster = FakeCluster({FIRST: 0, SECOND: 0})
    async with fetching(cluster) as fetcher:
        await trio.sleep(1)
        cluster.publish(FIRST)
        await places(fetcher, 1)
        await trio.sleep(0.01)
        requests = [fetche.request for fetche in cluster.fetches()]
        assert set(requests[0].changed) == {FIRST, SECOND}
        assert [set(request.changed) for request in requests[1:]] == [set()] * (
            len(requests) - 2
        ) + [{FIRST}]


async def test_each_partition_is_fetched_from_its_leader(autojump_clock: MockClock) -> None:
    """A broker gets requests only for partitions that it leads."""
    cluster = FakeCluster({FIRST: 0, SECOND: 1, THIRD: 1})
    async with fetching(cluster) as fetcher:
        for key in cluster.leaders:
            cluster.publish(key)
        assert sorted(await places(fetcher, 3)) == ["0-0", "1-0", "2-0"]
        assert {fetch.node: set(fetch.request.changed) for fetch in cluster.fetches()[:2]} == {
            0: {FIRST},
            1: {SECOND, THIRD},
        }


async def test_moved_leader_loses_and_duplicates_nothing(autojump_clock: MockClock) -> None:
    """The partition is read from its new leader; others continue."""
    cluster = FakeCluster({FIRST: 0, SECOND: 0})
    async with fetching(cluster) as fetcher:
        cluster.publish(FIRST, 2)
        assert await places(fetcher, 2) == ["0-0", "0-1"]
        cluster.move(FIRST, 1)
        cluster.publish(FIRST)
        cluster.publish(SECOND)
        assert sorted(await places(fetcher, 2)) == ["0-2", "1-0"]
        assert fetcher.partitions[FIRST].problem is None


async def test_fetch_carries_leader_epoch_and_topic_id(autojump_clock: MockClock) -> None:
    """A deposed leader, or one with another topic id, returns no records."""
    cluster = FakeCluster({FIRST: 0})
    async with fetching(cluster):
        await trio.sleep(0.1)
        cluster.move(FIRST, 1)
        await trio.sleep(2)
        for node, epoch in (0, 0), (1, 1):
            first = cluster.fetches(node=node)[0].request
            assert first.changed[FIRST].epoch == epoch
            assert first.topic_ids == cluster.topic_ids


async def test_error_of_old_leader_is_ignored(autojump_clock: MockClock) -> None:
    """The partition is read from the new leader without a pause."""
    cluster = FakeCluster({FIRST: 0})
    async with fetching(cluster) as fetcher:
        await trio.sleep(0.1)
        cluster.hanging.add(0)
        cluster.leaders[FIRST] = 1
        fetcher.apply((await cluster.metadata(["odin.trades"])).topics)
        await trio.sleep(0.2)
        cluster.hanging.clear()
        # It is answered now: NOT_LEADER_FOR_PARTITION.
        cluster.change()
        await trio.testing.wait_all_tasks_blocked()
        assert fetcher.partitions[FIRST].problem is None
        before = trio.current_time()
        cluster.publish(FIRST)
        assert await places(fetcher, 1) == ["0-0"]
        assert trio.current_time() == before


async def test_hang_of_old_leader_is_no_problem_of_the_partition(autojump_clock: MockClock) -> None:
    """Another broker leads it now."""
    cluster = FakeCluster({FIRST: 0, SECOND: 0})
    async with fetching(cluster) as fetcher:
        await trio.sleep(0.1)
        cluster.hanging.add(0)
        cluster.change()
        cluster.leaders[FIRST] = 1
        fetcher.apply((await cluster.metadata(["odin.trades"])).topics)
        await trio.sleep(12)
        assert fetcher.partitions[FIRST].problem is None
        problem = fetcher.partitions[SECOND].problem
        assert problem is not None
        assert "no response" in problem.reason


async def test_lost_session_costs_one_fetch(autojump_clock: MockClock) -> None:
    """The broker reports it, and the next fetch lists everything."""
    cluster = FakeCluster({FIRST: 0})
    async with fetching(cluster) as fetcher:
        cluster.publish(FIRST)
        await places(fetcher, 1)
        cluster.forget_sessions()
        cluster.publish(FIRST)
        assert await places(fetcher, 1) == ["0-1"]
        assert trio.current_time() < 2 * MAX_WAIT
        assert fetcher.partitions[FIRST].problem is None


async def test_repeatedly_lost_session_is_reported_and_backs_off(
    autojump_clock: MockClock,
) -> None:
    """A broker without room for sessions responds so forever."""
    cluster = FakeCluster({FIRST: 0}, fetch_errors={0: 70})
    async with fetching(cluster) as fetcher:
        await trio.sleep(60)
        assert len(cluster.fetches()) <= 200
        problem = fetcher.partitions[FIRST].problem
        assert problem is not None
        assert problem.reason == "FETCH_SESSION_ID_NOT_FOUND (70)"


async def test_broker_without_sessions_is_read(autojump_clock: MockClock) -> None:
    """Each fetch lists all partitions."""
    cluster = FakeCluster({FIRST: 0, SECOND: 0}, has_sessions=False)
    async with fetching(cluster) as fetcher:
        for key in (FIRST, SECOND, FIRST):
            cluster.publish(key)
            await places(fetcher, 1)
        assert all(set(fetche.request.changed) == {FIRST, SECOND} for fetche in cluster.fetches())


async def test_reassignment_drops_buffered_records(autojump_clock: MockClock) -> None:
    """No record of the old position is delivered."""
    cluster = FakeCluster({FIRST: 0, SECOND: 0})
    async with fetching(cluster) as fetcher:
        cluster.publish(FIRST, 5)
        cluster.publish(SECOND, 1)
        await trio.sleep(0.01)
        fetcher.assign({FIRST: 4})
        assert sorted(await places(fetcher, 2)) == ["0-4", "1-0"]


async def test_response_from_before_an_assignment_is_dropped(
    autojump_clock: MockClock,
) -> None:
    """It has the old offset and would skip records."""
    cluster = FakeCluster({FIRST: 0})
    async with fetching(cluster) as fetcher:
        cluster.publish(FIRST, 2)
        cluster.publish(FIRST, 3)
        await places(fetcher, 5)
        await trio.sleep(2 * SLOT)
        fetcher.assign({FIRST: 0})
        cluster.publish(FIRST)
        assert await places(fetcher, 6) == [f"0-{number}" for number in range(6)]


async def test_revoked_partition_delivers_nothing(autojump_clock: MockClock) -> None:
    """Neither buffered records nor later ones."""
    cluster = FakeCluster({FIRST: 0, SECOND: 0})
    async with fetching(cluster) as fetcher:
        cluster.publish(FIRST, 2)
        cluster.publish(SECOND, 1)
        await trio.sleep(0.1)
        fetcher.revoke([FIRST])
        cluster.publish(FIRST, 2)
        assert await places(fetcher, 1) == ["1-0"]
        await trio.sleep(2)
        assert not (await fetcher.take(None)).records
        assert FIRST in cluster.fetches()[-1].request.forgotten or not any(
            FIRST in fetche.request.changed for fetche in cluster.fetches(since=0.2)
        )


async def test_take_limit_leaves_the_rest(autojump_clock: MockClock) -> None:
    """The next call returns it without a wait."""
    cluster = FakeCluster({FIRST: 0})
    async with fetching(cluster) as fetcher:
        cluster.publish(FIRST, 5)
        await trio.sleep(0.01)
        first = await fetcher.take(3)
        assert (named(first.records), first.cut_off) == (["0-0", "0-1", "0-2"], True)
        assert first.passed == {FIRST: 2}
        assert fetcher.next_offsets() == {FIRST: 3}
        second = await fetcher.take(3)
        assert (named(second.records), second.cut_off) == (["0-3", "0-4"], False)
        assert fetcher.next_offsets() == {FIRST: 5}


async def test_take_returns_a_bounded_number_of_records(autojump_clock: MockClock) -> None:
    """Other tasks run between batches."""
    cluster = FakeCluster({FIRST: 0})
    async with fetching(cluster) as fetcher:
        for _ in range(5):
            cluster.publish(FIRST, 1000)
        await trio.sleep(0.2)
        assert len((await fetcher.take(None)).records) == BATCH_RECORDS
        assert len((await fetcher.take(10**6)).records) == BATCH_RECORDS
        assert len((await fetcher.take(None)).records) == 1000


async def test_take_returns_nothing_after_a_second_without_records(
    autojump_clock: MockClock,
) -> None:
    """The source has other work."""
    cluster = FakeCluster({FIRST: 0})
    async with fetching(cluster) as fetcher:
        taken = await fetcher.take(None)
        assert (taken.records, taken.cut_off, taken.resets) == ([], False, {})
        assert trio.current_time() == pytest.approx(1)


async def test_wake_ends_a_wait_for_records(autojump_clock: MockClock) -> None:
    """The source has something else to do."""
    cluster = FakeCluster({FIRST: 0})
    async with fetching(cluster) as fetcher, trio.open_nursery() as nursery:
        taken = []

        async def take() -> None:
            taken.append(await fetcher.take(None))

        nursery.start_soon(take)
        await trio.sleep(0.3)
        fetcher.wake()
        await trio.testing.wait_all_tasks_blocked()
        assert [one.records for one in taken] == [[]]
        assert trio.current_time() == pytest.approx(0.3)


async def test_transaction_markers_are_skipped(autojump_clock: MockClock) -> None:
    """Positions advance past a final marker and past aborted records."""
    cluster = FakeCluster({FIRST: 0})
    log = cluster.logs[FIRST]
    async with fetching(cluster) as fetcher:
        cluster.publish(FIRST, 2, producer=7)
        cluster.publish(FIRST, 1)
        await trio.sleep(1)
        # Open: nothing of it may be delivered, nor what is behind it.
        assert not (await fetcher.take(None)).records
        assert fetcher.partitions[FIRST].is_held
        log.end_transaction(7, commit=True)
        cluster.change()
        assert await places(fetcher, 3) == ["0-0", "0-1", "0-2"]
        await trio.sleep(0.1)
        assert (await fetcher.take(None)).passed in ({FIRST: 3}, {})
        assert fetcher.next_offsets() == {FIRST: 4}
        assert not fetcher.partitions[FIRST].is_held
        cluster.publish(FIRST, 2, producer=7)
        log.end_transaction(7, commit=False)
        cluster.change()
        await trio.sleep(1)
        taken = await fetcher.take(None)
        assert (taken.records, taken.passed) == ([], {FIRST: 6})


async def test_holes_of_compaction_are_skipped(autojump_clock: MockClock) -> None:
    """`passed` is the offset before the next record."""
    cluster = FakeCluster({FIRST: 0})
    async with fetching(cluster) as fetcher:
        cluster.publish(FIRST)
        cluster.logs[FIRST].skip_offsets(7)
        cluster.publish(FIRST, 2)
        await trio.sleep(0.1)
        taken = await fetcher.take(1)
        assert (named(taken.records), taken.passed) == (["0-0"], {FIRST: 7})
        taken = await fetcher.take(1)
        assert (named(taken.records), taken.passed) == (["0-8"], {FIRST: 8})


async def test_batch_larger_than_a_fetch_is_read(autojump_clock: MockClock) -> None:
    """Also from a broker that truncates it at the size of the fetch."""
    cluster = FakeCluster({FIRST: 0, SECOND: 0}, sends_whole=False)
    async with fetching(cluster) as fetcher:
        cluster.publish_large(FIRST, 5_000_000)
        cluster.publish(FIRST)
        cluster.publish(SECOND)
        assert sorted(await places(fetcher, 3)) == ["0-0", "0-1", "1-0"]
        assert len(cluster.fetches()) < 20


async def test_batch_above_the_maximum_is_skipped_after_a_second_fetch(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The records after it follow, as after a batch that decompresses to too much."""
    monkeypatch.setattr("odin_ws.kafka.fetch_result.LARGEST_PARTITION_BYTES", 4 << 20)
    cluster = FakeCluster({FIRST: 0, SECOND: 0}, sends_whole=False)
    async with fetching(cluster) as fetcher:
        cluster.publish_large(FIRST, 5_000_000)
        cluster.publish(FIRST)
        (bad,) = (await fetcher.take(None)).records
        assert (bad.offset, bad.invalid) == (0, InvalidBatch.BATCH_TOO_LARGE)
        assert await places(fetcher, 1) == ["0-1"]
        assert fetcher.partitions[FIRST].problem is None
        assert len(cluster.fetches()) < 20


async def test_batch_with_a_wrong_length_is_skipped(autojump_clock: MockClock) -> None:
    """The checksum does not cover the length: no fetch is large enough for this batch."""
    cluster = FakeCluster({FIRST: 0})
    async with fetching(cluster) as fetcher:
        cluster.publish(FIRST, 2)
        cluster.publish(FIRST, 2)
        stored = cluster.logs[FIRST].batches[0]
        stored.data = stored.data[:8] + struct.pack(">i", (1 << 31) - 1) + stored.data[12:]
        (bad,) = (await fetcher.take(None)).records
        assert (bad.offset, bad.invalid) == (1, InvalidBatch.BATCH_TOO_LARGE)
        assert await places(fetcher, 2) == ["0-2", "0-3"]


async def test_batch_corrupt_once_is_delivered(autojump_clock: MockClock) -> None:
    """It is fetched again; other partitions are read meanwhile."""
    cluster = FakeCluster({FIRST: 0, SECOND: 0})
    async with fetching(cluster) as fetcher:
        cluster.publish(FIRST)
        made = cluster.logs[FIRST].corrupt_next([b"1"])
        cluster.publish(FIRST)
        cluster.publish(SECOND)
        assert sorted(await places(fetcher, 2)) == ["0-0", "1-0"]
        made.data = made.data[:-1] + bytes([made.data[-1] ^ 0xFF])
        taken = await places(fetcher, 2)
        assert taken == ["0-1", "0-2"]


async def test_batch_corrupt_twice_is_skipped_as_invalid_record(autojump_clock: MockClock) -> None:
    """The hub counts it, and later records are read."""
    cluster = FakeCluster({FIRST: 0})
    async with fetching(cluster) as fetcher:
        cluster.logs[FIRST].corrupt_next([b"1"])
        cluster.publish(FIRST)
        found: list[Record] = []
        while len(found) < 2:
            found += (await fetcher.take(None)).records
        assert [(record.offset, record.invalid) for record in found] == [
            (0, "corrupt_batch"),
            (1, None),
        ]
        assert len(cluster.fetches()) <= 5
