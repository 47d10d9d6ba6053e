"""Assignments tell the ingest where partitions continue: losses, recreated topics, rebalances."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from trio.testing import MockClock

from odin_ws.hub import OffsetGaps
from odin_ws.log_reader import Span
from odin_ws.records import Assignment
from odin_ws.steps import finish
from tests.hub.ingest_harness import (
    EXPIRED,
    FIRST,
    MOST,
    RECREATED,
    SECOND,
    SOCIAL,
    TRUNCATED,
    IngestHarness,
    batch,
)


async def test_jump_forward_is_reported_as_a_loss(autojump_clock: MockClock) -> None:
    """The log deleted the next records: the report has their offsets, and history begins anew."""
    taker = IngestHarness()
    taker.take(Assignment({FIRST: -1, SECOND: 7, SOCIAL: 2}), batch(0, 1, 2))
    taker.take(Assignment({FIRST: 9, SECOND: 7, SOCIAL: 3}))
    assert taker.gaps == [OffsetGaps({EXPIRED: {FIRST: Span(3, 9), SOCIAL: Span(3, 3)}})]
    assert taker.kept(FIRST) == []
    assert taker.ingest.history.floor(FIRST) == 9
    assert taker.take(batch(9, 10)) == ["0-10"]


async def test_jump_in_a_group_is_no_loss(autojump_clock: MockClock) -> None:
    """Another member served the partition; this one has no history of that time."""
    taker = IngestHarness()
    taker.take(Assignment({FIRST: -1}, partial=True), batch(0, 1))
    taker.take(Assignment({FIRST: 9}, partial=True))
    assert taker.gaps == []
    # Before the next record, for it does not follow the last one of the subscribers.
    assert taker.moved == [{FIRST.topic}]
    assert taker.ingest.stream.is_partial
    assert taker.kept(FIRST) == []
    assert taker.ingest.history.floor(FIRST) == 9


async def test_jump_back_in_a_group_closes_subscribers(autojump_clock: MockClock) -> None:
    """Records whose commits failed come again: only to clients that resume at their positions."""
    taker = IngestHarness()
    taker.take(Assignment({FIRST: -1, SOCIAL: -1}, partial=True), batch(0, 1))
    taker.take(Assignment({FIRST: 0, SOCIAL: -1}, partial=True))
    assert taker.moved == [{FIRST.topic}]
    assert taker.gaps == []
    assert taker.take(batch(1)) == ["0-1"]
    now = taker.ingest.stream.now()
    assert taker.ingest.stream.changes.sent_after(now, FIRST) == 1


async def test_partition_that_returns_while_subscribers_are_closed_closes_the_rest(
    autojump_clock: MockClock,
) -> None:
    """The closing of thousands takes longer than a rebalance; a second leave closes newcomers."""
    taker = IngestHarness()
    taker.take(Assignment({FIRST: -1, SECOND: -1, SOCIAL: -1}, partial=True), batch(0, 1))
    taker.take(Assignment({SECOND: -1}, partial=True))
    assert taker.moved == []
    taker.take(Assignment({FIRST: 9, SECOND: -1}, partial=True))
    taker.take(Assignment({SECOND: -1}, partial=True))
    assert taker.moved == [{FIRST.topic}] * 2
    taker.ingest.stream.revoked_topics.value = frozenset()
    taker.take(Assignment({FIRST: 9, SECOND: -1}, partial=True))
    assert len(taker.moved) == 2


async def test_assignment_without_a_jump_keeps_history(autojump_clock: MockClock) -> None:
    """New partitions and jumps of others do not clear it."""
    taker = IngestHarness()
    taker.take(Assignment({FIRST: -1}), batch(0, 1))
    taker.take(Assignment({FIRST: 1, SECOND: 5}))
    assert taker.gaps == []
    assert taker.kept(FIRST) == ["0-0", "0-1"]
    assert taker.ingest.history.floor(FIRST) == -1
    assert taker.ingest.history.floor(SECOND) == 5


async def test_recreated_topic_clears_its_history(autojump_clock: MockClock) -> None:
    """And its channels' last messages; other topics keep theirs."""
    taker = IngestHarness()
    taker.take(Assignment({FIRST: 4, SOCIAL: 4}), batch(5, 6), batch(5, key=SOCIAL))
    taker.take(Assignment({FIRST: -1, SOCIAL: 5}))
    assert taker.gaps == [OffsetGaps({RECREATED: {FIRST: Span(0, -1)}}, {FIRST: -1})]
    assert taker.kept(FIRST, SOCIAL) == ["0-5"]
    assert [one.category for one in finish(taker.ingest.snapshots.matching(["*.*"], MOST))] == [
        "social"
    ]
    assert taker.ingest.history.floor(FIRST) == -1
    assert taker.take(batch(0, 1)) == ["0-0", "0-1"]


async def test_recreated_topic_with_records_reports_the_loss(autojump_clock: MockClock) -> None:
    """Another partition's jump forward is reported too."""
    taker = IngestHarness()
    taker.take(Assignment({FIRST: 4, SECOND: 3, SOCIAL: 7}))
    taker.take(Assignment({FIRST: 2, SECOND: 5, SOCIAL: 7}))
    spans = {EXPIRED: {SECOND: Span(4, 5)}, RECREATED: {FIRST: Span(0, 2)}}
    assert taker.gaps == [OffsetGaps(spans, {FIRST: 2})]


async def test_new_topic_id_means_a_recreated_topic(autojump_clock: MockClock) -> None:
    """At any offsets, also if the topic was missing in between."""
    taker = IngestHarness()
    old, new = {"odin.trades": "a"}, {"odin.trades": "b"}
    taker.take(Assignment({FIRST: -1, SOCIAL: 4}, topic_ids=old), batch(0, 1, 2))
    for now in (Assignment({FIRST: 2, SOCIAL: 4}, topic_ids=new), Assignment({SOCIAL: 4})):
        taker.take(now)
    assert taker.gaps == [OffsetGaps({RECREATED: {FIRST: Span(0, 2)}}, {FIRST: 2}, new)]
    assert taker.kept(FIRST) == []
    taker.take(Assignment({FIRST: -1, SECOND: -1, SOCIAL: 4}, topic_ids={"odin.trades": "c"}))
    both = {FIRST: Span(0, -1), SECOND: Span(0, -1)}
    positions = {FIRST: -1, SECOND: -1}
    assert taker.gaps[1:] == [OffsetGaps({RECREATED: both}, positions, {"odin.trades": "c"})]
    assert taker.ingest.stream.changes.had_before("odin.trades", "a")
    assert taker.ingest.stream.changes.ids == {"odin.trades": "c"}


async def test_reported_jump_counts_at_equal_offsets(
    autojump_clock: MockClock,
) -> None:
    """History begins anew, also for a member of a group."""
    taker = IngestHarness()
    taker.take(Assignment({FIRST: -1}, partial=True), batch(0, 1))
    taker.take(Assignment({FIRST: 1}, partial=True, gaps={FIRST: RECREATED}))
    assert taker.gaps == [OffsetGaps({RECREATED: {FIRST: Span(0, 1)}}, {FIRST: 1})]
    assert taker.kept(FIRST) == []


async def test_truncated_partition_reports_the_lost_offsets(autojump_clock: MockClock) -> None:
    """Those delivered that will be reused; a position among them is uncertain."""
    taker = IngestHarness()
    taker.take(Assignment({FIRST: -1}), batch(0, 1, 2, 3), batch(4, token=b"ETH"))
    taker.take(Assignment({FIRST: 2}, gaps={FIRST: TRUNCATED}))
    assert taker.gaps == [OffsetGaps({TRUNCATED: {FIRST: Span(3, 4)}}, {FIRST: 2})]
    assert [one.token for one in finish(taker.ingest.snapshots.matching(["*.*"], MOST))] == []
    assert taker.take(batch(3, 4, 5)) == ["0-3", "0-4", "0-5"]
    changes = taker.ingest.stream.changes
    found = [changes.cut(FIRST, position) for position in range(2, 6)]
    assert found == [None, Span(3, 3), Span(3, 4), None]
    taker.take(Assignment({FIRST: -1}, gaps={FIRST: RECREATED}))
    assert changes.cut(FIRST, 3) is None


async def test_revoked_partition_is_removed(autojump_clock: MockClock) -> None:
    """It is not reported any more; its return is no jump."""
    taker = IngestHarness()
    taker.take(Assignment({FIRST: -1, SECOND: -1}), batch(0, 1), batch(0, key=SECOND))
    taker.take(Assignment({SECOND: 0}))
    assert taker.ingest.stream.positions == {"odin.trades": {1: 0}}
    assert taker.ingest.history.floor(FIRST) is None
    assert taker.kept(FIRST, SECOND) == ["1-0"]
    taker.take(Assignment({FIRST: 9, SECOND: 0}))
    assert taker.gaps == []
    assert taker.ingest.history.floor(FIRST) == 9


def test_revoked_partitions_are_reported_by_topic() -> None:
    """A rebalance that only adds partitions reports none."""
    taker = IngestHarness()
    revoked_topics = taker.ingest.stream.revoked_topics
    taker.take(Assignment({FIRST: -1, SOCIAL: -1}, partial=True))
    taker.take(Assignment({FIRST: -1, SECOND: -1, SOCIAL: -1}, partial=True))
    assert revoked_topics.value == frozenset()

    taker.take(Assignment({SECOND: -1, SOCIAL: -1}, partial=True))

    assert revoked_topics.value == {FIRST.topic}


def test_recreated_topic_without_a_group_revokes_nothing() -> None:
    """No other instance could serve its partitions."""
    taker = IngestHarness()
    taker.take(Assignment({FIRST: -1, SECOND: -1}))
    taker.take(Assignment({FIRST: -1}))
    assert taker.ingest.stream.revoked_topics.value == frozenset()
