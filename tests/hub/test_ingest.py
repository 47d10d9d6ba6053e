"""Records of the source become live messages or history; the positions follow them."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from collections.abc import Set as AbstractSet

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from odin_ws.catalogue import default_catalogue
from odin_ws.history import History, ResumeCursor, SnapshotCache
from odin_ws.hub import Ingest, OffsetGaps, Stream
from odin_ws.hub.fan_out import UNWANTED_BYTES
from odin_ws.log_reader import Span
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.records import Assignment, Batch, GapReason, HistoryEnd, Item, Record, TopicPartition
from odin_ws.steps import finish
from tests.factories import TRADE, record

CATALOGUE = default_catalogue()
FIRST, SECOND = (TopicPartition("odin.trades", number) for number in (0, 1))
SOCIAL = TopicPartition("odin.social", 0)

EXPIRED, RECREATED, TRUNCATED = GapReason.EXPIRED, GapReason.RECREATED, GapReason.TRUNCATED

MOST = 1 << 62


class IngestHarness:
    """An intake, and what it says."""

    def __init__(self) -> None:
        self.gaps: list[OffsetGaps] = []
        self.moved: list[AbstractSet[str]] = []
        self.ingest = Ingest(
            Stream(CATALOGUE),
            History(CATALOGUE, 1 << 30, math.inf),
            SnapshotCache(CATALOGUE, 1 << 30),
            max_record_bytes=1 << 20,
            on_offset_gaps=self.gaps.append,
            on_moved=self.moved.append,
        )

    def take(self, *items: Item) -> list[str]:
        """Take items whole; returns the places of what is to be delivered."""
        messages: list[ChannelMessage] = []
        left = deque(items)
        while left:
            self.ingest.take(left, keep_in(messages), 1 << 30)
        return places(messages)

    def kept(self, *keys: TopicPartition) -> list[str]:
        """The places of what is remembered of these partitions, in order."""
        resume_cursor = ResumeCursor({"*.*": dict.fromkeys(keys, -1)})
        return places(finish(self.ingest.history.gather(resume_cursor, MOST, MOST)).messages)


def keep_in(messages: list[ChannelMessage]) -> Callable[[ChannelMessage], int]:
    """What a hub does whose subscribers want everything."""

    def deliver(message: ChannelMessage) -> int:
        messages.append(message)
        return len(message.value)

    return deliver


def places(messages: object) -> list[str]:
    """Partition and offset of each message."""
    assert hasattr(messages, "__iter__")
    return [f"{message.record.partition}-{message.record.offset}" for message in messages]


def batch(*offsets: int, key: TopicPartition = FIRST, token: bytes = b"BTC") -> Batch:
    """Records of one partition."""
    return Batch(
        [
            record(token, topic=key.topic, partition=key.partition, offset=offset)
            for offset in offsets
        ]
    )


async def test_history_is_kept_and_not_delivered(autojump_clock: MockClock) -> None:
    """Newer records of other partitions among it are delivered."""
    taker = IngestHarness()
    assignment = Assignment({FIRST: 4, SECOND: -1}, history={FIRST: 1, SECOND: -1})
    assert taker.take(assignment) == []
    assert taker.ingest.stream.positions == {"odin.trades": {0: 4, 1: -1}}
    assert taker.ingest.history.floor(FIRST) == 1
    assert taker.take(batch(2, 3)) == []
    assert taker.take(batch(0, 1, key=SECOND)) == ["1-0", "1-1"]
    assert taker.take(batch(4, 5, 6)) == ["0-5", "0-6"]
    assert taker.ingest.stream.positions == {"odin.trades": {0: 6, 1: 1}}
    assert taker.kept(FIRST, SECOND) == ["0-2", "0-3", "1-0", "1-1", "0-4", "0-5", "0-6"]
    (snapshots,) = finish(taker.ingest.snapshots.matching(["BTC.trade"], MOST))
    assert snapshots.record.offset == 6


async def test_end_of_history_is_reported(autojump_clock: MockClock) -> None:
    """Only then are the kept offsets known."""
    taker = IngestHarness()
    for item in (Assignment({FIRST: 4}, history={FIRST: 1}), batch(2, 3, 4, 5)):
        taker.take(item)
        assert not taker.ingest.stream.history_loaded.is_set()
    taker.take(HistoryEnd())
    assert taker.ingest.stream.history_loaded.is_set()


async def test_live_records_among_history_cannot_be_resent(autojump_clock: MockClock) -> None:
    """Sent messages are found by number only in a row of live records."""
    taker = IngestHarness()
    taker.take(Assignment({FIRST: 4, SECOND: -1}, history={FIRST: 1, SECOND: -1}))
    taker.take(batch(0, key=SECOND), batch(2, 3), batch(1, key=SECOND))
    history, even = taker.ingest.history, taker.ingest.stream.contiguous_since
    assert places(finish(history.since(["*.*"], even, MOST))) == ["1-1"]


async def test_record_at_or_before_the_position_is_not_delivered(autojump_clock: MockClock) -> None:
    """From the first assignment on."""
    taker = IngestHarness()
    taker.take(Assignment({FIRST: 4}))
    assert taker.take(batch(3, 4, 5)) == ["0-5"]
    assert taker.take(batch(5, 6), batch(4, 5, 6, 7)) == ["0-6", "0-7"]
    assert taker.take(batch(9), batch(8, 10)) == ["0-9", "0-10"]


async def test_records_without_an_assignment_are_delivered(autojump_clock: MockClock) -> None:
    """Positions begin with them."""
    taker = IngestHarness()
    assert taker.take(batch(7, 8)) == ["0-7", "0-8"]
    assert taker.ingest.stream.position(FIRST) == 8
    assert taker.ingest.stream.position(SECOND) is None


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


async def test_assignment_limits_what_can_be_resent(
    autojump_clock: MockClock,
) -> None:
    """It may have removed some of the sent messages."""
    taker = IngestHarness()
    taker.take(Assignment({FIRST: -1}), batch(0, 1))
    taker.take(Assignment({FIRST: 1}))
    taker.take(batch(2))
    history, even = taker.ingest.history, taker.ingest.stream.contiguous_since
    assert places(finish(history.since(["*.*"], even, MOST))) == ["0-2"]


@pytest.mark.parametrize("room", [1, len(TRADE), len(TRADE) + 1, 3 * len(TRADE), 1 << 20])
async def test_records_over_the_limit_stay_in_the_batch(
    autojump_clock: MockClock, room: int
) -> None:
    """A message that begins within the limit is taken whole; positions cover the taken ones."""
    taker = IngestHarness()
    left: deque[Item] = deque([batch(*range(5)), HistoryEnd()])
    messages: list[ChannelMessage] = []
    size = taker.ingest.take(left, keep_in(messages), room)
    count = min(5, math.ceil(room / len(TRADE)))
    assert (len(messages), size) == (count, count * len(TRADE))
    assert taker.ingest.stream.position(FIRST) == count - 1
    rest: list[Record] = []
    if count < 5:
        (again, _) = left
        assert isinstance(again, Batch)
        rest = list(again.records)
    assert [record.offset for record in rest] == list(range(count, 5))
    assert left[-1] == HistoryEnd()


async def test_unsubscribed_records_count_little(autojump_clock: MockClock) -> None:
    """A cycle is bounded by what it writes; records for history only must not delay it."""
    taker = IngestHarness()
    left: deque[Item] = deque([batch(*range(5))])
    size = taker.ingest.take(left, lambda _: UNWANTED_BYTES, 3 * len(TRADE))
    assert 0 < size < 5 * len(TRADE)
    assert taker.ingest.stream.position(FIRST) == 3
    assert taker.kept(FIRST) == ["0-0", "0-1", "0-2", "0-3"]


async def test_tombstone_removes_the_last_message_of_a_channel(autojump_clock: MockClock) -> None:
    """Positions move past it; nothing is delivered."""
    taker = IngestHarness()
    assert taker.take(batch(0), batch(1, token=b"ETH")) == ["0-0", "0-1"]
    assert taker.take(Batch([record(b"BTC", None, offset=2)])) == []
    assert taker.ingest.stream.position(FIRST) == 2
    assert [one.token for one in finish(taker.ingest.snapshots.matching(["*.*"], MOST))] == ["ETH"]
    assert taker.kept(FIRST) == ["0-0", "0-1"]


async def test_changed_positions_wake_waiting_tasks(autojump_clock: MockClock) -> None:
    """By records and by assignments."""
    taker = IngestHarness()
    moves: list[int | None] = []

    async def wait() -> None:
        for _ in range(2):
            await taker.ingest.stream.wait_moved()
            moves.append(taker.ingest.stream.position(FIRST))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        for item in (batch(3), Assignment({FIRST: 8})):
            await trio.testing.wait_all_tasks_blocked()
            taker.take(item)
    assert moves == [3, 8]


async def test_offsets_without_records_move_positions(autojump_clock: MockClock) -> None:
    """A transaction's marker or a compacted offset, after the batch's last record or alone."""
    taker = IngestHarness()
    taker.take(Assignment({FIRST: 9, SECOND: 4}))
    assert taker.take(Batch(batch(10, 11).records, {FIRST: 12, SECOND: 6})) == ["0-10", "0-11"]
    assert taker.ingest.stream.position(FIRST) == 12
    assert taker.ingest.stream.position(SECOND) == 6
    taker.take(Batch([], {FIRST: 20}))
    assert taker.ingest.stream.position(FIRST) == 20
    assert taker.take(batch(21)) == ["0-21"]


async def test_offsets_without_records_wake_waiting_tasks(
    autojump_clock: MockClock,
) -> None:
    """A resume that waits for the end of a transaction continues."""
    taker = IngestHarness()
    taker.take(Assignment({FIRST: 9}))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(taker.ingest.stream.wait_moved)
        await trio.testing.wait_all_tasks_blocked()
        taker.take(Batch([], {FIRST: 10}))


async def test_offsets_without_records_never_move_positions_back_or_add_a_partition(
    autojump_clock: MockClock,
) -> None:
    """During history they are behind the position; a revoked partition stays removed."""
    taker = IngestHarness()
    taker.take(Assignment({FIRST: 9}, history={FIRST: 3}))
    taker.take(Batch(batch(4, 5).records, {FIRST: 6}))
    assert taker.ingest.stream.position(FIRST) == 9
    taker.take(Batch([], {SECOND: 6, SOCIAL: 1}))
    assert taker.ingest.stream.position(SECOND) is None
    assert taker.ingest.stream.position(SOCIAL) is None


async def test_offsets_are_not_passed_before_their_records(autojump_clock: MockClock) -> None:
    """With room for one record only, the rest of the batch comes first."""
    taker = IngestHarness()
    taker.take(Assignment({FIRST: 9}))
    left: deque[Item] = deque([Batch(batch(10, 11).records, {FIRST: 15})])
    taker.ingest.take(left, keep_in([]), 1)
    assert taker.ingest.stream.position(FIRST) == 10
    taker.ingest.take(left, keep_in([]), 1)
    assert taker.ingest.stream.position(FIRST) == 15
    assert not left


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
