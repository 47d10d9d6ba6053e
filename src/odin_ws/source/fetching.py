"""Fetching: patiently while little comes, gathering while much does.

A fetch over 96 partitions costs aiokafka 4 ms of CPU whatever it brings, so it should bring much;
but the first record after a pause should not wait for others. A consumer cannot change how it
fetches, so there are two with the same partitions, of which one is paused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import aiokafka
import trio
from trio_asyncio import aio_as_trio

from odin_ws.records import Record, TopicPartition

__all__ = ["Fetcher", "assign_paused", "records_of"]

# One record of a fetch and its handling cost some 5 us: a batch keeps the loop for 10 ms at most.
_BATCH_RECORDS: Final = 2000

# How long one look waits for a record; after it the feed counts as idle.
_POLL_MS: Final = 1000


class Fetcher:
    """Reads the partitions of two consumers through one of them at a time.

    `patient` asks the broker to answer at the first record, `gathering` to collect for a slot of
    `gather` seconds. Where there is no second one (a group knows each member once) the patient one
    fetches on and on, and is looked at once a slot.
    """

    def __init__(
        self,
        patient: aiokafka.AIOKafkaConsumer,
        gathering: aiokafka.AIOKafkaConsumer | None,
        gather: float,
    ) -> None:
        self._patient = patient
        self._gathering = gathering
        self._reading = patient
        self._gather = gather
        self._next_look = 0.0

    def assign(self, partitions: Collection[TopicPartition]) -> None:
        """Take these partitions, paused: `seek` begins.

        Comes before any question about them: a consumer that was not told of its topics looks
        each of them up by itself, half a second a topic.
        """
        ours = [aiokafka.TopicPartition(*key) for key in partitions]
        for consumer in filter(None, (self._patient, self._gathering)):
            assign_paused(consumer, ours)

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Go on from these offsets, in what is assigned: a rebalance may have taken some away."""
        for key in self._reading.assignment():
            offset = positions.get(TopicPartition(*key))
            if offset is not None:
                self._reading.seek(key, offset)
        self._reading.resume(*self._reading.paused())

    def go_on(self, positions: Mapping[TopicPartition, int], *, busy: bool) -> None:
        """Fetch as suits a busy or an idle feed; `positions` is where the records end so far."""
        wanted = self._gathering if busy and self._gathering is not None else self._patient
        if wanted is not self._reading:
            self._reading.pause(*self._reading.assignment())
            self._reading = wanted
            # What the other one fetched ahead is beyond these: it is fetched anew.
            self.seek(positions)

    async def passed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """How far the consumer is: also past what takes up an offset and is no record.

        That is the markers that end transactions, and what compaction left of a batch.
        """
        return await aio_as_trio(self._passed)(partitions)  # type: ignore[no-any-return]

    async def _passed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        ours = self._reading.assignment()
        return {
            key: await self._reading.position(aiokafka.TopicPartition(*key))
            for key in partitions
            if aiokafka.TopicPartition(*key) in ours
        }

    async def fetch(self, most: int | None) -> tuple[list[Record], bool]:
        """Records that have come, at most `most`, and whether that limit cut them off.

        Waits about a second for the first record; none is returned where none came.
        """
        await trio.sleep_until(self._next_look)
        limit = _BATCH_RECORDS if most is None else min(most, _BATCH_RECORDS)
        found = await aio_as_trio(self._reading.getmany)(timeout_ms=_POLL_MS, max_records=limit)
        records = records_of(found)
        cut_off = len(records) == limit
        if records and not cut_off and self._gathering is None:
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
