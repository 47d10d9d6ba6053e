"""Records of the source become live messages or history; the positions follow them."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import math
from collections import deque

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from odin_ws.hub.fan_out import UNWANTED_BYTES
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.records import Assignment, Batch, HistoryEnd, Item, Record
from odin_ws.steps import finish
from tests.factories import TRADE, record
from tests.hub.ingest_harness import (
    FIRST,
    MOST,
    SECOND,
    SOCIAL,
    IngestHarness,
    batch,
    keep_in,
    places,
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
