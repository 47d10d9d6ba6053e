"""What the source hands on becomes news or memory, and positions say how far that is."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

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


class Taker:
    """An intake, and what it says."""

    def __init__(self) -> None:
        self.ingest = Ingest(
            Stream(CATALOGUE),
            History(CATALOGUE, 1 << 30, math.inf),
            SnapshotCache(CATALOGUE, 1 << 30),
            max_record_bytes=1 << 20,
        )
        self.gaps: list[OffsetGaps] = []
        self.ingest.on_offset_gaps = self.gaps.append

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
    return [f"{one.record.partition}-{one.record.offset}" for one in messages]


def batch(*offsets: int, key: TopicPartition = FIRST, token: bytes = b"BTC") -> Batch:
    """Records of one partition."""
    return Batch(
        [
            record(token, topic=key.topic, partition=key.partition, offset=offset)
            for offset in offsets
        ]
    )


async def test_history_is_remembered_and_not_delivered(autojump_clock: MockClock) -> None:
    """It may come among newer records of other partitions; those are delivered."""
    taker = Taker()
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


async def test_the_end_of_history_is_told(autojump_clock: MockClock) -> None:
    """Until then nobody can be told what is remembered and what is not."""
    taker = Taker()
    for item in (Assignment({FIRST: 4}, history={FIRST: 1}), batch(2, 3, 4, 5)):
        taker.take(item)
        assert not taker.ingest.stream.history_loaded.is_set()
    taker.take(HistoryEnd())
    assert taker.ingest.stream.history_loaded.is_set()


async def test_what_comes_among_history_is_no_even_row(autojump_clock: MockClock) -> None:
    """What subscribers were sent is only found again where all that came was news."""
    taker = Taker()
    taker.take(Assignment({FIRST: 4, SECOND: -1}, history={FIRST: 1, SECOND: -1}))
    taker.take(batch(0, key=SECOND), batch(2, 3), batch(1, key=SECOND))
    history, even = taker.ingest.history, taker.ingest.stream.contiguous_since
    assert places(finish(history.since(["*.*"], even, MOST))) == ["1-1"]


async def test_nothing_is_delivered_twice(autojump_clock: MockClock) -> None:
    """Records at or before the position are no news, from the first assignment on."""
    taker = Taker()
    taker.take(Assignment({FIRST: 4}))
    assert taker.take(batch(3, 4, 5)) == ["0-5"]
    assert taker.take(batch(5, 6), batch(4, 5, 6, 7)) == ["0-6", "0-7"]
    assert taker.take(batch(9), batch(8, 10)) == ["0-9", "0-10"]


async def test_records_without_an_assignment_are_news(autojump_clock: MockClock) -> None:
    """Positions begin with them."""
    taker = Taker()
    assert taker.take(batch(7, 8)) == ["0-7", "0-8"]
    assert taker.ingest.stream.position(FIRST) == 8
    assert taker.ingest.stream.position(SECOND) is None


async def test_a_jump_forward_is_a_loss(autojump_clock: MockClock) -> None:
    """The log deleted what was to come next: it is told which, and what is kept begins anew."""
    taker = Taker()
    taker.take(Assignment({FIRST: -1, SECOND: 7, SOCIAL: 2}), batch(0, 1, 2))
    taker.take(Assignment({FIRST: 9, SECOND: 7, SOCIAL: 3}))
    assert taker.gaps == [OffsetGaps({EXPIRED: {FIRST: Span(3, 9), SOCIAL: Span(3, 3)}})]
    assert taker.kept(FIRST) == []
    assert taker.ingest.history.floor(FIRST) == 9
    assert taker.take(batch(9, 10)) == ["0-10"]


async def test_a_member_of_a_group_loses_nothing_by_a_jump(autojump_clock: MockClock) -> None:
    """Another one served the partition meanwhile; but of its past this one has nothing."""
    taker = Taker()
    taker.take(Assignment({FIRST: -1}, partial=True), batch(0, 1))
    taker.take(Assignment({FIRST: 9}, partial=True))
    assert taker.gaps == []
    assert taker.ingest.stream.is_partial
    assert taker.kept(FIRST) == []
    assert taker.ingest.history.floor(FIRST) == 9


async def test_an_assignment_without_a_jump_keeps_what_there_is(autojump_clock: MockClock) -> None:
    """New partitions and other ones' jumps are no reason to forget."""
    taker = Taker()
    taker.take(Assignment({FIRST: -1}), batch(0, 1))
    taker.take(Assignment({FIRST: 1, SECOND: 5}))
    assert taker.gaps == []
    assert taker.kept(FIRST) == ["0-0", "0-1"]
    assert taker.ingest.history.floor(FIRST) == -1
    assert taker.ingest.history.floor(SECOND) == 5


async def test_a_recreated_topic_is_another_one(autojump_clock: MockClock) -> None:
    """Its past and its channels' last messages are forgotten; other topics' are not."""
    taker = Taker()
    taker.take(Assignment({FIRST: 4, SOCIAL: 4}), batch(5, 6), batch(5, key=SOCIAL))
    taker.take(Assignment({FIRST: -1, SOCIAL: 5}))
    assert taker.gaps == [OffsetGaps({RECREATED: {FIRST: Span(0, -1)}}, {FIRST: -1})]
    assert taker.kept(FIRST, SOCIAL) == ["0-5"]
    assert [one.category for one in finish(taker.ingest.snapshots.matching(["*.*"], MOST))] == [
        "social"
    ]
    assert taker.ingest.history.floor(FIRST) == -1
    assert taker.take(batch(0, 1)) == ["0-0", "0-1"]


async def test_a_topic_that_has_something_again_tells_what(autojump_clock: MockClock) -> None:
    """It was recreated and published to before we saw it; another partition jumps forward."""
    taker = Taker()
    taker.take(Assignment({FIRST: 4, SECOND: 3, SOCIAL: 7}))
    taker.take(Assignment({FIRST: 2, SECOND: 5, SOCIAL: 7}))
    spans = {EXPIRED: {SECOND: Span(4, 5)}, RECREATED: {FIRST: Span(0, 2)}}
    assert taker.gaps == [OffsetGaps(spans, {FIRST: 2})]


async def test_a_topic_with_another_id_is_another_one(autojump_clock: MockClock) -> None:
    """Whatever its offsets are, and also if it was missing in between."""
    taker = Taker()
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


async def test_a_jump_that_the_source_reports_is_one_where_offsets_are_equal(
    autojump_clock: MockClock,
) -> None:
    """History begins anew, also for a member of a group."""
    taker = Taker()
    taker.take(Assignment({FIRST: -1}, partial=True), batch(0, 1))
    taker.take(Assignment({FIRST: 1}, partial=True, gaps={FIRST: RECREATED}))
    assert taker.gaps == [OffsetGaps({RECREATED: {FIRST: Span(0, 1)}}, {FIRST: 1})]
    assert taker.kept(FIRST) == []


async def test_a_truncated_partition_tells_what_is_gone(autojump_clock: MockClock) -> None:
    """The offsets that were delivered and come again; a position among them is uncertain."""
    taker = Taker()
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


async def test_a_partition_that_was_taken_away_is_forgotten(autojump_clock: MockClock) -> None:
    """It is told of no more; when it comes back it is no jump."""
    taker = Taker()
    taker.take(Assignment({FIRST: -1, SECOND: -1}), batch(0, 1), batch(0, key=SECOND))
    taker.take(Assignment({SECOND: 0}))
    assert taker.ingest.stream.positions == {"odin.trades": {1: 0}}
    assert taker.ingest.history.floor(FIRST) is None
    assert taker.kept(FIRST, SECOND) == ["1-0"]
    taker.take(Assignment({FIRST: 9, SECOND: 0}))
    assert taker.gaps == []
    assert taker.ingest.history.floor(FIRST) == 9


async def test_an_assignment_is_a_new_beginning_for_what_can_be_sent_again(
    autojump_clock: MockClock,
) -> None:
    """Some of what was sent may be forgotten with it."""
    taker = Taker()
    taker.take(Assignment({FIRST: -1}), batch(0, 1))
    taker.take(Assignment({FIRST: 1}))
    taker.take(batch(2))
    history, even = taker.ingest.history, taker.ingest.stream.contiguous_since
    assert places(finish(history.since(["*.*"], even, MOST))) == ["0-2"]


@pytest.mark.parametrize("room", [1, len(TRADE), len(TRADE) + 1, 3 * len(TRADE), 1 << 20])
async def test_what_there_is_no_room_for_stays(autojump_clock: MockClock, room: int) -> None:
    """A message that is begun is taken; positions are those of what was taken."""
    taker = Taker()
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
    assert [one.offset for one in rest] == list(range(count, 5))
    assert left[-1] == HistoryEnd()


async def test_what_nobody_wants_takes_little_room(autojump_clock: MockClock) -> None:
    """A cycle is bounded by what it writes; what is only remembered must not hold it up."""
    taker = Taker()
    left: deque[Item] = deque([batch(*range(5))])
    size = taker.ingest.take(left, lambda _: UNWANTED_BYTES, 3 * len(TRADE))
    assert 0 < size < 5 * len(TRADE)
    assert taker.ingest.stream.position(FIRST) == 3
    assert taker.kept(FIRST) == ["0-0", "0-1", "0-2", "0-3"]


async def test_a_tombstone_ends_a_channel(autojump_clock: MockClock) -> None:
    """Its key was deleted: it has no state; positions move past it, nothing is delivered."""
    taker = Taker()
    assert taker.take(batch(0), batch(1, token=b"ETH")) == ["0-0", "0-1"]
    assert taker.take(Batch([record(b"BTC", None, offset=2)])) == []
    assert taker.ingest.stream.position(FIRST) == 2
    assert [one.token for one in finish(taker.ingest.snapshots.matching(["*.*"], MOST))] == ["ETH"]
    assert taker.kept(FIRST) == ["0-0", "0-1"]


async def test_who_waits_for_a_move_is_woken_by_it(autojump_clock: MockClock) -> None:
    """By records and by assignments alike."""
    taker = Taker()
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
    """A transaction's marker, or what compaction left: behind the batch's last record, or alone."""
    taker = Taker()
    taker.take(Assignment({FIRST: 9, SECOND: 4}))
    assert taker.take(Batch(batch(10, 11).records, {FIRST: 12, SECOND: 6})) == ["0-10", "0-11"]
    assert taker.ingest.stream.position(FIRST) == 12
    assert taker.ingest.stream.position(SECOND) == 6
    taker.take(Batch([], {FIRST: 20}))
    assert taker.ingest.stream.position(FIRST) == 20
    assert taker.take(batch(21)) == ["0-21"]


async def test_offsets_without_records_wake_those_who_wait_for_positions(
    autojump_clock: MockClock,
) -> None:
    """A resume that waits for the end of a transaction goes on."""
    taker = Taker()
    taker.take(Assignment({FIRST: 9}))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(taker.ingest.stream.wait_moved)
        await trio.testing.wait_all_tasks_blocked()
        taker.take(Batch([], {FIRST: 10}))


async def test_passed_offsets_never_move_positions_back_or_begin_a_partition(
    autojump_clock: MockClock,
) -> None:
    """During a history they are behind the position; a partition that left is not ours."""
    taker = Taker()
    taker.take(Assignment({FIRST: 9}, history={FIRST: 3}))
    taker.take(Batch(batch(4, 5).records, {FIRST: 6}))
    assert taker.ingest.stream.position(FIRST) == 9
    taker.take(Batch([], {SECOND: 6, SOCIAL: 1}))
    assert taker.ingest.stream.position(SECOND) is None
    assert taker.ingest.stream.position(SOCIAL) is None


async def test_offsets_are_not_passed_before_the_records(autojump_clock: MockClock) -> None:
    """Where there is room for one record only, the rest of the batch comes first."""
    taker = Taker()
    taker.take(Assignment({FIRST: 9}))
    left: deque[Item] = deque([Batch(batch(10, 11).records, {FIRST: 15})])
    taker.ingest.take(left, keep_in([]), 1)
    assert taker.ingest.stream.position(FIRST) == 10
    taker.ingest.take(left, keep_in([]), 1)
    assert taker.ingest.stream.position(FIRST) == 15
    assert not left


def test_partitions_that_a_group_takes_away_are_told_by_their_topics() -> None:
    """A rebalance that takes a partition away names its topic; one that adds some names none."""
    taker = Taker()
    revoked_topics = taker.ingest.stream.revoked_topics
    taker.take(Assignment({FIRST: -1, SOCIAL: -1}, partial=True))
    taker.take(Assignment({FIRST: -1, SECOND: -1, SOCIAL: -1}, partial=True))
    assert revoked_topics.value == frozenset()

    taker.take(Assignment({SECOND: -1, SOCIAL: -1}, partial=True))

    assert revoked_topics.value == {FIRST.topic}


def test_partitions_of_a_recreated_topic_send_nobody_elsewhere() -> None:
    """An instance that reads everything has no other that could serve them."""
    taker = Taker()
    taker.take(Assignment({FIRST: -1, SECOND: -1}))
    taker.take(Assignment({FIRST: -1}))
    assert taker.ingest.stream.revoked_topics.value == frozenset()
