"""Membership in a group: whose turn it is, and what is committed, without a broker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager

import aiokafka
import pytest
import trio
import trio.testing
from aiokafka.errors import CommitFailedError, KafkaConnectionError, KafkaError
from structlog.testing import capture_logs

from odin_ws.kafka.group import GroupMember
from odin_ws.kafka.trio_asyncio_compat import aio_as_trio, open_loop
from odin_ws.records import TopicPartition

A, B, C = (TopicPartition("odin.trades", number) for number in range(3))


class FakeCluster:
    """The group's memory. `failure` is raised by the next questions, if there is one."""

    def __init__(self, stored: Mapping[TopicPartition, int] | None = None) -> None:
        self.stored = dict(stored or {})
        self.commits: list[dict[TopicPartition, int]] = []
        self.sought: dict[TopicPartition, int] = {}
        self.failure: KafkaError | None = None
        self.fetcher = self

    async def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """Store positions."""
        await trio.lowlevel.checkpoint()
        if self.failure is not None:
            raise self.failure
        self.commits.append(dict(positions))
        self.stored |= positions

    async def committed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The positions that were stored."""
        await trio.lowlevel.checkpoint()
        if self.failure is not None:
            raise self.failure
        return {key: self.stored[key] for key in partitions if key in self.stored}

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """The fetcher's part."""
        self.sought |= positions


@asynccontextmanager
async def membership(
    cluster: FakeCluster, positions: dict[TopicPartition, int]
) -> AsyncIterator[GroupMember]:
    """A member for which every new partition begins at 7, in the loop where aiokafka calls it."""

    async def first_place(partitions: set[TopicPartition]) -> dict[TopicPartition, int]:
        await trio.lowlevel.checkpoint()
        return dict.fromkeys(partitions, 7)

    async with open_loop():
        yield GroupMember(cluster, positions, first_place)  # type: ignore[arg-type]  # a fake


async def assign(member: GroupMember, *partitions: TopicPartition) -> None:
    """The group gives the member these partitions."""
    theirs = [aiokafka.TopicPartition(*key) for key in partitions]
    await aio_as_trio(member.on_partitions_assigned)(theirs)


async def revoke(member: GroupMember) -> None:
    """The group begins to share out its partitions anew."""
    await aio_as_trio(member.on_partitions_revoked)([])


async def test_each_partition_goes_on_where_the_group_stopped() -> None:
    """A stored position counts; without one it begins at its first place, which is stored."""
    cluster = FakeCluster({A: 100})
    async with membership(cluster, {}) as member:
        await assign(member, A, B)
        async with member.turn() as assigned:
            assert assigned == {A: 100, B: 7}
        assert cluster.sought == {A: 100, B: 7}
        assert cluster.commits == [{B: 7}]


async def test_an_assignment_is_told_once() -> None:
    """The first turn after a rebalance tells the partitions, the following ones do not."""
    async with membership(FakeCluster(), {}) as member:
        await assign(member, A)
        async with member.turn() as assigned:
            assert assigned == {A: 7}
        async with member.turn() as assigned:
            assert assigned is None


async def test_what_was_handed_on_is_not_read_again() -> None:
    """Where a commit failed, a partition that comes back goes on behind our own last record."""
    cluster = FakeCluster({A: 100, B: 100})
    positions = {A: 150, B: 50}
    async with membership(cluster, positions) as member:
        await assign(member, A, B)
    assert cluster.sought == {A: 150, B: 100}


async def test_nothing_is_read_during_a_rebalance() -> None:
    """A turn that is under way is cancelled; the next begins when the partitions are given out."""
    cluster = FakeCluster()
    positions: dict[TopicPartition, int] = {}
    async with membership(cluster, positions) as member:
        await assign(member, A, B)
        turns: list[str] = []
        reading = trio.Event()

        async def read() -> None:
            async with member.turn():
                positions[A] = 20
                reading.set()
                await trio.sleep_forever()
            turns.append("cancelled")
            async with member.turn() as assigned:
                turns.append(f"next, with {sorted(assigned or {})}")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await reading.wait()
            await revoke(member)
            assert cluster.stored == {A: 20, B: 7}
            await trio.testing.wait_all_tasks_blocked()
            assert turns == ["cancelled"]
            await assign(member, C)
        assert turns == ["cancelled", f"next, with {[C]}"]


async def test_only_changes_are_committed() -> None:
    """A commit stores what moved since the last one; where nothing did, nobody is asked."""
    cluster = FakeCluster()
    positions: dict[TopicPartition, int] = {}
    async with membership(cluster, positions) as member:
        await assign(member, A, B)
        cluster.commits.clear()
        await member.commit()
        assert cluster.commits == []
        positions[B] = 9
        await member.commit()
        await member.commit()
        assert cluster.commits == [{B: 9}]


async def test_a_commit_that_fails_is_made_up_for() -> None:
    """It is told once and does no harm; the next commit stores it too."""
    cluster = FakeCluster()
    positions: dict[TopicPartition, int] = {}
    async with membership(cluster, positions) as member:
        await assign(member, A)
        positions[A] = 9
        cluster.failure = CommitFailedError("a rebalance")
        with capture_logs() as lines:
            await member.commit()
            await member.commit()
        assert [line["event"] for line in lines] == ["cannot commit the group's positions"]
        cluster.failure = None
        await member.commit()
        assert cluster.stored == {A: 9}


async def test_a_partition_that_cannot_be_placed_is_no_secret() -> None:
    """When the broker fails in the middle of a rebalance, the next turn raises it."""
    cluster = FakeCluster()
    async with membership(cluster, {}) as member:
        cluster.failure = KafkaConnectionError("gone")
        await assign(member, A)
        with pytest.RaisesGroup(KafkaConnectionError):
            async with member.turn():
                pytest.fail("it was given a turn")
