"""Membership in a consumer group: assignments and rebalances."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import aiokafka
import pytest
import trio
import trio.testing
from aiokafka.errors import GroupAuthorizationFailedError
from trio.testing import MockClock

from odin_ws.kafka.trio_asyncio_compat import aio_as_trio, open_loop
from odin_ws.records import TopicPartition
from tests.kafka.fake_cluster import FakeCluster
from tests.kafka.group_member import A, B, C, FakeConsumer, membership, three
from tests.kafka.sources import TRADES, TRADES_1, sourcing, whole


async def test_assignment_is_yielded_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first block after a rebalance gets the partitions, later ones do not."""
    async with membership(three(), monkeypatch) as group:
        await group.assign(A)
        assert await group.turn() == {A: 7}
        assert await group.turn() is None
        await group.revoke()
        await group.assign(A)
        assert await group.turn() == {A: 7}


async def test_partition_placed_during_a_block_is_in_the_next_one(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a block does not discard what was found meanwhile."""
    async with membership(three(), monkeypatch, stored={A: 3, B: 3}) as group:
        await group.assign(A)
        async with group.member.turn():
            await group.assign(A, B)
        assert await group.turn() == {A: 3, B: 3}


async def test_rebalance_cancels_reading_and_commits(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Delivered records are committed."""
    async with membership(three(), monkeypatch) as group:
        await group.assign(A, B)
        turns: list[str] = []
        reading = trio.Event()

        async def read() -> None:
            async with group.member.turn():
                group.positions[A] = 20
                reading.set()
                await trio.sleep_forever()
            turns.append("cancelled")
            turns.append(f"next, with {sorted(await group.turn() or {})}")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await reading.wait()
            await group.revoke()
            assert group.cluster.group.offsets == {A: 20, B: 7}
            await trio.sleep(3)
            assert turns == ["cancelled"]
            assert group.monitor.own_problem is not None
            await group.assign(C)
        assert turns == ["cancelled", f"next, with {[C]}"]
        assert group.monitor.own_problem is None


async def test_added_partition_starts_at_its_beginning(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is committed, and all its records came after the start."""
    cluster = FakeCluster({A: 0})
    async with membership(cluster, monkeypatch) as group:
        await group.assign(A)
        assert await group.turn() == {A: 7}
        cluster.add(B)
        cluster.publish(B, 5)
        await trio.sleep(6)
        await group.revoke()
        await group.assign(A, B)
        assert await group.turn() == {A: 7, B: 0}


async def test_denied_group_is_reported_and_recovers(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason is not the rebalance; no restart is needed."""
    rejection = GroupAuthorizationFailedError("odin")
    async with membership(three(), monkeypatch, rejection=rejection) as group:
        for _ in range(30):
            await trio.sleep(1)
            problem = group.monitor.own_problem
            assert problem is not None
            assert problem.reason == (
                "consumer group odin: not authorized to join the consumer group (READ on the group)"
            )
        assert 8 <= group.consumer.starts <= 30
        group.consumer.rejection = None
        await trio.sleep(6)
        await group.assign(A)
        assert await group.turn() == {A: 7}
        assert group.monitor.own_problem is None


async def test_rejection_stays_reported_during_retries(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not replaced by the rebalance in between."""
    rejection = GroupAuthorizationFailedError("odin")
    async with membership(three(), monkeypatch, rejection=rejection) as group:
        group.consumer.leave_seconds = 1
        for _ in range(100):
            await trio.sleep(0.1)
            problem = group.monitor.own_problem
            assert problem is not None
            assert "not authorized" in problem.reason


async def test_member_waits_for_a_topic(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group cannot be joined without topics, and that is no problem."""
    async with membership(FakeCluster({}), monkeypatch) as group:
        assert await group.turn() == {}
        assert group.monitor.own_problem is None
        assert group.consumer.starts == 0


async def test_aiokafka_fetches_nothing(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every partition is paused and has a position."""
    async with membership(three(), monkeypatch) as group:
        await group.assign(A, B)
        assert group.consumer.paused == group.consumer.assigned
        assert group.consumer.sought.keys() == group.consumer.assigned


@pytest.mark.parametrize("stopped_at", [1, 5])
async def test_kept_partition_continues_where_another_member_stopped(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, stopped_at: int
) -> None:
    """It was there between two rebalances, before this source could read again.

    A member that goes back has followed a truncation.
    """
    cluster = whole()
    consumer = FakeConsumer(cluster)
    monkeypatch.setattr(aiokafka, "AIOKafkaConsumer", lambda **_options: consumer)
    consumer.assigned = {aiokafka.TopicPartition(*TRADES)}
    async with open_loop(), sourcing(cluster, monkeypatch, group="odin") as received:
        await trio.sleep(1)
        await aio_as_trio(consumer.listener.on_partitions_assigned)(list(consumer.assigned))
        await trio.sleep(1)
        cluster.publish(TRADES, 3)
        await trio.sleep(1)
        await aio_as_trio(consumer.listener.on_partitions_revoked)([])
        cluster.publish(TRADES, 2)
        cluster.group.offsets[TRADES] = stopped_at
        await aio_as_trio(consumer.listener.on_partitions_assigned)(list(consumer.assigned))
        await trio.sleep(1)
        cluster.publish(TRADES)
        await trio.sleep(1)
        assert received.offsets(TRADES) == [0, 1, 2, *range(stopped_at, 6)]


async def test_source_reads_only_the_last_assignment(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Partitions of other members are not delivered."""
    cluster = whole(TRADES_1)
    consumer = FakeConsumer(cluster)
    monkeypatch.setattr(aiokafka, "AIOKafkaConsumer", lambda **_options: consumer)

    async def assign(*keys: TopicPartition) -> None:
        await aio_as_trio(consumer.listener.on_partitions_revoked)([])
        consumer.assigned = {aiokafka.TopicPartition(*key) for key in keys}
        await aio_as_trio(consumer.listener.on_partitions_assigned)(list(consumer.assigned))
        await trio.sleep(1)

    async with open_loop(), sourcing(cluster, monkeypatch, group="odin") as received:
        await trio.sleep(1)
        await assign(TRADES, TRADES_1)
        cluster.publish(TRADES)
        await trio.sleep(1)
        await assign(TRADES_1)
        cluster.publish(TRADES)
        cluster.publish(TRADES_1)
        await trio.sleep(1)
        assert (received.offsets(TRADES), received.offsets(TRADES_1)) == ([0], [0])
        last = received.assignments[-1]
        assert (last.partial, set(last.positions)) == (True, {TRADES_1})
