"""A group coordinator in memory: members join, leave, and get partitions at random."""

from __future__ import annotations

import random
from typing import Any

import aiokafka
import attrs
import trio
from aiokafka.errors import CommitFailedError

from odin_ws.kafka.trio_asyncio_compat import aio_as_trio
from odin_ws.records import TopicPartition
from tests.kafka.fake_cluster import FakeCluster

__all__ = ["FakeCoordinator", "GroupConsumer"]


@attrs.define(eq=False)
class GroupConsumer:
    """aiokafka's consumer, as a member of the group."""

    coordinator: FakeCoordinator
    topics: frozenset[str] = frozenset()
    listener: Any = None
    assigned: set[Any] = attrs.field(factory=set)
    commits_fail: bool = False

    async def start(self) -> None:
        """Connect."""

    async def stop(self) -> None:
        """Leave the group."""
        self.coordinator.leave(self)

    def subscribe(self, *, topics: list[str], listener: Any) -> None:
        """Join the group."""
        self.topics, self.listener = frozenset(topics), listener
        self.coordinator.join(self)

    async def getmany(self, **_options: Any) -> dict[Any, Any]:
        """Nothing is fetched."""
        return {}

    def pause(self, *_keys: Any) -> None:
        """All are paused."""

    def seek(self, _key: Any, _offset: int) -> None:
        """No positions of its own."""

    def assignment(self) -> set[Any]:
        """What the group gave it."""
        return self.assigned

    async def commit(self, offsets: dict[Any, tuple[int, str]]) -> None:
        """Store positions."""
        if self.commits_fail or self not in self.coordinator.members:
            raise CommitFailedError
        group = self.coordinator.cluster.group
        for key, (offset, metadata) in offsets.items():
            group.offsets[TopicPartition(*key)] = offset
            group.metadata[TopicPartition(*key)] = metadata


@attrs.define(eq=False)
class FakeCoordinator:
    """Shares out the partitions of the members' topics, each to one member."""

    cluster: FakeCluster
    chance: random.Random
    members: list[GroupConsumer] = attrs.field(factory=list)
    rebalances: int = 0
    _changed: trio.Event = attrs.field(factory=trio.Event)
    _lock: trio.Lock = attrs.field(factory=trio.Lock)

    def consumer(self, **_options: Any) -> GroupConsumer:
        """Stand in the place of aiokafka.AIOKafkaConsumer."""
        return GroupConsumer(self)

    def join(self, member: GroupConsumer) -> None:
        """Take in a member; a rebalance follows."""
        self.members.append(member)
        self._changed.set()

    def leave(self, member: GroupConsumer) -> None:
        """Let a member go; a rebalance follows."""
        if member in self.members:
            self.members.remove(member)
            self._changed.set()

    def forget(self, listener: Any) -> None:
        """Let a member go that crashed: it commits nothing more."""
        for member in [one for one in self.members if one.listener is listener]:
            self.leave(member)

    async def run(self) -> None:
        """Rebalance after each change of the members, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            await trio.sleep(self.chance.random())
            await self.rebalance()

    async def rebalance(self) -> None:
        """Revoke all partitions, then share them out (the eager protocol)."""
        async with self._lock:
            self.rebalances += 1
            members = list(self.members)
            async with trio.open_nursery() as nursery:
                for member in members:
                    nursery.start_soon(
                        aio_as_trio(member.listener.on_partitions_revoked), list(member.assigned)
                    )
            await trio.sleep(self.chance.choice([0, 0.1, 1]))
            shares: dict[GroupConsumer, set[Any]] = {
                member: set() for member in members if member in self.members
            }
            for key in sorted(self.cluster.leaders) if shares else ():
                able = [member for member in shares if key.topic in member.topics]
                if able:
                    shares[self.chance.choice(able)].add(aiokafka.TopicPartition(*key))
            for member, share in shares.items():
                member.assigned = share
                await aio_as_trio(member.listener.on_partitions_assigned)(sorted(share))
