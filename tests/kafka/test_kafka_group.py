"""Membership in a consumer group: assignments, start offsets and commits."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiokafka
import attrs
import pytest
import trio
import trio.testing
from aiokafka.errors import CommitFailedError, GroupAuthorizationFailedError, KafkaError
from structlog.testing import capture_logs
from trio.testing import MockClock

from odin_ws.kafka.fetcher import Fetcher
from odin_ws.kafka.group import GroupMember
from odin_ws.kafka.monitor import Monitor
from odin_ws.kafka.protocol import Coordinator, FindCoordinatorRequest, OffsetFetchRequest
from odin_ws.kafka.source_status import SourceStatus
from odin_ws.kafka.start_offsets import StartOffsetFinder
from odin_ws.kafka.topic_layout import Layout
from odin_ws.kafka.trio_asyncio_compat import aio_as_trio, open_loop
from odin_ws.records import GapReason, TopicPartition
from tests.kafka.fake_cluster import FakeCluster
from tests.kafka.sources import TRADES, TRADES_1, options, sourcing, whole

A, B, C = (TopicPartition("odin.trades", number) for number in range(3))


@attrs.define(eq=False, slots=False)
class FakeConsumer:
    """aiokafka's consumer. `failure` is raised by commits, `rejection` by its start."""

    cluster: FakeCluster
    assigned: set[Any] = attrs.field(factory=set)
    commits: list[dict[TopicPartition, int]] = attrs.field(factory=list)
    failure: KafkaError | None = None
    rejection: KafkaError | None = None
    starts: int = 0
    listener: Any = None
    paused: set[Any] = attrs.field(factory=set)
    sought: dict[Any, int] = attrs.field(factory=dict)
    leave_seconds: float = 0

    async def start(self) -> None:
        """Join, or not."""
        self.starts += 1
        if self.rejection is not None:
            raise self.rejection

    async def stop(self) -> None:
        """Leave."""
        await asyncio.sleep(self.leave_seconds)

    def subscribe(self, *, listener: Any, **_options: Any) -> None:
        """Join the group."""
        self.listener = listener

    async def getmany(self, **_options: Any) -> dict[Any, Any]:
        """Nothing is fetched; a rejected member learns it here."""
        if self.rejection is not None:
            raise self.rejection
        return {}

    def pause(self, *keys: Any) -> None:
        """All are paused."""
        self.paused |= set(keys)

    def seek(self, key: Any, offset: int) -> None:
        """No positions of its own."""
        self.sought[key] = offset

    def assignment(self) -> set[Any]:
        """What the group gave it."""
        return self.assigned

    async def commit(self, offsets: dict[Any, tuple[int, str]]) -> None:
        """Store positions."""
        if self.failure is not None:
            raise self.failure
        stored = {TopicPartition(*key): offset for key, (offset, _) in offsets.items()}
        marks = {TopicPartition(*key): metadata for key, (_, metadata) in offsets.items()}
        self.cluster.committed_metadata |= marks
        self.commits.append(stored)
        self.cluster.committed |= stored


@attrs.define(eq=False)
class Membership:
    """A member, and the group's part as the test plays it."""

    member: GroupMember
    consumer: FakeConsumer
    cluster: FakeCluster
    monitor: Monitor
    positions: dict[TopicPartition, int]

    async def assign(self, *partitions: TopicPartition) -> None:
        """The group gives the member these partitions; by then it knows where they go on."""
        theirs = [aiokafka.TopicPartition(*key) for key in partitions]
        self.consumer.assigned = set(theirs)
        await aio_as_trio(self.member.on_partitions_assigned)(theirs)
        await trio.testing.wait_all_tasks_blocked(0.001)

    async def revoke(self) -> None:
        """The group begins to share out its partitions anew."""
        await aio_as_trio(self.member.on_partitions_revoked)([])

    async def turn(self) -> dict[TopicPartition, int] | None:
        """What the next turn tells."""
        with trio.fail_after(30):
            async with self.member.turn() as assigned:
                return None if assigned is None else dict(assigned)
        raise AssertionError


@asynccontextmanager
async def membership(
    cluster: FakeCluster,
    monkeypatch: pytest.MonkeyPatch,
    *,
    stored: dict[TopicPartition, int] | None = None,
    positions: dict[TopicPartition, int] | None = None,
    rejection: KafkaError | None = None,
) -> AsyncIterator[Membership]:
    """A member that runs, in the loop where aiokafka calls it; logs end at 7."""
    for log in cluster.logs.values():
        log.append([b"{}"] * 7, published_ms=1)
    cluster.committed |= stored or {}
    consumer = FakeConsumer(cluster, rejection=rejection)
    monkeypatch.setattr(aiokafka, "AIOKafkaConsumer", lambda **_options: consumer)
    ours = options(group="odin")
    layout = Layout(["odin.trades"])
    fetcher = Fetcher(cluster, 0.5, 0.05)
    places = positions if positions is not None else {}
    client: Any = cluster
    monitor = Monitor(SourceStatus(), client, fetcher, layout, ours.probe, places)
    start_offset_finder = StartOffsetFinder(client, layout, monitor, ours)
    epoch = fetcher.record_epoch
    member = GroupMember("odin", ours, client, layout, monitor, start_offset_finder, places, epoch)
    async with open_loop(), trio.open_nursery() as nursery:
        nursery.start_soon(monitor.run)
        nursery.start_soon(member.run)
        await trio.sleep(1)
        yield Membership(member, consumer, cluster, monitor, places)
        nursery.cancel_scope.cancel()


def three() -> FakeCluster:
    """A topic of three partitions."""
    return FakeCluster({A: 0, B: 1, C: 2})


async def test_partition_starts_at_committed_offset_or_end(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a committed offset it starts at the end, which is committed."""
    async with membership(three(), monkeypatch, stored={A: 3}) as group:
        await group.assign(A, B)
        assert await group.turn() == {A: 3, B: 7}
        assert group.cluster.committed == {A: 3, B: 7}
        assert group.monitor.own_problem is None


async def test_assignment_is_yielded_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first block after a rebalance gets the partitions, later ones do not."""
    async with membership(three(), monkeypatch) as group:
        await group.assign(A)
        assert await group.turn() == {A: 7}
        assert await group.turn() is None
        await group.revoke()
        await group.assign(A)
        assert await group.turn() == {A: 7}


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


async def test_committed_offset_overrides_our_older_one(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another member continued, or went back after a truncation."""
    positions = {A: 7}
    async with membership(three(), monkeypatch, stored={A: 3}, positions=positions) as group:
        await group.assign(A)
        assert await group.turn() == {A: 3}


async def test_partition_placed_during_a_block_is_in_the_next_one(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a block does not discard what was found meanwhile."""
    async with membership(three(), monkeypatch, stored={A: 3, B: 3}) as group:
        await group.assign(A)
        async with group.member.turn():
            await group.assign(A, B)
        assert await group.turn() == {A: 3, B: 3}


async def test_rebalance_cancels_reading_and_commits(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Delivered records are committed."""
    async with membership(three(), monkeypatch) as group:
        await group.assign(A, B)
        turns: list[str] = []
        reading = trio.Event()

        async def read() -> None:
            async with group.member.turn():
                group.positions[A] = 20
                reading.set()
                await trio.sleep_forever()
            turns.append("cancelled")
            turns.append(f"next, with {sorted(await group.turn() or {})}")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await reading.wait()
            await group.revoke()
            assert group.cluster.committed == {A: 20, B: 7}
            await trio.sleep(3)
            assert turns == ["cancelled"]
            assert group.monitor.own_problem is not None
            await group.assign(C)
        assert turns == ["cancelled", f"next, with {[C]}"]
        assert group.monitor.own_problem is None


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
        assert group.cluster.committed == {A: 9}


@pytest.mark.parametrize("code", [14, 15, 16, 30, -1])
async def test_failed_offset_fetch_is_retried(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """It is reported and retried with back-off: starting at the end would lose records."""
    async with membership(three(), monkeypatch, stored={A: 3, B: 4}) as group:
        group.cluster.committed_error = code
        await group.assign(A, B)
        await trio.sleep(60)
        assert group.consumer.commits == []
        assert group.monitor.without_start_offset.keys() == {A, B}
        assert group.monitor.without_start_offset[A].reason.startswith("committed offsets: ")
        assert 10 <= len(group.cluster.requests(OffsetFetchRequest)) <= 60
        group.cluster.committed_error = 0
        assert await group.turn() == {A: 3, B: 4}
        assert group.monitor.without_start_offset == {}


async def test_error_of_one_committed_offset_does_not_delay_others(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That partition continues later at its offset."""
    async with membership(three(), monkeypatch, stored={A: 3, B: 4}) as group:
        group.cluster.committed_errors[A] = 3
        await group.assign(A, B)
        assert await group.turn() == {B: 4}
        assert group.monitor.without_start_offset.keys() == {A}
        group.cluster.committed_errors.clear()
        await trio.sleep(6)
        assert await group.turn() == {A: 3, B: 4}


async def test_coordinator_is_found_by_any_broker(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first broker of the metadata may be down."""
    cluster = three()
    cluster.coordinator = Coordinator(0, 2)
    async with membership(cluster, monkeypatch, stored={B: 4}) as group:
        cluster.down.add(0)
        await group.assign(B)
        assert await group.turn() == {B: 4}
        assert [one.node for one in cluster.requests(FindCoordinatorRequest)] == [0, 1]


async def test_moved_coordinator_is_found(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NOT_COORDINATOR does not mean that nothing is committed."""
    cluster = three()
    async with membership(cluster, monkeypatch, stored={A: 3}) as group:
        cluster.coordinator = Coordinator(15, -1)
        await group.assign(A)
        await trio.sleep(2)
        assert "group coordinator" in group.monitor.without_start_offset[A].reason
        cluster.coordinator = Coordinator(0, 1)
        assert await group.turn() == {A: 3}


async def test_added_partition_starts_at_its_beginning(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is committed, and all its records came after the start."""
    cluster = FakeCluster({A: 0})
    async with membership(cluster, monkeypatch) as group:
        await group.assign(A)
        assert await group.turn() == {A: 7}
        cluster.add(B)
        cluster.publish(B, 5)
        await trio.sleep(6)
        await group.revoke()
        await group.assign(A, B)
        assert await group.turn() == {A: 7, B: 0}


async def test_denied_group_is_reported_and_recovers(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason is not the rebalance; no restart is needed."""
    rejection = GroupAuthorizationFailedError("odin")
    async with membership(three(), monkeypatch, rejection=rejection) as group:
        for _ in range(30):
            await trio.sleep(1)
            problem = group.monitor.own_problem
            assert problem is not None
            assert problem.reason == (
                "consumer group odin: not authorized to join the consumer group (READ on the group)"
            )
        assert 8 <= group.consumer.starts <= 30
        group.consumer.rejection = None
        await trio.sleep(6)
        await group.assign(A)
        assert await group.turn() == {A: 7}
        assert group.monitor.own_problem is None


async def test_rejection_stays_reported_during_retries(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not replaced by the rebalance in between."""
    rejection = GroupAuthorizationFailedError("odin")
    async with membership(three(), monkeypatch, rejection=rejection) as group:
        group.consumer.leave_seconds = 1
        for _ in range(100):
            await trio.sleep(0.1)
            problem = group.monitor.own_problem
            assert problem is not None
            assert "not authorized" in problem.reason


async def test_member_waits_for_a_topic(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group cannot be joined without topics, and that is no problem."""
    async with membership(FakeCluster({}), monkeypatch) as group:
        assert await group.turn() == {}
        assert group.monitor.own_problem is None
        assert group.consumer.starts == 0


async def test_delivered_records_are_committed_at_leave(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next owner continues after them."""
    cluster = three()
    async with membership(cluster, monkeypatch) as group:
        await group.assign(A)
        assert await group.turn() == {A: 7}
        group.positions[A] = 9
    assert cluster.committed == {A: 9}


async def test_revoked_partitions_are_not_committed(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Aiokafka would reject the whole commit."""
    async with membership(three(), monkeypatch) as group:
        await group.assign(A, B)
        group.consumer.assigned.discard(aiokafka.TopicPartition(*B))
        group.positions |= {A: 9, B: 9}
        await trio.sleep(3)
        assert group.cluster.committed == {A: 9, B: 7}


async def test_aiokafka_fetches_nothing(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every partition is paused and has a position."""
    async with membership(three(), monkeypatch) as group:
        await group.assign(A, B)
        assert group.consumer.paused == group.consumer.assigned
        assert group.consumer.sought.keys() == group.consumer.assigned


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


async def test_committed_offset_of_a_recreated_topic_is_ignored(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The committed topic id shows it, even if no member was running."""
    cluster = three()
    cluster.committed_metadata = {A: f"leader_epoch=0 topic_id={7:032x}", B: "another program's"}
    async with membership(cluster, monkeypatch, stored={A: 3, B: 3}) as group:
        await group.assign(A, B)
        assert await group.turn() == {A: 7, B: 3}
        mark = f"leader_epoch=-1 topic_id={cluster.topic_ids['odin.trades']}"
        assert cluster.committed_metadata[A] == mark


async def test_truncation_without_a_member_is_reported(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The committed leader epoch is compared with the log."""
    cluster = whole(TRADES_1)
    consumer = FakeConsumer(cluster)
    monkeypatch.setattr(aiokafka, "AIOKafkaConsumer", lambda **_options: consumer)
    key = TRADES_1
    cluster.logs[key].append([b"{}"] * 7, published_ms=1)

    async def join() -> None:
        theirs = [aiokafka.TopicPartition(*key)]
        consumer.assigned = set(theirs)
        await aio_as_trio(consumer.listener.on_partitions_assigned)(theirs)
        await trio.sleep(2)

    async with open_loop():
        async with sourcing(cluster, monkeypatch, group="odin"):
            await trio.sleep(1)
            await join()
            for _ in range(3):
                cluster.logs[key].append([b"{}"], published_ms=1)
            cluster.change()
            await trio.sleep(3)
        assert cluster.committed[key] == 10
        # Another leader, without the last three; others take their offsets.
        cluster.move(key, 0, keeps=7)
        for _ in range(5):
            cluster.logs[key].append([b"{}"], published_ms=1)
        async with sourcing(cluster, monkeypatch, group="odin") as source:
            await trio.sleep(1)
            await join()
            gaps = [one.gaps for one in source.assignments]
            assert {key: GapReason.TRUNCATED} in gaps
            assert [one.offset for one in source.news] == [7, 8, 9, 10, 11]


async def test_own_offset_of_a_recreated_topic_is_ignored(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It belongs to the old log."""
    async with membership(three(), monkeypatch, stored={A: 3}) as group:
        await group.assign(A)
        assert await group.turn() == {A: 3}
        group.positions[A] = 5
        group.consumer.failure = CommitFailedError("a rebalance")
        await group.revoke()
        group.consumer.failure = None
        group.cluster.recreate("odin.trades", 3)
        await trio.sleep(30)
        await group.assign(A)
        assert await group.turn() == {A: 0}


async def test_partition_missing_in_coordinators_response_is_not_placed(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That does not mean that nothing is committed."""
    async with membership(three(), monkeypatch, stored={A: 3, B: 4}) as group:
        group.cluster.committed_left_out.add(A)
        await group.assign(A, B)
        assert await group.turn() == {B: 4}
        group.cluster.committed_left_out.clear()
        await trio.sleep(10)
        assert await group.turn() == {A: 3, B: 4}


async def test_committed_offset_0_is_valid(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group has read nothing of the partition yet."""
    async with membership(three(), monkeypatch, stored={A: 0}) as group:
        await group.assign(A)
        assert await group.turn() == {A: 0}


async def test_source_reads_only_the_last_assignment(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Partitions of other members are not delivered."""
    cluster = whole(TRADES_1)
    consumer = FakeConsumer(cluster)
    monkeypatch.setattr(aiokafka, "AIOKafkaConsumer", lambda **_options: consumer)

    async def assign(*keys: TopicPartition) -> None:
        await aio_as_trio(consumer.listener.on_partitions_revoked)([])
        consumer.assigned = {aiokafka.TopicPartition(*key) for key in keys}
        await aio_as_trio(consumer.listener.on_partitions_assigned)(list(consumer.assigned))
        await trio.sleep(1)

    async with open_loop(), sourcing(cluster, monkeypatch, group="odin") as received:
        await trio.sleep(1)
        await assign(TRADES, TRADES_1)
        cluster.publish(TRADES)
        await trio.sleep(1)
        await assign(TRADES_1)
        cluster.publish(TRADES)
        cluster.publish(TRADES_1)
        await trio.sleep(1)
        assert (received.offsets(TRADES), received.offsets(TRADES_1)) == ([0], [0])
        last = received.assignments[-1]
        assert (last.partial, set(last.positions)) == (True, {TRADES_1})
