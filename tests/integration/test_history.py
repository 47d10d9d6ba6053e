"""What was published before the start: the source reads it first, and says where it ends."""

from __future__ import annotations

import time

from odin_ws.kafka.source_status import SourceState
from tests.integration import kafka
from tests.integration.running_source import (
    Feeding,
    Publisher,
    Sent,
    delete_records_before,
    each,
    eventually,
    every_partition,
    feeding,
    new_topics,
    numbered,
    options,
    publish_in_transaction,
)

# Of all that a test publishes.
ALL = {"history_seconds": 600.0, "history_records": 1_000_000}


def aged(partitions: int, *ages: float) -> list[Sent]:
    """For each age a record that is so many seconds old, in each partition of a topic to come."""
    now = time.time()
    return [
        Sent("", value=b"%d" % age, partition=number, timestamp=int((now - age) * 1000))
        for age in ages
        for number in range(partitions)
    ]


async def test_history_is_what_is_young_enough(apache: str) -> None:
    """The assignment tells where it begins and ends; then its end is told; then comes news."""
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


async def test_history_is_no_more_than_so_many_records(apache: str) -> None:
    """The newest of each partition; one that has few leaves its share to the others."""
    topics = new_topics()
    await kafka.create_topics(apache, topics, 3)
    few, *many = every_partition(topics, 3)
    await Publisher(apache).publish(numbered([few], 10) + numbered(many, 100))
    async with feeding(topics, options(apache, history_seconds=600, history_records=60)) as running:
        assert running.offsets() == {few: list(range(10))} | each(many, range(75, 100))
        assert len(running.history) == 60


async def test_without_a_history_its_end_comes_at_once(apache: str) -> None:
    """Also where there is no topic at all."""
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


async def test_a_member_of_a_group_has_no_history(apache: str) -> None:
    """It goes on where the group stopped, and the end of the history is told all the same."""
    topics = new_topics()
    await kafka.create_topics(apache, topics, 1)
    await Publisher(apache).publish(numbered(every_partition(topics, 1), 5))
    async with feeding(topics, options(apache, group=topics[0], **ALL)) as running:
        assert running.history == []
        assert running.assignments[0].history == {}


async def test_a_history_may_end_with_a_marker(apache: str) -> None:
    """The end of a transaction takes up an offset and is no record to wait for."""
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


async def test_the_feed_is_starting_until_the_history_is_read(apache: str) -> None:
    """However long the hub takes for it; the rate limit does not hold it up."""
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


async def hold_at_the_start(running: Feeding) -> None:
    """Take nothing after the first assignment."""
    running.takes.value = False
    await eventually(lambda: running.assignments)


async def test_a_history_goes_on_after_an_interruption(apache: str) -> None:
    """What is published meanwhile is news; nothing is missing or doubled, no position goes back."""
    old, new = topics = new_topics(2)
    await kafka.create_topics(apache, [old], 2)
    partitions = every_partition([old], 2)
    await Publisher(apache).publish(numbered(partitions, 100))
    async with feeding(topics, options(apache, **ALL), live=False) as running:
        await hold_at_the_start(running)
        await kafka.create_topics(apache, [new], 1)
        (later,) = every_partition([new], 1)
        await Publisher(apache).publish(numbered([*partitions, later], 10, first=100))
        await eventually(lambda: running.source_status.missing_topics == set())
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
        assert running.offsets() == each(partitions, range(110)) | {later: list(range(10))}
        assert len(running.history) >= 200


async def test_a_history_that_is_deleted_meanwhile(apache: str) -> None:
    """It goes on with what is left of it, the position stays, and nothing counts as lost."""
    (topic,) = topics = new_topics()
    await kafka.create_topics(apache, topics, 1)
    (key,) = every_partition(topics, 1)
    # Larger than what one fetch of a partition brings: most stay with the broker.
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
