"""The offset to continue from if a position may not be in the log."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from odin_ws.kafka.offset_lookup import look_up, resolve
from odin_ws.kafka.partition import OffsetReset, Partition
from odin_ws.kafka.protocol import (
    EpochEndOffset,
    ListOffsetsRequest,
    OffsetForLeaderEpochRequest,
    OffsetFound,
)
from odin_ws.records import GapReason
from tests.kafka.fake_cluster import FakeCluster
from tests.kafka.fetchers import FIRST, SECOND, fetching, move, places, until_reset

EXPIRED, RECREATED, TRUNCATED = GapReason.EXPIRED, GapReason.RECREATED, GapReason.TRUNCATED
NOT_KNOWN = EpochEndOffset(0, -1, -1)


@pytest.mark.parametrize(
    ("position", "first", "end", "epoch_end", "expected"),
    [
        (5, 0, 9, NOT_KNOWN, None),
        (5, 0, 5, NOT_KNOWN, None),
        (5, 5, 9, NOT_KNOWN, None),
        (5, 7, 9, NOT_KNOWN, OffsetReset(7, EXPIRED)),
        # Never back to the beginning.
        (5, 0, 3, NOT_KNOWN, OffsetReset(3, TRUNCATED)),
        (5, 0, 0, NOT_KNOWN, OffsetReset(0, TRUNCATED)),
        (5, 0, 9, EpochEndOffset(0, 2, 9), None),
        (5, 0, 9, EpochEndOffset(0, 2, 3), OffsetReset(3, TRUNCATED, 2)),
        (5, 4, 9, EpochEndOffset(0, 2, 3), OffsetReset(4, TRUNCATED)),
        # The log has it; its high watermark is not there yet.
        (5, 0, 3, EpochEndOffset(0, 2, 5), None),
        (5, 7, 9, EpochEndOffset(0, 2, 9), OffsetReset(7, EXPIRED)),
    ],
)
def test_reset_follows_from_bounds_and_epoch(
    position: int, first: int, end: int, epoch_end: EpochEndOffset, expected: OffsetReset | None
) -> None:
    """The end of the epoch takes precedence over the end of the log."""
    found = resolve(
        Partition(FIRST, position), OffsetFound(0, first), OffsetFound(0, end), epoch_end
    )
    assert found == expected


@pytest.mark.parametrize("which", range(3))
def test_error_in_any_response_means_unknown(which: int) -> None:
    """Other responses are not used."""
    codes = [0, 0, 0]
    codes[which] = 6
    first, end = OffsetFound(codes[0], 7), OffsetFound(codes[1], 9)
    found = resolve(Partition(FIRST, 5), first, end, EpochEndOffset(codes[2], -1, -1))
    assert found == "NOT_LEADER_FOR_PARTITION (6)"


def test_recreated_log_is_read_from_its_beginning() -> None:
    """Whatever its bounds are."""
    partition = Partition(FIRST, 5, lookup=RECREATED)
    found = resolve(partition, OffsetFound(0, 2), OffsetFound(0, 90), NOT_KNOWN)
    assert found == OffsetReset(2, RECREATED)


async def test_recreated_topic_is_read_from_its_first_offset(
    autojump_clock: MockClock,
) -> None:
    """Its bounds are requested, but no epochs of the deleted log."""
    cluster = FakeCluster({FIRST: 0})
    async with fetching(cluster) as fetcher:
        cluster.publish(FIRST, 3)
        await places(fetcher, 3)
        cluster.recreate(FIRST.topic, 1)
        for _ in range(4):
            cluster.publish(FIRST)
        cluster.logs[FIRST].delete_before(2)
        fetcher.apply((await cluster.metadata([FIRST.topic])).topics)
        fetcher.restart({FIRST})
        assert await until_reset(fetcher) == ([], {FIRST: OffsetReset(2, RECREATED)})
        assert not cluster.requests(OffsetForLeaderEpochRequest)


async def test_partition_missing_in_response_is_unknown() -> None:
    """A default bound would restart at the beginning."""

    class Silent:
        async def send(self, _node: int, _request: object, *_options: object) -> Any:
            await trio.lowlevel.checkpoint()
            return {}

    partition = Partition(FIRST, 5, is_out_of_range=True)
    found = await look_up(Silent(), 0, [partition])
    assert found == {FIRST: "the topic or partition does not exist"}


async def test_deleted_records_are_skipped(autojump_clock: MockClock) -> None:
    """Retention passed the position; the remaining records follow the reset."""
    cluster = FakeCluster({FIRST: 0})
    async with fetching(cluster) as fetcher:
        cluster.errors[FIRST] = 6
        cluster.publish_each(FIRST, 10)
        cluster.logs[FIRST].delete_before(7)
        del cluster.errors[FIRST]
        assert await until_reset(fetcher) == ([], {FIRST: OffsetReset(7, EXPIRED)})
        assert await places(fetcher, 3) == ["0-7", "0-8", "0-9"]


async def test_records_before_a_reset_are_taken_first(autojump_clock: MockClock) -> None:
    """Other partitions are not delayed."""
    cluster = FakeCluster({FIRST: 0, SECOND: 0})
    async with fetching(cluster) as fetcher:
        cluster.publish(FIRST, 10)
        await trio.sleep(0.1)
        cluster.move(FIRST, 1, keeps=0)
        cluster.logs[FIRST].append([b"new"] * 4)
        fetcher.apply((await cluster.metadata(["odin.trades"])).topics)
        await trio.sleep(0.3)
        cluster.publish(SECOND)
        taken, resets = await until_reset(fetcher)
        assert [one for one in taken if one[0] == "0"] == [f"0-{number}" for number in range(10)]
        assert resets[FIRST].reason is TRUNCATED


@pytest.mark.parametrize("has_epochs", [True, False])
@pytest.mark.parametrize("answers_epoch_ends", [True, False])
async def test_single_out_of_range_is_retried(
    autojump_clock: MockClock, *, has_epochs: bool, answers_epoch_ends: bool
) -> None:
    """There is neither a reset nor a lookup."""
    cluster = FakeCluster({FIRST: 0}, has_epochs=has_epochs, answers_epoch_ends=answers_epoch_ends)
    async with fetching(cluster) as fetcher:
        cluster.publish(FIRST, 3)
        await places(fetcher, 3)
        cluster.out_of_range[FIRST] = 1
        cluster.publish(FIRST)
        assert await places(fetcher, 1) == ["0-3"]
        assert not cluster.requests(ListOffsetsRequest)
        # Also where it is said again and again, of a position that the log has.
        cluster.out_of_range[FIRST] = 5
        cluster.publish(FIRST)
        assert await places(fetcher, 1) == ["0-4"]
        assert cluster.requests(ListOffsetsRequest)
        assert len(cluster.fetches()) < 40


async def test_truncation_continues_at_the_divergence(autojump_clock: MockClock) -> None:
    """Only the new leader's other records are read."""
    cluster = FakeCluster({FIRST: 0})
    async with fetching(cluster) as fetcher:
        cluster.publish_each(FIRST, 10)
        await places(fetcher, 10)
        cluster.move(FIRST, 1, keeps=6)
        cluster.publish_each(FIRST, 20)
        assert await until_reset(fetcher) == ([], {FIRST: OffsetReset(6, TRUNCATED, 0)})
        assert await places(fetcher, 20) == [f"0-{number}" for number in range(6, 26)]


async def test_second_truncation_before_a_record_is_noticed(autojump_clock: MockClock) -> None:
    """The epoch at the divergence is known, so the next leader is compared too."""
    cluster = FakeCluster({FIRST: 0})
    async with fetching(cluster) as fetcher:
        cluster.publish_each(FIRST, 10)
        await places(fetcher, 10)
        cluster.move(FIRST, 1, keeps=6)
        assert await until_reset(fetcher) == ([], {FIRST: OffsetReset(6, TRUNCATED, 0)})
        cluster.move(FIRST, 2, keeps=3)
        cluster.publish_each(FIRST, 9)
        assert await until_reset(fetcher) == ([], {FIRST: OffsetReset(3, TRUNCATED, 0)})
        assert len(await places(fetcher, 9)) == 9


@pytest.mark.parametrize("has_epochs", [True, False])
async def test_truncation_without_epoch_ends_continues_at_the_end(
    autojump_clock: MockClock, *, has_epochs: bool
) -> None:
    """Never at the beginning; these brokers lack OffsetForLeaderEpoch."""
    cluster = FakeCluster({FIRST: 0}, has_epochs=has_epochs, answers_epoch_ends=False)
    async with fetching(cluster) as fetcher:
        cluster.publish_each(FIRST, 10)
        await places(fetcher, 10)
        await move(cluster, fetcher, 1, keeps=6)
        assert await until_reset(fetcher) == ([], {FIRST: OffsetReset(6, TRUNCATED)})
        cluster.publish(FIRST)
        assert await places(fetcher, 1) == ["0-6"]


async def test_clean_election_is_validated_without_reset(autojump_clock: MockClock) -> None:
    """One request of each kind."""
    cluster = FakeCluster({FIRST: 0})
    async with fetching(cluster) as fetcher:
        cluster.publish(FIRST, 3)
        await places(fetcher, 3)
        cluster.move(FIRST, 1)
        cluster.publish(FIRST)
        assert await places(fetcher, 1) == ["0-3"]
        assert len(cluster.requests(OffsetForLeaderEpochRequest)) == 1


async def test_validation_is_retried(autojump_clock: MockClock) -> None:
    """No unvalidated record is read meanwhile; others are."""
    cluster = FakeCluster({FIRST: 0, SECOND: 0})
    async with fetching(cluster) as fetcher:
        cluster.publish_each(FIRST, 10)
        await places(fetcher, 10)
        cluster.query_errors[FIRST] = 78
        cluster.move(FIRST, 1, keeps=6)
        cluster.publish_each(FIRST, 10)
        since = trio.current_time()
        for _ in range(60):
            await trio.sleep(1)
            cluster.publish(SECOND)
            assert (await places(fetcher, 1))[0].startswith("1-")
        problem = fetcher.partitions[FIRST].problem
        assert problem is not None
        assert problem.reason == "OFFSET_NOT_AVAILABLE (78)"
        assert not [
            fetche for fetche in cluster.fetches(since, 1) if FIRST in fetche.request.changed
        ]
        assert 10 <= len(cluster.requests(OffsetForLeaderEpochRequest, since)) <= 60
        assert len(cluster.metadata_requests) > 10
        cluster.query_errors.clear()
        assert await until_reset(fetcher, 6) == ([], {FIRST: OffsetReset(6, TRUNCATED, 0)})
        await trio.sleep(1)
        assert fetcher.partitions[FIRST].problem is None


async def test_next_leader_is_validated_again(
    autojump_clock: MockClock,
) -> None:
    """The first new leader hangs during validation; the second lacks records."""
    cluster = FakeCluster({FIRST: 0})
    async with fetching(cluster) as fetcher:
        cluster.publish_each(FIRST, 10)
        await places(fetcher, 10)
        cluster.hanging.add(1)
        await move(cluster, fetcher, 1)
        await trio.sleep(1)
        await move(cluster, fetcher, 2, keeps=6)
        cluster.publish_each(FIRST, 10)
        assert await until_reset(fetcher) == ([], {FIRST: OffsetReset(6, TRUNCATED, 0)})


async def test_recreated_topic_is_read_from_its_beginning(autojump_clock: MockClock) -> None:
    """After the buffered records; also if it has more records than the old position."""
    cluster = FakeCluster({FIRST: 0})
    async with fetching(cluster) as fetcher:
        cluster.publish(FIRST, 5)
        await places(fetcher, 4 + 1)
        cluster.recreate("odin.trades", 1)
        cluster.publish_each(FIRST, 8)
        fetcher.apply((await cluster.metadata(["odin.trades"])).topics)
        fetcher.restart([FIRST])
        assert await until_reset(fetcher) == ([], {FIRST: OffsetReset(0, RECREATED)})
        assert await places(fetcher, 8) == [f"0-{number}" for number in range(8)]


async def test_recreated_topic_is_not_read_before_its_beginning_is_known(
    autojump_clock: MockClock,
) -> None:
    """It has records after our position, and the query for its first offset fails for a while."""
    cluster = FakeCluster({FIRST: 0})
    async with fetching(cluster) as fetcher:
        cluster.publish(FIRST, 3)
        await places(fetcher, 3)
        cluster.recreate(FIRST.topic, 1)
        for _ in range(5):
            cluster.publish(FIRST)
        cluster.query_errors[FIRST] = 78
        fetcher.apply((await cluster.metadata([FIRST.topic])).topics)
        fetcher.restart({FIRST})
        await trio.sleep(20)
        assert not (await fetcher.take(None)).records
        del cluster.query_errors[FIRST]
        assert await until_reset(fetcher) == ([], {FIRST: OffsetReset(0, RECREATED)})
        assert await places(fetcher, 5) == [f"0-{number}" for number in range(5)]


async def test_recreation_during_a_lookup_is_noticed(autojump_clock: MockClock) -> None:
    """The pending response is about the old log."""
    cluster = FakeCluster({FIRST: 0})
    async with fetching(cluster) as fetcher:
        cluster.publish_each(FIRST, 5)
        await places(fetcher, 5)
        cluster.hanging.add(1)
        await move(cluster, fetcher, 1)
        await trio.sleep(0.1)
        fetcher.restart([FIRST])
        cluster.hanging.clear()
        cluster.change()
        assert await until_reset(fetcher) == ([], {FIRST: OffsetReset(0, RECREATED)})


@pytest.mark.parametrize("ends", [[1], [1, 2], [2, 1, 2]])
async def test_early_end_of_a_new_leader_is_looked_up_again(
    autojump_clock: MockClock, ends: list[int]
) -> None:
    """Until it knows which records are committed, a leader may report less (Redpanda's 5435)."""
    cluster = FakeCluster({FIRST: 0})
    async with fetching(cluster) as fetcher:
        cluster.publish(FIRST, 3)
        await places(fetcher, 3)
        cluster.early_ends[FIRST] = [EpochEndOffset(0, 0, end) for end in ends]
        await move(cluster, fetcher, 1)
        cluster.publish(FIRST)
        assert await places(fetcher, 1, 5) == ["0-3"]
        assert len(cluster.requests(OffsetForLeaderEpochRequest)) == len(ends) + 1


async def test_truncation_needs_two_equal_lookups(autojump_clock: MockClock) -> None:
    """The second one is sent soon."""
    cluster = FakeCluster({FIRST: 0})
    async with fetching(cluster) as fetcher:
        cluster.publish_each(FIRST, 3)
        await places(fetcher, 3)
        begun = trio.current_time()
        await move(cluster, fetcher, 1, keeps=2)
        assert await until_reset(fetcher) == ([], {FIRST: OffsetReset(2, TRUNCATED, 0)})
        assert len(cluster.requests(OffsetForLeaderEpochRequest)) == 2
        assert trio.current_time() - begun < 0.4


async def test_confirmed_truncation_does_not_confirm_the_next(autojump_clock: MockClock) -> None:
    """Each is looked up twice."""
    cluster = FakeCluster({FIRST: 0})
    async with fetching(cluster) as fetcher:
        cluster.publish_each(FIRST, 5)
        await places(fetcher, 5)
        for count, keeps in enumerate((4, 3), 1):
            await move(cluster, fetcher, count, keeps=keeps)
            assert (await until_reset(fetcher))[1][FIRST].offset == keeps
            assert len(cluster.requests(OffsetForLeaderEpochRequest)) == 2 * count
