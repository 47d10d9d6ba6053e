"""The source first reads records from before the start, and reports the end of this history."""

from __future__ import annotations

import time

from odin_ws.kafka.source_status import SourceState
from tests.integration import kafka
from tests.integration.running_source import (
    Publisher,
    RunningSource,
    Sent,
    delete_records_before,
    every_partition,
    feeding,
    new_topics,
    numbered,
    options,
    publish_in_transaction,
    same_offsets,
    wait_until,
)

# The total that a test publishes.
ALL = {"history_seconds": 600.0, "history_records": 1_000_000}


def aged(partitions: int, *ages: float) -> list[Sent]:
    """For each age, one record of that many seconds, in each partition of a new topic."""
    now = time.time()
    return [
        Sent("", value=b"%d" % age, partition=number, timestamp=int((now - age) * 1000))
        for age in ages
        for number in range(partitions)
    ]


async def test_history_has_records_up_to_the_age(apache: str) -> None:
    """The assignment has its bounds; its end is reported before live records follow."""
    (topic,) = topics = new_topics()
    await kafka.create_topics(apache, topics, 2)
    first, second = every_partition(topics, 2)
    publisher = Publisher(apache)
    await publisher.publish([one._replace(topic=topic) for one in aged(1, 300, 90, 50, 40)])
    recent = options(apache, history_seconds=60, history_records=1000)
    async with feeding(topics, recent) as running:
        (assignment,) = running.assignments
        assert assignment.positions == {first: 3, second: -1}
        assert assignment.history == {first: 1, second: -1}
        assert [record.value for record in running.history] == [b"50", b"40"]
        await publisher.publish(numbered([first], 1, first=4))
        await running.received(3)
        assert running.offsets() == {first: [2, 3, 4]}


async def test_history_is_bounded_by_records(apache: str) -> None:
    """The newest of each partition are kept; a short partition leaves its share to others."""
    topics = new_topics()
    await kafka.create_topics(apache, topics, 3)
    few, *many = every_partition(topics, 3)
    await Publisher(apache).publish(numbered([few], 10) + numbered(many, 100))
    async with feeding(topics, options(apache, history_seconds=600, history_records=60)) as running:
        assert running.offsets() == {few: list(range(10))} | same_offsets(many, range(75, 100))
        assert len(running.history) == 60


async def test_history_end_comes_at_once_without_history(apache: str) -> None:
    """It also comes without any topic."""
    there, not_there = topics = new_topics(2)
    await kafka.create_topics(apache, [there], 1)
    await Publisher(apache).publish(numbered(every_partition([there], 1), 5))
    for names in topics, [not_there]:
        async with feeding(names, options(apache)) as running:
            assert running.history == []
            assert running.assignments[0].history == {}
    async with feeding([not_there], options(apache, group="group")) as running:
        assert running.history == []
        assert running.assignments[0].partial


async def test_group_member_has_no_history(apache: str) -> None:
    """A member continues at the committed offsets, and the end of the history is reported too."""
    topics = new_topics()
    await kafka.create_topics(apache, topics, 1)
    await Publisher(apache).publish(numbered(every_partition(topics, 1), 5))
    async with feeding(topics, options(apache, group=topics[0], **ALL)) as running:
        assert running.history == []
        assert running.assignments[0].history == {}


async def test_history_ends_at_a_transaction_marker(apache: str) -> None:
    """A transaction marker takes an offset, and is not a record to wait for."""
    topics = new_topics()
    await kafka.create_topics(apache, topics, 1)
    (key,) = every_partition(topics, 1)
    await publish_in_transaction(apache, Sent(topics[0]))
    async with feeding(topics, options(apache, **ALL)) as running:
        assert running.assignments[0].positions == {key: 1}
        assert len(running.history) == 1
        await Publisher(apache).publish([Sent(topics[0])])
        await running.received(2)
        assert running.offsets() == {key: [0, 2]}
        await running.probes(2)
        assert running.source_status.state.value is SourceState.LIVE, running.source_status.reason


async def test_feed_is_starting_until_the_history_is_read(apache: str) -> None:
    """The feed is starting however long the hub takes; the rate limit does not apply."""
    topics = new_topics()
    await kafka.create_topics(apache, topics, 1)
    await Publisher(apache).publish(numbered(every_partition(topics, 1), 5000))
    async with feeding(topics, options(apache, rate=1, **ALL), live=False) as running:
        running.takes.value = False
        await running.probes(3)
        assert running.source_status.state.value is SourceState.STARTING
        assert running.source_status.reason == "reading records from before the start"
        assert running.source_status.lag == {topics[0]: 5000}
        running.takes.value = True
        await running.live(10)
        assert len(running.history) == 5000


async def hold_at_the_start(running: RunningSource) -> None:
    """Block after the first assignment."""
    running.takes.value = False
    await wait_until(lambda: running.assignments)


async def test_history_continues_after_an_interruption(apache: str) -> None:
    """Records published meanwhile are live; none is missing or doubled; no position moves back."""
    old, new = topics = new_topics(2)
    await kafka.create_topics(apache, [old], 2)
    partitions = every_partition([old], 2)
    await Publisher(apache).publish(numbered(partitions, 100))
    async with feeding(topics, options(apache, **ALL), live=False) as running:
        await hold_at_the_start(running)
        await kafka.create_topics(apache, [new], 1)
        (later,) = every_partition([new], 1)
        await Publisher(apache).publish(numbered([*partitions, later], 10, first=100))
        await wait_until(lambda: running.source_status.missing_topics == set())
        running.takes.value = True
        await running.received(2 * 110 + 10)
        await running.live()
        begun, again = running.assignments
        assert begun.positions == dict.fromkeys(partitions, 99)
        assert begun.history == dict.fromkeys(partitions, -1)
        # The news that came with the end of the history may be told of before the new topic.
        at = dict(again.positions)
        assert at.pop(later) == -1
        assert set(at.values()) <= {99, 109}
        assert again.history == {}
        assert running.offsets() == same_offsets(partitions, range(110)) | {later: list(range(10))}
        assert len(running.history) >= 200


async def test_history_deleted_meanwhile_continues_with_the_rest(apache: str) -> None:
    """It continues with the rest; the position stays, and no record counts as lost."""
    (topic,) = topics = new_topics()
    await kafka.create_topics(apache, topics, 1)
    (key,) = every_partition(topics, 1)
    # Larger than one fetch of a partition, so most records stay with the broker.
    large = b"x" * 400_000
    await Publisher(apache).publish([Sent(topic, value=large, partition=0)] * 40)
    async with feeding(topics, options(apache, **ALL), live=False) as running:
        await hold_at_the_start(running)
        await delete_records_before(apache, topic, 0, 30)
        running.takes.value = True
        await running.live()
        assert running.assignments[-1].positions == {key: 39}
        assert running.assignments[-1].history == {key: 29}
        assert running.offsets()[key][-10:] == list(range(30, 40))
        assert len(running.history) < 40
        assert running.source_status.lost_records == 0
