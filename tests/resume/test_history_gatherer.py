"""Clients that continue from the same positions share what is gathered of the history."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from odin_ws.history import ResumeCursor
from odin_ws.hub import Hub
from odin_ws.records import Assignment, HistoryEnd, Record, TopicPartition
from odin_ws.resume import history_gatherer
from odin_ws.resume.history_gatherer import GatheredChunks, HistoryGatherer
from odin_ws.time_slice import TimeSlice
from tests.factories import record
from tests.hub.hub_driver import Feeder, dispatching, make_hub

KEYS = [TopicPartition("odin.trades", number) for number in range(2)]
BEGINNING = dict.fromkeys(KEYS, -1)


class Gathering:
    """A hub with ten records in each of two partitions, and its gatherer."""

    def __init__(self, hub: Hub, feeder: Feeder) -> None:
        self.hub = hub
        self.gatherer = HistoryGatherer(hub)
        self.moved_on = False
        self._feeder = feeder

    async def publish(self, offsets: Sequence[int]) -> None:
        """Publish records with these offsets in both partitions."""
        records: list[Record] = [
            record(b"BTC", partition=key.partition, offset=offset)
            for key in KEYS
            for offset in offsets
        ]
        await self._feeder.publish(*records)

    async def assign(self, assignment: Assignment) -> None:
        """Assign partitions to the hub."""
        await self._feeder.publish(assignment)

    async def gather(
        self, cursor: ResumeCursor, turn: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
    ) -> GatheredChunks | None:
        """Gather up to the present place in the hub's order."""
        time_slice = TimeSlice(turn)
        return await self.gatherer.gather(
            cursor, self.hub.stream.order, None, time_slice, lambda: self.moved_on
        )


@asynccontextmanager
async def gathering() -> AsyncIterator[Gathering]:
    """Run the hub for the length of the block."""
    hub = make_hub()
    async with dispatching(hub) as feeder:
        await feeder.publish(Assignment(BEGINNING), HistoryEnd())
        opened = Gathering(hub, feeder)
        await opened.publish(range(10))
        yield opened


def cursor(*patterns: str, after: int = -1) -> ResumeCursor:
    """A cursor after the same offset of both partitions."""
    return ResumeCursor.sharing(patterns or ["*.trade"], dict.fromkeys(KEYS, after))


def offsets(gathered: GatheredChunks | None) -> list[int]:
    """Return the offsets of all gathered messages, ascending."""
    assert gathered is not None
    return sorted(one.record.offset for chunk in gathered.chunks for one in chunk.messages)


async def test_clients_with_the_same_positions_and_patterns_share_chunks(
    mock_clock: MockClock,  # noqa: ARG001 -- the test runs under it
) -> None:
    """Encoded frames are shared by chunk, so they are encoded once too."""
    async with gathering() as at:
        first = await at.gather(cursor(after=6))
        second = await at.gather(cursor(after=6))
        assert first is second
        assert offsets(first) == [7, 7, 8, 8, 9, 9]


@pytest.mark.parametrize(
    "other", [cursor(after=7), cursor("BTC.trade", after=6), cursor("*.trade", "*.social", after=6)]
)
async def test_other_positions_or_patterns_are_gathered_separately(
    mock_clock: MockClock,  # noqa: ARG001 -- the test runs under it
    other: ResumeCursor,
) -> None:
    """A client gets what is after its own positions."""
    async with gathering() as at:
        first = await at.gather(cursor(after=6))
        second = await at.gather(other)
        assert first is not second
        expected = [8, 8, 9, 9] if other.positions()[KEYS[0]] == 7 else [7, 7, 8, 8, 9, 9]
        assert offsets(second) == expected


async def test_results_hold_until_the_next_record(
    mock_clock: MockClock,  # noqa: ARG001 -- the test runs under it
) -> None:
    """A client that comes later gets the later records too."""
    async with gathering() as at:
        assert offsets(await at.gather(cursor(after=8))) == [9, 9]
        await at.publish([10])
        assert offsets(await at.gather(cursor(after=8))) == [9, 9, 10, 10]


async def test_results_do_not_outlive_a_truncation(
    mock_clock: MockClock,  # noqa: ARG001 -- the test runs under it
) -> None:
    """The truncated records are gone, although no record has come since."""
    async with gathering() as at:
        assert offsets(await at.gather(cursor(after=6))) == [7, 7, 8, 8, 9, 9]
        await at.assign(Assignment({KEYS[0]: 7, KEYS[1]: 9}, history={KEYS[0]: 7}))
        # What the source has read of partition 0 is gone from the history.
        assert offsets(await at.gather(cursor(after=6))) == [7, 8, 9]


async def test_result_is_not_kept_if_the_client_unsubscribes_meanwhile(
    mock_clock: MockClock,  # noqa: ARG001 -- the test runs under it
) -> None:
    """It may lack the messages of the pattern that was dropped."""
    patterns = [f"T{number}.trade" for number in range(300)] + ["BTC.trade"]
    async with gathering() as at:
        dropping = cursor(*patterns)

        async def drop() -> None:
            dropping.drop(["BTC.trade"])
            await trio.lowlevel.checkpoint()

        await at.gather(dropping, drop)
        assert offsets(await at.gather(cursor(*patterns))) == sorted([*range(10)] * 2)


async def test_client_whose_history_has_moved_on_gets_nothing(
    mock_clock: MockClock,  # noqa: ARG001 -- the test runs under it
) -> None:
    """Neither a new result nor one of another client: it reads the log first."""
    async with gathering() as at:
        at.moved_on = True
        assert await at.gather(cursor()) is None
        at.moved_on = False
        known = await at.gather(cursor())
        at.moved_on = True
        assert await at.gather(cursor()) is None
        at.moved_on = False
        assert await at.gather(cursor()) is known


async def test_number_of_results_is_bounded(
    mock_clock: MockClock,  # noqa: ARG001 -- the test runs under it
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The oldest one goes; after the last replay all of them."""
    monkeypatch.setattr(history_gatherer, "_MAX_KNOWN", 2)
    async with gathering() as at:
        results = [await at.gather(cursor(after=after)) for after in (1, 2, 3)]
        assert await at.gather(cursor(after=3)) is results[2]
        assert await at.gather(cursor(after=2)) is results[1]
        assert await at.gather(cursor(after=1)) is not results[0]
        newest = await at.gather(cursor(after=1))
        at.gatherer.forget()
        assert await at.gather(cursor(after=1)) is not newest
