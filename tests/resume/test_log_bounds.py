"""The log's bounds are asked once for all who wait for those of the same topics."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pytest
import trio
from trio.testing import MockClock

from odin_ws.log_reader import NO_IDS, Bounds, LogUnavailable, PartitionsUnavailable
from odin_ws.records import TopicPartition
from odin_ws.resume.log_bounds import SharedLogReader
from odin_ws.testing.memory_log import MemoryLog
from odin_ws.testing.memory_log_reader import MemoryLogReader

TRADES = [TopicPartition("odin.trades", number) for number in range(4)]
SOCIAL = TopicPartition("odin.social", 0)


class Counting(MemoryLogReader):
    """An archive that remembers what it was asked for, and takes a second to answer."""

    def __init__(self) -> None:
        log = MemoryLog(["odin.trades", "odin.social"], 4)
        log.append("odin.trades", b"BTC", b"{}", partition=1)
        super().__init__(log, seconds=1)
        self.asked: list[set[TopicPartition]] = []
        self.failed: dict[TopicPartition, str] = {}

    async def bounds(
        self, partitions: Collection[TopicPartition], topic_ids: Mapping[str, str] = NO_IDS
    ) -> dict[TopicPartition, Bounds]:
        """See MemoryLogReader."""
        self.asked.append(set(partitions))
        found = await super().bounds(partitions, topic_ids)
        if failed := {key: self.failed[key] for key in partitions if key in self.failed}:
            there = {key: has for key, has in found.items() if key not in failed}
            raise PartitionsUnavailable(failed, there)
        return found


class Asking:
    """A shared archive that runs, and the one behind it."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.behind = Counting()
        self.shared = SharedLogReader(self.behind)
        self.answers: list[tuple[list[int], dict[TopicPartition, Bounds] | str]] = []
        nursery.start_soon(self.shared.run)

    async def ask(self, *keys: TopicPartition) -> None:
        """Ask for the bounds of some partitions, and note the answer or why there is none."""
        numbers = [key.partition for key in keys]
        try:
            self.answers.append((numbers, await self.shared.bounds(keys)))
        except LogUnavailable as error:
            self.answers.append((numbers, str(error)))


@pytest.fixture
async def asking(nursery: trio.Nursery) -> Asking:
    """One for each test."""
    return Asking(nursery)


async def test_those_who_ask_meanwhile_share_the_next_question(
    autojump_clock: MockClock,  # noqa: ARG001 -- virtual time
    asking: Asking,
) -> None:
    """Each gets what it asked for, and nothing that was known before it asked."""
    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asking.ask, TRADES[0])
        await trio.sleep(0.5)
        nursery.start_soon(asking.ask, TRADES[1])
        nursery.start_soon(asking.ask, TRADES[1], TRADES[2])
    assert trio.current_time() - begun == pytest.approx(2)
    assert sorted(asking.answers, key=str) == [
        ([0], {TRADES[0]: Bounds(0, 0)}),
        ([1, 2], {TRADES[1]: Bounds(0, 1), TRADES[2]: Bounds(0, 0)}),
        ([1], {TRADES[1]: Bounds(0, 1)}),
    ]
    assert asking.behind.asked == [{TRADES[0]}, {TRADES[1], TRADES[2]}]


async def test_partition_without_a_leader_fails_only_the_replays_that_need_it(
    autojump_clock: MockClock,  # noqa: ARG001 -- virtual time
    asking: Asking,
) -> None:
    """Replays of other partitions of the topic share its question, and get their answer."""
    asking.behind.failed[TRADES[2]] = "no leader"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asking.ask, SOCIAL)
        nursery.start_soon(asking.ask, TRADES[0])
        await trio.sleep(0.5)
        nursery.start_soon(asking.ask, TRADES[1])
        nursery.start_soon(asking.ask, TRADES[1], TRADES[2])
    assert asking.behind.asked[-1] == {TRADES[1], TRADES[2]}
    assert ([1], {TRADES[1]: Bounds(0, 1)}) in asking.answers
    assert ([1, 2], "odin.trades 2: no leader") in asking.answers


async def test_topic_that_fails_is_not_the_others_trouble(
    autojump_clock: MockClock,  # noqa: ARG001 -- virtual time
    asking: Asking,
) -> None:
    """Each set of topics has its own questions; all who asked about a failing one are told."""
    asking.behind.fail("no leader", topics=["odin.social"])
    async with trio.open_nursery() as nursery:
        for key in (SOCIAL, SOCIAL, TRADES[1]):
            nursery.start_soon(asking.ask, key)
    assert sorted(asking.answers, key=str) == [
        ([0], "no leader"),
        ([0], "no leader"),
        ([1], {TRADES[1]: Bounds(0, 1)}),
    ]


async def test_client_that_goes_does_not_take_the_question_with_it(
    autojump_clock: MockClock,  # noqa: ARG001 -- virtual time
    asking: Asking,
) -> None:
    """Others that share it are answered."""
    with trio.move_on_after(0.5):
        await asking.ask(TRADES[0])
    await asking.ask(TRADES[1])
    assert asking.answers == [([1], {TRADES[1]: Bounds(0, 1)})]
