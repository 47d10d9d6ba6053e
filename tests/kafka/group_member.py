"""A member of a consumer group whose consumer does as a test says."""

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
from aiokafka.errors import KafkaError

from odin_ws.kafka.committed_offsets import CommittedOffsetReader
from odin_ws.kafka.fetcher import Fetcher
from odin_ws.kafka.group import GroupMember
from odin_ws.kafka.monitor import Monitor
from odin_ws.kafka.source_status import SourceStatus
from odin_ws.kafka.start_offsets import StartOffsetFinder
from odin_ws.kafka.topic_layout import Layout
from odin_ws.kafka.trio_asyncio_compat import aio_as_trio, open_loop
from odin_ws.records import TopicPartition
from tests.kafka.fake_cluster import FakeCluster
from tests.kafka.sources import options

__all__ = ["A", "B", "C", "FakeConsumer", "Membership", "membership", "three"]

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
        self.cluster.group.metadata |= marks
        self.commits.append(stored)
        self.cluster.group.offsets |= stored


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
    cluster.group.offsets |= stored or {}
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
    committed = CommittedOffsetReader("odin", client, layout)
    member = GroupMember(
        "odin", ours, committed, layout, monitor, start_offset_finder, places, epoch
    )
    async with open_loop(), trio.open_nursery() as nursery:
        nursery.start_soon(monitor.run)
        nursery.start_soon(member.run)
        await trio.sleep(1)
        yield Membership(member, consumer, cluster, monitor, places)
        nursery.cancel_scope.cancel()


def three() -> FakeCluster:
    """A topic of three partitions."""
    return FakeCluster({A: 0, B: 1, C: 2})
