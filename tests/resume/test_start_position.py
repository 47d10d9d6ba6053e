"""The start position of a replay while the log changes."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from odin_ws.history import ResumeCursor
from odin_ws.log_reader import Bounds, TimePositions
from odin_ws.records import Assignment, GapReason, TopicPartition
from odin_ws.resume import LossReason
from odin_ws.resume.start_position import ResumeTopics, StartPosition, StartPositionFinder
from tests.factories import record
from tests.session.conversation import Harness, open_harness

TRADES = "odin.trades"
A, B = TopicPartition(TRADES, 0), TopicPartition(TRADES, 1)
FIRST, SECOND = {TRADES: "a"}, {TRADES: "b"}


@attrs.define
class HeldBounds:
    """A log reader that has these bounds, once it may answer."""

    found: Mapping[TopicPartition, Bounds] = attrs.field(factory=dict)
    at: TimePositions = attrs.field(factory=lambda: TimePositions({}))
    may_answer: trio.Event = attrs.field(factory=trio.Event)

    async def bounds(
        self, partitions: Collection[TopicPartition], **_more: Any
    ) -> Mapping[TopicPartition, Bounds]:
        """See LogReader."""
        await self.may_answer.wait()
        return {key: self.found[key] for key in partitions if key in self.found}

    async def positions_at(self, *_arguments: Any, **_more: Any) -> TimePositions:
        """See LogReader."""
        await self.may_answer.wait()
        return self.at


@attrs.define
class Finding:
    """A finder, its cursor, and the log as the hub sees it."""

    harness: Harness
    log_reader: HeldBounds
    cursor: ResumeCursor
    finder: StartPositionFinder

    async def assign(self, positions: dict[TopicPartition, int], **more: Any) -> None:
        """Let the hub take an assignment."""
        await self.harness.feeder.publish(Assignment(positions, **more))

    async def recreate(self, position: int = -1) -> None:
        """Let the hub notice that the topic was recreated; A begins behind `position`."""
        await self.assign(
            {A: position, B: -1},
            topic_ids=SECOND,
            gaps=dict.fromkeys((A, B), GapReason.RECREATED),
        )


@asynccontextmanager
async def finding(positions: dict[TopicPartition, int], live: int) -> AsyncIterator[Finding]:
    """A replay from these positions, at an instance that is at `live` in partition A."""
    async with open_harness() as harness:
        log_reader = HeldBounds()
        reader: Any = log_reader
        context = attrs.evolve(harness.context, log_reader=reader)
        cursor = ResumeCursor({"*.trade": positions})
        found = Finding(harness, log_reader, cursor, StartPositionFinder(context, cursor))
        await found.assign({A: live, B: -1}, topic_ids=FIRST)
        yield found


async def test_recreated_partition_that_begins_above_0_is_read_from_there(
    autojump_clock: MockClock,
) -> None:
    """Retention has deleted its first records; no record of the former log is kept."""
    async with finding({A: 5, B: -1}, live=5) as found:
        await found.finder.find(StartPosition(found.cursor))
        await found.recreate(position=3)
        assert found.finder.catch_up(announced=True) == {A: -1, B: -1}
        assert found.cursor.positions() == {A: 3, B: -1}
        assert not found.finder.lost_spans.spans
        # Once.
        assert found.finder.catch_up(announced=True) == {}


async def test_truncated_partition_keeps_records_before_the_truncation(
    autojump_clock: MockClock,
) -> None:
    """Only what the client had behind it is lost."""
    async with finding({A: 5, B: -1}, live=7) as found:
        found.log_reader.found = {A: Bounds(0, 8), B: Bounds(0, 0)}
        found.log_reader.may_answer.set()
        await found.finder.find(StartPosition(found.cursor))
        await found.assign({A: 6, B: -1}, topic_ids=FIRST, gaps={A: GapReason.TRUNCATED})
        assert found.finder.catch_up(announced=False) == {A: 6}
        assert not found.finder.lost_spans.spans
        await found.assign({A: 3, B: -1}, topic_ids=FIRST, gaps={A: GapReason.TRUNCATED})
        assert found.finder.catch_up(announced=False) == {A: 3}
        assert found.finder.lost_spans.reasons == {LossReason.TRUNCATED}
        assert found.cursor.positions() == {A: 3, B: -1}


async def test_bounds_of_the_former_log_expire_nothing(
    autojump_clock: MockClock,
) -> None:
    """The topic is recreated while its bounds are requested: they are requested again."""
    async with finding({A: -1, B: -1}, live=5) as found:
        found.log_reader.found = {A: Bounds(4, 6), B: Bounds(0, 0)}
        found.harness.nursery.start_soon(found.finder.find, StartPosition(found.cursor))
        await wait_all_tasks_blocked()
        await found.recreate()
        found.log_reader.may_answer.set()
        await wait_all_tasks_blocked()
        assert found.finder.lost_spans.reasons == {LossReason.RECREATED}
        assert found.cursor.positions() == {A: -1, B: -1}
        assert not found.finder.is_outdated


async def test_bounds_of_the_former_log_make_no_position_unknown(
    autojump_clock: MockClock,
) -> None:
    """The client is ahead of this instance; the topic is recreated before Kafka answers."""
    async with finding({A: 9, B: -1}, live=5) as found:
        found.log_reader.found = {A: Bounds(0, 8), B: Bounds(0, 0)}
        found.harness.nursery.start_soon(found.finder.find, StartPosition(found.cursor))
        await trio.sleep(2)
        await found.recreate()
        found.log_reader.may_answer.set()
        await trio.sleep(2)
        assert not found.finder.lost_spans.reasons
        found.finder.catch_up(announced=False)
        assert found.finder.lost_spans.reasons == {LossReason.RECREATED}
        assert found.cursor.positions() == {A: -1, B: -1}


async def test_partition_that_returns_begins_where_the_group_is(
    autojump_clock: MockClock,
) -> None:
    """Another member had it meanwhile."""
    async with finding({A: 5, B: -1}, live=5) as found:
        await found.finder.find(StartPosition(found.cursor))
        await found.assign({A: 5}, topic_ids=FIRST, partial=True)
        await found.finder.wait_until_reached()
        assert found.cursor.positions() == {A: 5}
        await found.assign({A: 5, B: 7}, topic_ids=FIRST, partial=True)
        assert found.finder.catch_up(announced=True) == {}
        assert found.cursor.positions() == {A: 5, B: 7}


@pytest.mark.parametrize(
    ("is_partial", "live", "begin", "lost"),
    [(False, 3, -1, {}), (True, 3, 3, {B: (0, 3)}), (True, -1, -1, {})],
)
async def test_partition_without_a_position_begins_as_for_a_connected_client(
    autojump_clock: MockClock,
    *,
    is_partial: bool,
    live: int,
    begin: int,
    lost: dict[TopicPartition, tuple[int, int]],
) -> None:
    """A group member does not know what others sent: it begins live, and reports the rest."""
    async with finding({A: 5}, live=5) as found:
        await found.assign({A: 5, B: live}, topic_ids=FIRST, partial=is_partial)
        found.log_reader.found = {A: Bounds(0, 6), B: Bounds(0, live + 1)}
        found.log_reader.may_answer.set()
        resume_topics = ResumeTopics(frozenset({TRADES}))
        await found.finder.find(StartPosition(found.cursor, resume_topics=resume_topics))
        assert found.cursor.positions() == {A: 5, B: begin}
        assert found.finder.lost_spans.spans == lost


async def test_client_ahead_is_waited_for_again_after_a_change_elsewhere(
    autojump_clock: MockClock,
) -> None:
    """A new partition of another topic ends the wait, but not its reason."""
    async with finding({A: 9, B: -1}, live=5) as found:
        found.harness.nursery.start_soon(found.finder.find, StartPosition(found.cursor))
        await trio.sleep(0.5)
        other = TopicPartition("odin.social", 7)
        await found.assign({A: 5, B: -1, other: -1}, topic_ids=FIRST)
        await trio.sleep(2)
        found.finder.catch_up(announced=False)
        with trio.move_on_after(0.5) as scope:
            await found.finder.wait_until_reached()
        assert scope.cancelled_caught


@pytest.mark.parametrize("is_partial", [False, True])
async def test_time_of_a_foreign_partition_is_not_reported(
    autojump_clock: MockClock, *, is_partial: bool
) -> None:
    """Another member serves it; an instance of all partitions reports it."""
    async with finding({}, live=5) as found:
        await found.assign({A: 5}, topic_ids=FIRST, partial=is_partial)
        found.log_reader.at = TimePositions({A: 5}, {B: "no leader"})
        found.log_reader.may_answer.set()
        await found.finder.find(StartPosition(found.cursor, since=0))
        assert found.finder.lost_spans.spans == ({} if is_partial else {B: (0, -1)})
        assert found.cursor.positions() == {A: 5}


async def test_new_partition_of_another_topic_is_not_begun(autojump_clock: MockClock) -> None:
    """Its records are not those of the replay."""
    async with finding({A: 5, B: -1}, live=5) as found:
        await found.finder.find(StartPosition(found.cursor))
        other = TopicPartition("odin.social", 7)
        await found.assign({A: 5, B: -1, other: -1}, topic_ids=FIRST)
        found.finder.catch_up(announced=True)
        assert found.cursor.positions() == {A: 5, B: -1}


async def test_partition_read_without_an_assignment_stays_in_the_cursor(
    autojump_clock: MockClock,
) -> None:
    """The hub delivers such records too: what it has a position of is not unknown."""
    late = TopicPartition(TRADES, 7)
    async with finding({A: 5, B: -1, late: 2}, live=5) as found:
        await found.harness.feeder.publish(record(partition=7, offset=4))
        await found.finder.find(StartPosition(found.cursor))
        assert found.cursor.positions() == {A: 5, B: -1, late: 2}
        assert not found.finder.lost_spans.spans
