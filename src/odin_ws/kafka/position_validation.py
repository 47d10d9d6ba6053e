"""Validates fetch positions that may not be in the log: asks their leaders where to continue."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import attrs
import trio

from odin_ws.kafka.client import Brokers
from odin_ws.kafka.fetch_result import Effect
from odin_ws.kafka.offset_lookup import apply_outcome, look_up
from odin_ws.kafka.partition import Partition, PartitionState
from odin_ws.records import TopicPartition

__all__ = ["PositionValidation"]


@attrs.frozen
class PositionValidation:
    """Looks up the offset to continue from, for partitions in the state LOOKING_UP.

    Args:
        partitions: the fetched partitions, which the fetcher changes.
        wait_changed: waits until partitions or their states have changed.
        longest_unseen: by broker, for how long a topic may be unseen before it may be recreated.
        apply_effect: does what the result for a partition requires.
        notify: tells the fetch tasks that partitions have changed.
    """

    _brokers: Brokers
    _partitions: Mapping[TopicPartition, Partition]
    _wait_changed: Callable[[], Awaitable[None]] = attrs.field(kw_only=True)
    _longest_unseen: Callable[[int], float] = attrs.field(kw_only=True)
    _apply_effect: Callable[[Partition, Effect], None] = attrs.field(kw_only=True)
    _notify: Callable[[], None] = attrs.field(kw_only=True)

    async def run(self, node: int) -> None:
        """Validate the positions of the partitions that a broker leads, until cancelled."""
        while True:
            mine = [
                partition
                for partition in self._partitions.values()
                if partition.state is PartitionState.LOOKING_UP and partition.leader == node
            ]
            now, longest_unseen = trio.current_time(), self._longest_unseen(node)
            lost = [one for one in mine if not one.may_be_recreated(now, longest_unseen)]
            if len(lost) < len(mine):
                self._apply_effect(mine[0], Effect.REFRESH_METADATA)
            if lost:
                await self._look_up(node, lost)
            else:
                await self._wait_changed()

    async def _look_up(self, node: int, lost: list[Partition]) -> None:
        requested = {
            partition.key: (partition.leader_epoch, partition.lookup) for partition in lost
        }
        outcomes = await look_up(self._brokers, node, lost)
        now = trio.current_time()
        for partition in lost:
            # After another leader or reason, the result no longer applies.
            is_current = (
                self._partitions.get(partition.key) is partition
                and partition.state is PartitionState.LOOKING_UP
                and partition.leader == node
                and requested[partition.key] == (partition.leader_epoch, partition.lookup)
            )
            if is_current:
                self._apply_effect(
                    partition, apply_outcome(partition, outcomes[partition.key], now)
                )
        self._notify()
