"""Finds gaps at the end of a log: offsets whose records compaction has removed.

A leader responds to a fetch in such a gap as it does at the end of the log: without records. So a
reader that waits for the record at the last offset would wait until the next record is published.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from odin_ws.backoff import Backoff
from odin_ws.kafka.client import Brokers
from odin_ws.kafka.errors import KafkaUnavailable
from odin_ws.kafka.partition import Partition, PartitionState
from odin_ws.kafka.protocol import (
    EARLIEST_LOCAL,
    NO_EPOCH,
    FetchFrom,
    FetchRequest,
    ListOffsetsRequest,
)
from odin_ws.records import TopicPartition

__all__ = ["TailGaps", "is_tail_gap"]

# Delay of the first check. Usually the records follow at once: one response had no room for all.
_FIRST_CHECK_SECONDS: Final = 0.5
_LAST_CHECK_SECONDS: Final = 5.0

# KIP-227: a fetch without a session.
_NO_SESSION: Final = 0
_NO_SESSION_EPOCH: Final = -1

_GAP_BYTES: Final = 64 << 10


async def is_tail_gap(
    brokers: Brokers, node: int, key: TopicPartition, offset: int, topic_id: str | None
) -> bool:
    """Return whether the leader has no record from an offset up to its last stable offset.

    The caller knows that the last stable offset is after `offset`. The fetch requests only this
    partition, so the response has at least one batch if the log has any. Records in remote storage
    may not arrive in time, so `offset` must be on the broker's own disks; False for a broker that
    does not report these (before Kafka 3.4). Raises KafkaUnavailable.
    """
    offsets = await brokers.send(node, ListOffsetsRequest({key: EARLIEST_LOCAL}))
    local = offsets.get(key)
    if local is None or local.error or not 0 <= local.offset <= offset:
        return False
    where = FetchFrom(offset, NO_EPOCH, _GAP_BYTES)
    request = FetchRequest(
        0, 0, _GAP_BYTES, _NO_SESSION, _NO_SESSION_EPOCH, {key: where}, (), {key.topic: topic_id}
    )
    response = await brokers.send(node, request)
    # A quota leaves out the partition.
    return not response.error and any(
        fetched.key == key and not fetched.error and not fetched.data
        for fetched in response.partitions
    )


class TailGaps:
    """Looks for gaps at partitions whose log has offsets after the last fetched one.

    `passed`: called with a partition whose position has moved to the end of its gap.
    """

    def __init__(
        self,
        brokers: Brokers,
        topic_id: Callable[[str], str | None],
        passed: Callable[[Partition], None],
    ) -> None:
        self._brokers = brokers
        self._topic_id = topic_id
        self._passed = passed
        self._suspected: dict[Partition, tuple[int, int]] = {}
        self._news = trio.Event()

    def suspect(self, partition: Partition) -> None:
        """Look at a partition soon: its position is before its last stable offset."""
        end = partition.position, partition.last_stable_offset
        if self._suspected.setdefault(partition, end)[0] != end[0]:
            self._suspected[partition] = end
        self._news.set()

    def forget(self, partition: Partition) -> None:
        """Do not look at a partition that is not fetched any more."""
        self._suspected.pop(partition, None)

    async def run(self) -> None:
        """Look for gaps until cancelled."""
        backoff = Backoff(_FIRST_CHECK_SECONDS, _LAST_CHECK_SECONDS)
        while True:
            if not self._suspected:
                self._news = trio.Event()
                await self._news.wait()
                backoff.reset()
            await trio.sleep(backoff.next())
            for partition, (position, end) in list(self._suspected.items()):
                if not _is_at(partition, position):
                    self.forget(partition)
                elif not partition.has_buffered and await self._is_gap(partition):
                    partition.position = end
                    self._passed(partition)
                    self.forget(partition)

    async def _is_gap(self, partition: Partition) -> bool:
        """Return whether a partition is at a gap; False on failure, which its fetches report."""
        key, leader, position = partition.key, partition.leader, partition.position
        if leader is None:
            return False
        sent_to = leader, partition.leader_epoch
        try:
            found = await is_tail_gap(
                self._brokers, leader, key, position, self._topic_id(key.topic)
            )
        except KafkaUnavailable:
            return False
        # Another leader may have a shorter log; a partition that was revoked is no longer ours.
        is_current = sent_to == (partition.leader, partition.leader_epoch)
        return found and is_current and partition in self._suspected and _is_at(partition, position)


def _is_at(partition: Partition, position: int) -> bool:
    return partition.state is PartitionState.READING and partition.position == position
