"""Offsets of a consumer group: where a member starts, what it commits."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import aiokafka
import pytest
import trio
import trio.testing
from aiokafka.errors import CommitFailedError
from structlog.testing import capture_logs
from trio.testing import MockClock

from odin_ws.kafka.protocol import Coordinator, FindCoordinatorRequest, OffsetFetchRequest
from odin_ws.records import TopicPartition
from tests.kafka.group_member import A, B, membership, three


async def test_partition_starts_at_committed_offset_or_end(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a committed offset it starts at the end, which is committed."""
    async with membership(three(), monkeypatch, stored={A: 3}) as group:
        await group.assign(A, B)
        assert await group.turn() == {A: 3, B: 7}
        assert group.cluster.group.offsets == {A: 3, B: 7}
        assert group.monitor.own_problem is None


async def test_delivered_records_are_not_read_again(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a commit failed, a returning partition continues after our last record."""
    async with membership(three(), monkeypatch, stored={A: 3, B: 3}) as group:
        await group.assign(A, B)
        assert await group.turn() == {A: 3, B: 3}
        group.positions[A] = 5
        group.consumer.failure = CommitFailedError("a rebalance")
        await group.revoke()
        group.consumer.failure = None
        await group.assign(A, B)
        assert await group.turn() == {A: 5, B: 3}


async def test_uncommitted_offset_survives_a_rebalance_before_its_look_up(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second rebalance comes while the coordinator does not tell the committed offsets."""
    async with membership(three(), monkeypatch, stored={A: 3, B: 3}) as group:
        await group.assign(A, B)
        assert await group.turn() == {A: 3, B: 3}
        group.positions[A] = group.positions[B] = 5
        group.consumer.failure = CommitFailedError("a rebalance")
        await group.revoke()
        group.cluster.group.error = 14
        await group.assign(A, B)
        await group.revoke()
        group.consumer.failure = None
        await group.assign(A)
        await group.revoke()
        group.cluster.group.error = 0
        await group.assign(A, B)
        # Another member may have continued elsewhere in B.
        assert await group.turn() == {A: 5, B: 3}


async def test_committed_offset_overrides_our_older_one(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another member continued, or went back after a truncation."""
    positions = {A: 7}
    async with membership(three(), monkeypatch, stored={A: 3}, positions=positions) as group:
        await group.assign(A)
        assert await group.turn() == {A: 3}


async def test_only_changes_are_committed(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once per second; without changes no request is sent."""
    async with membership(three(), monkeypatch) as group:
        await group.assign(A, B)
        group.consumer.commits.clear()
        await trio.sleep(10)
        assert group.consumer.commits == []
        group.positions[B] = 9
        await trio.sleep(10)
        assert group.consumer.commits == [{B: 9}]


async def test_failed_commit_is_logged_and_repeated(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next commit includes its offsets."""
    async with membership(three(), monkeypatch) as group:
        await group.assign(A)
        group.positions[A] = 9
        group.consumer.failure = CommitFailedError("a rebalance")
        with capture_logs() as lines:
            await trio.sleep(5)
        assert [line["event"] for line in lines] == ["consumer group offset commit failed"]
        group.consumer.failure = None
        await trio.sleep(2)
        assert group.cluster.group.offsets == {A: 9}


@pytest.mark.parametrize("code", [14, 15, 16, 30, -1])
async def test_failed_offset_fetch_is_retried(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """It is reported and retried with back-off: starting at the end would lose records."""
    async with membership(three(), monkeypatch, stored={A: 3, B: 4}) as group:
        group.cluster.group.error = code
        await group.assign(A, B)
        await trio.sleep(60)
        assert group.consumer.commits == []
        assert group.monitor.without_start_offset.keys() == {A, B}
        assert group.monitor.without_start_offset[A].reason.startswith("committed offsets: ")
        assert 10 <= len(group.cluster.requests(OffsetFetchRequest)) <= 60
        group.cluster.group.error = 0
        assert await group.turn() == {A: 3, B: 4}
        assert group.monitor.without_start_offset == {}


async def test_error_of_one_committed_offset_does_not_delay_others(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That partition continues later at its offset."""
    async with membership(three(), monkeypatch, stored={A: 3, B: 4}) as group:
        group.cluster.group.errors[A] = 3
        await group.assign(A, B)
        assert await group.turn() == {B: 4}
        assert group.monitor.without_start_offset.keys() == {A}
        group.cluster.group.errors.clear()
        await trio.sleep(6)
        assert await group.turn() == {A: 3, B: 4}


async def test_coordinator_is_found_by_any_broker(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first broker of the metadata may be down."""
    cluster = three()
    cluster.group.coordinator = Coordinator(0, 2)
    async with membership(cluster, monkeypatch, stored={B: 4}) as group:
        cluster.down.add(0)
        await group.assign(B)
        assert await group.turn() == {B: 4}
        assert [request.node for request in cluster.requests(FindCoordinatorRequest)] == [0, 1]


async def test_moved_coordinator_is_found(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NOT_COORDINATOR does not mean that nothing is committed."""
    cluster = three()
    async with membership(cluster, monkeypatch, stored={A: 3}) as group:
        cluster.group.coordinator = Coordinator(15, -1)
        await group.assign(A)
        await trio.sleep(2)
        assert "group coordinator" in group.monitor.without_start_offset[A].reason
        cluster.group.coordinator = Coordinator(0, 1)
        assert await group.turn() == {A: 3}


async def test_delivered_records_are_committed_at_leave(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next owner continues after them."""
    cluster = three()
    async with membership(cluster, monkeypatch) as group:
        await group.assign(A)
        assert await group.turn() == {A: 7}
        group.positions[A] = 9
    assert cluster.group.offsets == {A: 9}


async def test_revoked_partitions_are_not_committed(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Aiokafka would reject the whole commit."""
    async with membership(three(), monkeypatch) as group:
        await group.assign(A, B)
        group.consumer.assigned.discard(aiokafka.TopicPartition(*B))
        group.positions |= {A: 9, B: 9}
        await trio.sleep(3)
        assert group.cluster.group.offsets == {A: 9, B: 7}


@pytest.mark.parametrize("again", [(), (B,)])
async def test_offsets_of_an_old_assignment_are_discarded(
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    again: tuple[TopicPartition, ...],
) -> None:
    """A rebalance began during the request."""
    async with membership(three(), monkeypatch, stored={A: 3, B: 4}) as group:
        group.cluster.hanging.add(0)
        await group.assign(A)
        await group.revoke()
        if again:
            await group.assign(*again)
        group.cluster.hanging.clear()
        group.cluster.change()
        await trio.sleep(1)
        with trio.move_on_after(1) as scope:
            assert await group.turn() == {B: 4}
        assert scope.cancelled_caught is not bool(again)
        assert A not in group.positions


async def test_partition_missing_in_coordinators_response_is_not_placed(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That does not mean that nothing is committed."""
    async with membership(three(), monkeypatch, stored={A: 3, B: 4}) as group:
        group.cluster.group.left_out.add(A)
        await group.assign(A, B)
        assert await group.turn() == {B: 4}
        group.cluster.group.left_out.clear()
        await trio.sleep(10)
        assert await group.turn() == {A: 3, B: 4}


async def test_committed_offset_0_is_valid(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group has read nothing of the partition yet."""
    async with membership(three(), monkeypatch, stored={A: 0}) as group:
        await group.assign(A)
        assert await group.turn() == {A: 0}
