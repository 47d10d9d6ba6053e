"""The log reader: positions of a time while some partitions have none."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from odin_ws.log_reader import PartitionsUnavailable, TimePositions
from tests.kafka.log_readers import KEY, OTHER, TOPIC, running
from tests.kafka.memory_cluster import MemoryCluster


@pytest.fixture(autouse=True)
def _records(cluster: MemoryCluster) -> None:
    for key in KEY, OTHER:
        cluster.logs[key].append(10)


async def test_partition_without_leader_fails_alone_after_10_s(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """The next ones who ask do not wait for it again."""
    cluster.logs[OTHER].leader = None
    async with running() as reader:
        for seconds in 10, 0, 0:
            began = trio.current_time()
            found = await reader.positions_at([TOPIC], 3_000)
            assert found == TimePositions({KEY: 1}, {OTHER: "no leader"})
            assert trio.current_time() - began == pytest.approx(seconds, abs=0.3)
        cluster.logs[OTHER].leader = 1
        assert await reader.positions_at([TOPIC], 0) == TimePositions({KEY: -1, OTHER: -1})


async def test_partition_that_failed_long_ago_is_waited_for_again(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """It may be an election of seconds this time."""
    cluster.logs[OTHER].leader = None
    async with running() as reader:
        await reader.positions_at([TOPIC], 0)
        await trio.sleep(31)
        began = trio.current_time()
        assert (await reader.positions_at([TOPIC], 0)).failed
        assert trio.current_time() - began > 9


async def test_election_is_waited_for(autojump_clock: MockClock, cluster: MemoryCluster) -> None:
    """Nothing is lost."""
    cluster.logs[OTHER].leader = None
    async with running() as reader, trio.open_nursery() as nursery:

        async def elect() -> None:
            await trio.sleep(8)
            cluster.logs[OTHER].leader = 0

        nursery.start_soon(elect)
        assert await reader.positions_at([TOPIC], 0) == TimePositions({KEY: -1, OTHER: -1})


async def test_no_position_at_all_is_unavailable(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """Then Kafka does not answer, and a client can try again."""
    for key in KEY, OTHER:
        cluster.logs[key].leader = None
    async with running() as reader:
        with pytest.raises(PartitionsUnavailable, match="no leader"):
            await reader.positions_at([TOPIC], 0)
    assert trio.current_time() < 1


async def test_log_without_timestamps_begins_with_its_oldest_record(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """UNSUPPORTED_FOR_MESSAGE_FORMAT lasts: none of its records is known to be too old."""
    cluster.time_errors = {OTHER: 43}
    cluster.logs[OTHER].delete_before(4)
    async with running() as reader:
        assert await reader.positions_at([TOPIC], 3_000) == TimePositions({KEY: 1, OTHER: 3})
    assert trio.current_time() < 1


async def test_broker_without_look_up_by_time_fails_alone(
    autojump_clock: MockClock, cluster: MemoryCluster
) -> None:
    """It has ListOffsets 0 only, as before Kafka 0.10.1; and is not asked in a hot loop."""
    cluster.without_times = {1}
    async with running() as reader:
        found = await reader.positions_at([TOPIC], 0)
    assert found.found == {KEY: -1}
    assert found.failed == {OTHER: "broker 1: the broker supports versions 0 to 0"}
    assert cluster.lookups <= 60
