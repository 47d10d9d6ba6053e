"""Fetching, as the source sees it; and what a member of a group fetches with."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, Protocol

import aiokafka
import trio

from odin_ws.kafka.aio import call_aiokafka
from odin_ws.records import Record, TopicPartition

__all__ = [
    "BATCH_RECORDS",
    "POLL_SECONDS",
    "Fetcher",
    "GroupFetcher",
    "assign_paused",
    "records_of",
]

# One record of a fetch and its handling cost some 5 us: a batch keeps the loop for 10 ms at most.
BATCH_RECORDS: Final = 2000

# How long one look waits for a record.
POLL_SECONDS: Final = 1.0


class Fetcher(Protocol):
    """Reads partitions from the offsets it is told."""

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Go on from these offsets."""
        ...

    async def passed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """How far the reading is: also past what takes up an offset and is no record.

        That is the markers that end transactions, and what compaction left of a batch.
        """
        ...

    async def fetch(self, most: int | None) -> tuple[list[Record], bool]:
        """Records that have come, at most `most`, and whether that limit cut them off.

        Waits about a second for the first record; none is returned where none came. Raises
        OffsetOutOfRangeError with the partitions whose offset the broker does not have.
        """
        ...


class GroupFetcher:
    """Reads what the group gives to `consumer`: it fetches on and on, and is looked at once a slot.

    `gather`: seconds of a slot.
    """

    def __init__(self, consumer: aiokafka.AIOKafkaConsumer, gather: float) -> None:
        self._consumer = consumer
        self._gather = gather
        self._next_look = 0.0

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Go on from these offsets, in what is assigned: a rebalance may have taken some away."""
        for key in self._consumer.assignment():
            offset = positions.get(TopicPartition(*key))
            if offset is not None:
                self._consumer.seek(key, offset)

    async def passed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """See Fetcher."""
        return await call_aiokafka(self._passed, partitions)  # type: ignore[no-any-return]

    async def _passed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        ours = self._consumer.assignment()
        return {
            key: await self._consumer.position(aiokafka.TopicPartition(*key))
            for key in partitions
            if aiokafka.TopicPartition(*key) in ours
        }

    async def fetch(self, most: int | None) -> tuple[list[Record], bool]:
        """See Fetcher."""
        await trio.sleep_until(self._next_look)
        limit = BATCH_RECORDS if most is None else min(most, BATCH_RECORDS)
        found = await call_aiokafka(
            self._consumer.getmany, timeout_ms=POLL_SECONDS * 1000, max_records=limit
        )
        records = records_of(found)
        cut_off = len(records) == limit
        if records and not cut_off:
            self._next_look = trio.current_time() + self._gather
        return records, cut_off


def records_of(
    found: Mapping[aiokafka.TopicPartition, Sequence[aiokafka.ConsumerRecord]],
) -> list[Record]:
    """What `getmany` has found."""
    return [
        Record(one.topic, one.partition, one.offset, one.timestamp, one.key, one.value)
        for several in found.values()
        for one in several
    ]


def assign_paused(
    consumer: aiokafka.AIOKafkaConsumer, partitions: Collection[aiokafka.TopicPartition]
) -> None:
    """Let a consumer know partitions without fetching them."""
    consumer.assign(partitions)
    consumer.pause(*partitions)
    # Without a position aiokafka would look for one, and report that it may not choose.
    for key in partitions:
        consumer.seek(key, 0)
