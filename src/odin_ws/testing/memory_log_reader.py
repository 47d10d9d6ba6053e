"""Random access to a log in memory, with failures that tests choose."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Final

import trio
from trio_util import AsyncBool

from odin_ws.log_reader import (
    NO_IDS,
    Bounds,
    LogUnavailable,
    PartitionsUnavailable,
    RecordsExpired,
    Span,
    TimePositions,
)
from odin_ws.records import Record, TopicPartition
from odin_ws.testing.memory_log import MemoryLog

__all__ = ["MemoryLogReader"]

_RECREATED: Final = "the topic was recreated"


class MemoryLogReader:
    """A LogReader of a MemoryLog.

    Attributes:
        batch: maximum number of records per batch.
        seconds: the delay of each batch.
        records_read: the number of records read so far.
        without_leader: partitions that have no position of a time.
    """

    def __init__(self, log: MemoryLog, batch: int = 500, seconds: float = 0) -> None:
        self.batch = batch
        self.seconds = seconds
        self.records_read = 0
        self.without_leader: set[TopicPartition] = set()
        self._log = log
        self._free = AsyncBool(value=True)
        self._failure: str | None = None
        self._failing: Collection[str] | None = None

    def hold(self) -> None:
        """Block all reads from now on; running reads block before their next batch."""
        self._free.value = False

    def release(self) -> None:
        """Unblock all reads."""
        self._free.value = True

    def fail(
        self, reason: str = "the broker is away", topics: Collection[str] | None = None
    ) -> None:
        """Let all reads raise LogUnavailable from now on, also running reads.

        `topics`: only reads of one of these topics.
        """
        self._failure, self._failing = reason, topics

    def recover(self) -> None:
        """End the effect of `fail`."""
        self._failure = None

    async def run(self) -> None:
        """See LogReader; does nothing."""
        await trio.sleep_forever()

    async def bounds(
        self, partitions: Collection[TopicPartition], topic_ids: Mapping[str, str] = NO_IDS
    ) -> dict[TopicPartition, Bounds]:
        """See LogReader."""
        await self._turn({key.topic for key in partitions})
        found = {key: bounds for key, bounds in self._log.bounds().items() if key in partitions}
        recreated = [key for key in partitions if self._is_recreated(key.topic, topic_ids)]
        if recreated:
            others = {key: bounds for key, bounds in found.items() if key not in recreated}
            raise PartitionsUnavailable(dict.fromkeys(recreated, _RECREATED), others)
        return found

    async def positions_at(
        self, topics: Collection[str], timestamp: int, topic_ids: Mapping[str, str] = NO_IDS
    ) -> TimePositions:
        """See LogReader."""
        # The state at the time of the request: a broker's response is out of date when it arrives.
        found = self._log.first_since(timestamp)
        await self._turn(topics)
        for topic in topics:
            if self._is_recreated(topic, topic_ids):
                raise PartitionsUnavailable({TopicPartition(topic, 0): _RECREATED}, {})
        return TimePositions(
            {
                key: first - 1
                for key, first in found.items()
                if key.topic in topics and key not in self.without_leader
            },
            {key: "no leader" for key in self.without_leader if key.topic in topics},
        )

    @asynccontextmanager
    async def read(
        self, spans: Mapping[TopicPartition, Span], topic_ids: Mapping[str, str] = NO_IDS
    ) -> AsyncIterator[AsyncIterator[Sequence[Record]]]:
        """See LogReader."""
        await self._turn({key.topic for key in spans})
        async with aclosing(self._batches(spans, topic_ids)) as batches:
            yield batches

    def _is_recreated(self, topic: str, topic_ids: Mapping[str, str]) -> bool:
        """Return whether the topic was recreated since the caller read its id."""
        topic_id = self._log.ids.get(topic)
        return topic_id is not None and topic_ids.get(topic, topic_id) != topic_id

    async def _batches(
        self, spans: Mapping[TopicPartition, Span], topic_ids: Mapping[str, str]
    ) -> AsyncGenerator[Sequence[Record], None]:
        for key, (first, last) in spans.items():
            offset = first
            while offset <= last:
                await self._turn([key.topic])
                bounds = self._log.bounds().get(key)
                recreated = self._is_recreated(key.topic, topic_ids)
                if bounds is None or recreated or not bounds.first <= offset <= bounds.end:
                    raise RecordsExpired(f"{key.topic} {key.partition} has no offset {offset}")
                if offset == bounds.end:
                    # The Kafka log reader raises the same, after a longer wait.
                    raise LogUnavailable(f"no records come from {key.topic} {key.partition}")
                offset_tracker = {key: offset}
                records = self._log.read(offset_tracker, min(self.batch, last + 1 - offset))
                self.records_read += len(records)
                yield records
                offset = offset_tracker[key]

    async def _turn(self, topics: Collection[str]) -> None:
        while not self._free.value:
            await self._free.wait_value(bool)
        await trio.sleep(self.seconds)
        failing = self._failing
        if self._failure is not None and (failing is None or not set(failing).isdisjoint(topics)):
            raise LogUnavailable(self._failure)
