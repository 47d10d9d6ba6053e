"""Offsets of a consumer group in a log that has changed: recreated topics, truncated partitions."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import aiokafka
import pytest
import trio
import trio.testing
from aiokafka.errors import CommitFailedError
from trio.testing import MockClock

from odin_ws.kafka.trio_asyncio_compat import aio_as_trio, open_loop
from odin_ws.records import GapReason
from tests.kafka.group_member import A, B, FakeConsumer, membership, three
from tests.kafka.sources import TRADES, TRADES_1, sourcing, whole


async def test_committed_offset_of_a_recreated_topic_is_ignored(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The committed topic id shows it, even if no member was running."""
    cluster = three()
    cluster.group.metadata = {A: f"leader_epoch=0 topic_id={7:032x}", B: "another program's"}
    async with membership(cluster, monkeypatch, stored={A: 3, B: 3}) as group:
        await group.assign(A, B)
        assert await group.turn() == {A: 7, B: 3}
        mark = f"leader_epoch=0 topic_id={cluster.topic_ids['odin.trades']}"
        assert cluster.group.metadata[A] == mark


async def test_truncation_without_a_member_is_reported(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The committed leader epoch is compared with the log."""
    cluster = whole(TRADES_1)
    consumer = FakeConsumer(cluster)
    monkeypatch.setattr(aiokafka, "AIOKafkaConsumer", lambda **_options: consumer)
    key = TRADES_1
    cluster.logs[key].append([b"{}"] * 7, published_ms=1)

    async def join() -> None:
        theirs = [aiokafka.TopicPartition(*key)]
        consumer.assigned = set(theirs)
        await aio_as_trio(consumer.listener.on_partitions_assigned)(theirs)
        await trio.sleep(2)

    async with open_loop():
        async with sourcing(cluster, monkeypatch, group="odin"):
            await trio.sleep(1)
            await join()
            for _ in range(3):
                cluster.logs[key].append([b"{}"], published_ms=1)
            cluster.change()
            await trio.sleep(3)
        assert cluster.group.offsets[key] == 10
        # Another leader, without the last three; others take their offsets.
        cluster.move(key, 0, keeps=7)
        for _ in range(5):
            cluster.logs[key].append([b"{}"], published_ms=1)
        async with sourcing(cluster, monkeypatch, group="odin") as source:
            await trio.sleep(1)
            await join()
            gaps = [assignment.gaps for assignment in source.assignments]
            assert {key: GapReason.TRUNCATED} in gaps
            assert [record.offset for record in source.news] == [7, 8, 9, 10, 11]


@pytest.mark.parametrize("is_first_member", [True, False])
async def test_truncation_before_the_first_record_is_reported(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, *, is_first_member: bool
) -> None:
    """The start offset's epoch is known and committed, although no record has an epoch yet."""
    cluster = whole(TRADES_1)
    consumer = FakeConsumer(cluster)
    monkeypatch.setattr(aiokafka, "AIOKafkaConsumer", lambda **_options: consumer)
    cluster.publish(TRADES_1, 4)
    cluster.publish(TRADES_1, 6)

    async def join() -> None:
        theirs = [aiokafka.TopicPartition(*TRADES_1)]
        consumer.assigned = set(theirs)
        await aio_as_trio(consumer.listener.on_partitions_assigned)(theirs)
        await trio.sleep(2)

    async with open_loop():
        if not is_first_member:
            async with sourcing(cluster, monkeypatch, group="odin"):
                await trio.sleep(1)
                await join()
            cluster.move(TRADES_1, 0, keeps=4)
            cluster.publish(TRADES_1, 20)
        async with sourcing(cluster, monkeypatch, group="odin") as source:
            await trio.sleep(1)
            await join()
            if is_first_member:
                cluster.move(TRADES_1, 0, keeps=4)
                cluster.publish(TRADES_1, 20)
            await trio.sleep(10)
            assert {TRADES_1: GapReason.TRUNCATED} in [
                assignment.gaps for assignment in source.assignments
            ]
            assert source.offsets(TRADES_1) == list(range(4, 24))


async def test_member_serves_its_part_also_after_its_topic_is_recreated(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each assignment says so; a partition that the new topic lacks is left to the group."""
    cluster = whole(TRADES_1)
    consumer = FakeConsumer(cluster)
    monkeypatch.setattr(aiokafka, "AIOKafkaConsumer", lambda **_options: consumer)
    async with open_loop(), sourcing(cluster, monkeypatch, group="odin") as source:
        await trio.sleep(1)
        theirs = [aiokafka.TopicPartition(*key) for key in (TRADES, TRADES_1)]
        consumer.assigned = set(theirs)
        await aio_as_trio(consumer.listener.on_partitions_assigned)(theirs)
        await trio.sleep(2)
        cluster.recreate(TRADES.topic, 1)
        cluster.publish(TRADES, 3)
        await trio.sleep(20)
        assert {TRADES: GapReason.RECREATED} in [
            assignment.gaps for assignment in source.assignments
        ]
        assert all(assignment.partial for assignment in source.assignments)
        assert source.offsets(TRADES) == [0, 1, 2]


async def test_own_offset_of_a_recreated_topic_is_ignored(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It belongs to the old log."""
    async with membership(three(), monkeypatch, stored={A: 3}) as group:
        await group.assign(A)
        assert await group.turn() == {A: 3}
        group.positions[A] = 5
        group.consumer.failure = CommitFailedError("a rebalance")
        await group.revoke()
        group.consumer.failure = None
        group.cluster.recreate("odin.trades", 3)
        await trio.sleep(30)
        await group.assign(A)
        assert await group.turn() == {A: 0}


async def test_position_in_a_recreated_topic_is_committed_with_the_former_id(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The metadata has the new id before the source leaves the old position.

    With the new id, whoever reads the partition next would skip its first records.
    """
    async with membership(three(), monkeypatch, stored={A: 3}) as group:
        await group.assign(A)
        assert await group.turn() == {A: 3}
        former = group.cluster.topic_ids["odin.trades"]
        group.cluster.recreate("odin.trades", 3)
        await trio.sleep(30)
        group.positions[A] = 5
        await trio.sleep(3)
        assert group.cluster.group.offsets[A] == 5
        assert group.cluster.group.metadata[A] == f"leader_epoch=-1 topic_id={former}"
        await group.revoke()
        await group.assign(A)
        assert await group.turn() == {A: 0}


async def test_topic_recreated_before_its_assignment_is_taken_is_read_from_its_beginning(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub is busy between the look-up of the committed offset and the first fetch."""
    cluster, key = whole(TRADES_1), TRADES_1
    consumer = FakeConsumer(cluster)
    monkeypatch.setattr(aiokafka, "AIOKafkaConsumer", lambda **_options: consumer)
    cluster.logs[key].append([b"{}"] * 7, published_ms=1)
    cluster.group.offsets[key] = 3
    hub_is_free = trio.Event()
    async with (
        open_loop(),
        sourcing(cluster, monkeypatch, hub_is_free, group="odin") as source,
    ):
        await trio.sleep(1)
        theirs = [aiokafka.TopicPartition(*key)]
        consumer.assigned = set(theirs)
        await aio_as_trio(consumer.listener.on_partitions_assigned)(theirs)
        await trio.sleep(1)
        cluster.recreate(key.topic, 2)
        cluster.logs[key].append([b"{}"] * 10, published_ms=1)
        await trio.sleep(30)
        hub_is_free.set()
        await trio.sleep(10)
        assert source.offsets(key) == list(range(10))


async def test_equal_position_in_a_recreated_topic_is_committed_again(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The offset has not changed, and its topic has."""
    async with membership(three(), monkeypatch, stored={A: 3}) as group:
        await group.assign(A)
        assert await group.turn() == {A: 3}
        group.member.topic_ids[A] = f"{9:032x}"
        await trio.sleep(3)
        assert group.cluster.group.metadata[A] == f"leader_epoch=-1 topic_id={9:032x}"
