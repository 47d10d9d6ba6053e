"""KAFKA_ASSIGNMENT=group: members of a consumer group share the partitions."""

from __future__ import annotations

import uuid
from collections import Counter

import pytest
import trio

from odin_ws.kafka.source_status import SourceState
from odin_ws.records import TopicPartition
from tests.integration import kafka
from tests.integration.running_source import (
    Publisher,
    RunningSource,
    Sent,
    add_partitions,
    count_partitions,
    every_partition,
    feeding,
    new_topics,
    numbered,
    options,
    same_offsets,
    wait_until,
)

PARTITIONS = 6


@pytest.fixture
def group() -> str:
    """The name of a group that no other test uses."""
    return f"group-{uuid.uuid4().hex[:8]}"


def owned(member: RunningSource) -> set[TopicPartition]:
    """The partitions that a member reports."""
    return set(member.assignments[-1].positions) if member.assignments else set()


async def shared_out(partitions: list[TopicPartition], *members: RunningSource) -> None:
    """Wait until each partition is served by one of the members, and each member serves some."""
    await wait_until(
        lambda: (
            sorted(key for member in members for key in owned(member)) == sorted(partitions)
            and all(map(owned, members))
        )
    )


def delivered(*members: RunningSource) -> Counter[tuple[TopicPartition, int]]:
    """Count how often each record was handed on by all members together."""
    return Counter(
        (TopicPartition(record.topic, record.partition), record.offset)
        for member in members
        for record in member.records
    )


def once(partitions: list[TopicPartition], count: int, first: int = 0) -> Counter[object]:
    """Expect each of `count` records of each partition once."""
    return Counter((key, offset) for key in partitions for offset in range(first, first + count))


async def test_only_member_serves_all_partitions_from_the_end(apache: str, group: str) -> None:
    """Once the feed is live, new records arrive; earlier ones do not."""
    topics = new_topics(2)
    await kafka.create_topics(apache, topics, 3)
    partitions = every_partition(topics, 3)
    publisher = Publisher(apache)
    await publisher.publish(numbered(partitions, 20))
    async with feeding(topics, options(apache, group=group)) as running:
        await publisher.publish(numbered(partitions, 20, first=20))
        await running.received(120)
        assert running.offsets() == same_offsets(partitions, range(20, 40))
        assert running.assignments[-1].partial
        assert running.assignments[-1].positions == dict.fromkeys(partitions, 19)


async def test_two_members_share_the_partitions(apache: str, group: str) -> None:
    """Each member serves half of them, and exactly one of the two delivers each record."""
    topics = new_topics()
    await kafka.create_topics(apache, topics, PARTITIONS)
    partitions = every_partition(topics, PARTITIONS)
    settings = options(apache, group=group)
    async with feeding(topics, settings) as one, feeding(topics, settings) as other:
        await shared_out(partitions, one, other)
        assert len(owned(one)) == len(owned(other)) == PARTITIONS / 2
        await Publisher(apache).publish(numbered(partitions, 200))
        await wait_until(lambda: len(one.records) + len(other.records) >= 200 * PARTITIONS)
        assert delivered(one, other) == once(partitions, 200)
        assert one.offsets().keys() == owned(one)
        assert other.offsets().keys() == owned(other)


async def test_rebalance_neither_loses_nor_duplicates_records(apache: str, group: str) -> None:
    """While records flow, members join and leave: one of them delivers each record, once."""
    topics = new_topics()
    await kafka.create_topics(apache, topics, PARTITIONS)
    partitions = every_partition(topics, PARTITIONS)
    settings = options(apache, group=group)
    publisher = Publisher(apache)
    sent = 0

    async def publish_until(scope: trio.CancelScope) -> None:
        nonlocal sent
        while not scope.cancel_called:
            await publisher.publish(numbered(partitions, 5, first=sent))
            sent += 5

    scope = trio.CancelScope()
    async with feeding(topics, settings) as first:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish_until, scope)
            await first.received(500)
            async with feeding(topics, settings) as second:
                await shared_out(partitions, first, second)
                await second.received(200)
            await shared_out(partitions, first)
            async with feeding(topics, settings) as third:
                await shared_out(partitions, first, third)
                await third.received(200)
                scope.cancel()
                members = first, second, third
        await wait_until(lambda: sum(delivered(*members).values()) >= sent * PARTITIONS)
        await first.probes(2)
        assert delivered(*members) == once(partitions, sent)


async def test_blocked_member_hands_over_undelivered_records(apache: str, group: str) -> None:
    """Only the new owner delivers records that the old one fetched but could not hand on."""
    topics = new_topics()
    await kafka.create_topics(apache, topics, PARTITIONS)
    partitions = every_partition(topics, PARTITIONS)
    settings = options(apache, group=group)
    async with feeding(topics, settings) as one:
        await shared_out(partitions, one)
        one.takes.value = False
        publisher = Publisher(apache)
        await publisher.publish(numbered(partitions, 1))
        await wait_until(lambda: one.batches)
        await publisher.publish(numbered(partitions, 500, first=1))
        await one.probes(2)
        async with feeding(topics, settings) as other:
            await wait_until(lambda: len(owned(other)) == PARTITIONS / 2)
            one.takes.value = True
            await wait_until(lambda: sum(delivered(one, other).values()) >= 501 * PARTITIONS)
            await one.probes(2)
            assert delivered(one, other) == once(partitions, 501)


async def test_group_continues_at_its_committed_offsets(apache: str, group: str) -> None:
    """The next member delivers what was published while there was none."""
    topics = new_topics()
    await kafka.create_topics(apache, topics, 2)
    partitions = every_partition(topics, 2)
    settings = options(apache, group=group)
    publisher = Publisher(apache)
    async with feeding(topics, settings) as one:
        await publisher.publish(numbered(partitions, 10))
        await one.received(20)
    await publisher.publish(numbered(partitions, 10, first=10))
    async with feeding(topics, settings) as other:
        await other.received(20)
        await other.probes(2)
        assert delivered(one, other) == once(partitions, 20)


async def test_added_partitions_are_assigned(apache: str, group: str) -> None:
    """A member reads a new partition from its first record; no record arrives twice."""
    (topic,) = topics = new_topics()
    await kafka.create_topics(apache, topics, 2)
    async with feeding(topics, options(apache, group=group)) as running:
        await Publisher(apache).publish(numbered(every_partition(topics, 2), 10))
        await running.received(20)
        await add_partitions(apache, topic, 4)
        await wait_until(lambda: count_partitions(apache, topic) == 4)
        partitions = every_partition(topics, 4)
        await Publisher(apache).publish(numbered(partitions, 10, first=10))
        await running.received(60)
        await running.probes(2)
        assert running.offsets() == same_offsets(partitions[:2], range(20)) | same_offsets(
            partitions[2:], range(10)
        )


async def test_topic_created_later_is_assigned(apache: str, group: str) -> None:
    """It is read from its first record; other topics continue without a duplicate."""
    here, later = topics = new_topics(2)
    await kafka.create_topics(apache, [here], 2)
    async with feeding(topics, options(apache, group=group)) as running:
        assert running.source_status.missing_topics == {later}
        publisher = Publisher(apache)
        await publisher.publish(numbered(every_partition([here], 2), 10))
        await running.received(20)
        await kafka.create_topics(apache, [later], 2)
        await publisher.publish(numbered(every_partition(topics, 2), 10, first=10))
        await running.received(60)
        await running.probes(2)
        assert delivered(running) == once(every_partition([here], 2), 20) + once(
            every_partition([later], 2), 10
        )
        assert running.source_status.missing_topics == set()


async def test_member_without_a_partition_is_live(apache: str, group: str) -> None:
    """A member without a partition is live, and reports that it serves none."""
    topics = new_topics()
    await kafka.create_topics(apache, topics, 1)
    settings = options(apache, group=group)
    async with feeding(topics, settings) as one, feeding(topics, settings) as other:
        await wait_until(lambda: one.assignments and other.assignments)
        await wait_until(lambda: len(owned(one) | owned(other)) == 1)
        await wait_until(lambda: not (owned(one) and owned(other)))
        await Publisher(apache).publish([Sent(topics[0])])
        await wait_until(lambda: one.records or other.records)
        for member in one, other:
            await member.probes(2)
            assert member.source_status.state.value is SourceState.LIVE
