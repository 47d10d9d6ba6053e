"""Concurrent replays share one request for the log's bounds of the same topics."""

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


class RecordingLogReader(MemoryLogReader):
    """A log reader that records its requests and takes 1 s to answer."""

    def __init__(self) -> None:
        log = MemoryLog(["odin.trades", "odin.social"], 4)
        log.append("odin.trades", b"BTC", b"{}", partition=1)
        super().__init__(log, seconds=1)
        self.requests: list[set[TopicPartition]] = []
        self.failed: dict[TopicPartition, str] = {}

    async def bounds(
        self, partitions: Collection[TopicPartition], topic_ids: Mapping[str, str] = NO_IDS
    ) -> dict[TopicPartition, Bounds]:
        """See MemoryLogReader."""
        self.requests.append(set(partitions))
        found = await super().bounds(partitions, topic_ids)
        if failed := {key: self.failed[key] for key in partitions if key in self.failed}:
            there = {key: has for key, has in found.items() if key not in failed}
            raise PartitionsUnavailable(failed, there)
        return found


class Replays:
    """A shared log reader that runs, the one behind it, and the results of its callers."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.log_reader = RecordingLogReader()
        self.shared = SharedLogReader(self.log_reader)
        self.responses: list[tuple[list[int], dict[TopicPartition, Bounds] | str]] = []
        nursery.start_soon(self.shared.run)

    async def request(self, *keys: TopicPartition) -> None:
        """Request the bounds of some partitions, and record the answer or why there is none."""
        numbers = [key.partition for key in keys]
        try:
            self.responses.append((numbers, await self.shared.bounds(keys)))
        except LogUnavailable as error:
            self.responses.append((numbers, str(error)))


@pytest.fixture
async def replays(nursery: trio.Nursery) -> Replays:
    """Run a shared log reader for the test."""
    return Replays(nursery)


async def test_requests_during_a_request_share_the_next_one(
    autojump_clock: MockClock,  # noqa: ARG001 -- virtual time
    replays: Replays,
) -> None:
    """Each caller gets its partitions, and no answer that is older than its request."""
    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(replays.request, TRADES[0])
        await trio.sleep(0.5)
        nursery.start_soon(replays.request, TRADES[1])
        nursery.start_soon(replays.request, TRADES[1], TRADES[2])
    assert trio.current_time() - begun == pytest.approx(2)
    assert sorted(replays.responses, key=str) == [
        ([0], {TRADES[0]: Bounds(0, 0)}),
        ([1, 2], {TRADES[1]: Bounds(0, 1), TRADES[2]: Bounds(0, 0)}),
        ([1], {TRADES[1]: Bounds(0, 1)}),
    ]
    assert replays.log_reader.requests == [{TRADES[0]}, {TRADES[1], TRADES[2]}]


async def test_partition_without_a_leader_fails_only_the_replays_that_need_it(
    autojump_clock: MockClock,  # noqa: ARG001 -- virtual time
    replays: Replays,
) -> None:
    """Replays of the topic's other partitions share the request and get their answer."""
    replays.log_reader.failed[TRADES[2]] = "no leader"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(replays.request, SOCIAL)
        nursery.start_soon(replays.request, TRADES[0])
        await trio.sleep(0.5)
        nursery.start_soon(replays.request, TRADES[1])
        nursery.start_soon(replays.request, TRADES[1], TRADES[2])
    assert replays.log_reader.requests[-1] == {TRADES[1], TRADES[2]}
    assert ([1], {TRADES[1]: Bounds(0, 1)}) in replays.responses
    assert ([1, 2], "odin.trades 2: no leader") in replays.responses


async def test_failing_topic_fails_only_its_own_requests(
    autojump_clock: MockClock,  # noqa: ARG001 -- virtual time
    replays: Replays,
) -> None:
    """Each set of topics has its own request; all its callers get the error."""
    replays.log_reader.fail("no leader", topics=["odin.social"])
    async with trio.open_nursery() as nursery:
        for key in (SOCIAL, SOCIAL, TRADES[1]):
            nursery.start_soon(replays.request, key)
    assert sorted(replays.responses, key=str) == [
        ([0], "no leader"),
        ([0], "no leader"),
        ([1], {TRADES[1]: Bounds(0, 1)}),
    ]


async def test_cancelled_caller_does_not_cancel_shared_request(
    autojump_clock: MockClock,  # noqa: ARG001 -- virtual time
    replays: Replays,
) -> None:
    """Other callers of the request are answered."""
    with trio.move_on_after(0.5):
        await replays.request(TRADES[0])
    await replays.request(TRADES[1])
    assert replays.responses == [([1], {TRADES[1]: Bounds(0, 1)})]
