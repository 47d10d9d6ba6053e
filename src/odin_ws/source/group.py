"""Membership in a consumer group: which partitions are ours, and where each goes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import aiokafka
import structlog
from trio_asyncio import trio_as_aio

from odin_ws.records import TopicPartition
from odin_ws.source.cluster import Cluster

__all__ = ["GroupMember"]

log = structlog.get_logger("odin_ws.source")


class GroupMember(aiokafka.ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """Places the partitions that a rebalance gives us, and commits what was handed to the hub.

    aiokafka calls it inside asyncio; the reader takes the outcome with `take_assignment`.
    `fresh`: this is the instance's first session, so a partition without a committed offset
    begins at its end; later it is a new partition, and begins at its beginning.
    """

    def __init__(self, cluster: Cluster, *, fresh: bool) -> None:
        self._cluster = cluster
        self._fresh = fresh
        self._positions: dict[TopicPartition, int] = {}
        self._changed = False
        self._committed: dict[TopicPartition, int] = {}

    def take_assignment(self) -> Mapping[TopicPartition, int] | None:
        """The partitions and next offsets since the last rebalance; None where nothing changed."""
        if not self._changed:
            return None
        self._changed = False
        return self._positions

    def handed_over(self, positions: Mapping[TopicPartition, int]) -> None:
        """The hub's channel took all records before these offsets."""
        self._positions = {key: positions[key] for key in self._positions if key in positions}

    async def commit(self) -> None:
        """Store what changed since the last commit."""
        changed = dict(self._positions.items() - self._committed.items())
        if changed:
            await self._cluster.commit(changed)
            self._committed |= changed

    async def on_partitions_revoked(self, revoked: Iterable[aiokafka.TopicPartition]) -> None:
        """Commit before others take over, so that they begin where we stopped."""
        ours = {key: self._positions[key] for key in map(_ours, revoked) if key in self._positions}
        if ours:
            await trio_as_aio(self._cluster.commit)(ours)
        self._positions = {}
        self._committed = {}

    async def on_partitions_assigned(self, assigned: Iterable[aiokafka.TopicPartition]) -> None:
        """Go on where the group stopped; where it never was, at the end or the beginning."""
        partitions = sorted(map(_ours, assigned))
        self._positions = await trio_as_aio(self._place)(partitions)
        self._fresh = False
        self._changed = True
        log.info("the group assigned partitions", partitions=len(partitions))

    async def _place(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        positions = await self._cluster.committed(partitions)
        new = [key for key in partitions if key not in positions]
        find = self._cluster.ends if self._fresh else self._cluster.beginnings
        positions |= await find(new)
        self._cluster.fetcher.seek(positions)
        return positions


def _ours(key: aiokafka.TopicPartition) -> TopicPartition:
    return TopicPartition(key.topic, key.partition)
