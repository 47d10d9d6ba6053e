"""Membership in a consumer group: which partitions are ours, and where each goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager

import aiokafka
import structlog
import trio
from trio_util import AsyncValue

from odin_ws.kafka.cluster import ClusterFailure, GroupCluster
from odin_ws.kafka.trio_asyncio_compat import trio_as_aio
from odin_ws.records import TopicPartition

__all__ = ["GroupMember"]

log = structlog.get_logger("odin_ws.kafka")

Positions = dict[TopicPartition, int]


class GroupMember(aiokafka.ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """Reads in turns: none while the group shares out its partitions anew.

    aiokafka calls the listener inside asyncio, before and after. A turn that is under way is
    cancelled: what the hub has taken by then is committed, and the rest is left to the new owner.

    `positions`: the source's next offsets, which move as the hub takes records. `first_place`:
    finds where to begin in partitions for which the group has stored nothing.
    """

    def __init__(
        self,
        cluster: GroupCluster,
        positions: Positions,
        first_place: Callable[[set[TopicPartition]], Awaitable[Positions]],
    ) -> None:
        self.placed = AsyncValue(value=False)
        self._cluster = cluster
        self._positions = positions
        self._first_place = first_place
        self._ours: frozenset[TopicPartition] = frozenset()
        self._told = True
        self._committed: Positions = {}
        self._cannot_commit = False
        self._failure: BaseExceptionGroup[BaseException] | None = None
        self._turn = trio.CancelScope()
        self._reading = trio.Lock()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Mapping[TopicPartition, int] | None]:
        """Read and hand on in here; gives the partitions and positions where they are new.

        Waits for a rebalance to end; one that begins ends the block. Raises what went wrong in it.
        """
        while not self.placed.value:
            await self.placed.wait_value(bool)
        if self._failure is not None:
            raise self._failure
        with trio.CancelScope() as self._turn:
            async with self._reading:
                yield None if self._told else {key: self._positions[key] for key in self._ours}
                self._told = True

    async def commit(self) -> None:
        """Store what changed since the last time; what cannot be stored now is the next time."""
        positions = {key: self._positions[key] for key in self._ours}
        changed = dict(positions.items() - self._committed.items())
        try:
            if changed:
                await self._cluster.commit(changed)
        except* ClusterFailure as failures:
            # During a rebalance that is usual, and what was read until then is committed in it.
            if not self._cannot_commit:
                log.warning("cannot commit the group's positions", error=str(failures.exceptions))
            self._cannot_commit = True
        else:
            self._committed |= changed
            self._cannot_commit = False

    # ---- called by aiokafka, in asyncio

    async def on_partitions_revoked(self, _revoked: Iterable[aiokafka.TopicPartition]) -> None:
        """Stop reading, and commit before others take over: they begin where we stopped."""
        await trio_as_aio(self._give_up)()

    async def on_partitions_assigned(self, assigned: Iterable[aiokafka.TopicPartition]) -> None:
        """Go on where the group stopped."""
        await trio_as_aio(self._take)(frozenset(TopicPartition(*key) for key in assigned))

    async def _give_up(self) -> None:
        self.placed.value = False
        self._turn.cancel()
        async with self._reading:
            await self.commit()
        self._ours = frozenset()
        self._committed = {}

    async def _take(self, partitions: frozenset[TopicPartition]) -> None:
        try:
            await self._place(partitions)
        except* ClusterFailure as failures:
            # The next turn raises it; aiokafka would only log it.
            self._failure = failures
        self._told = False
        self.placed.value = True
        log.info("the group assigned partitions", partitions=len(partitions))

    async def _place(self, partitions: frozenset[TopicPartition]) -> None:
        committed = await self._cluster.committed(partitions)
        first = await self._first_place(set(partitions - committed.keys()))
        for key, place in (committed | first).items():
            # What we handed on ourselves is done, also where the commit of it failed.
            self._positions[key] = max(place, self._positions.get(key, 0))
        self._ours = partitions
        self._committed = committed
        self._cluster.fetcher.seek(self._positions)
        # At once: whoever takes over a partition without a position would have to guess.
        await self.commit()
