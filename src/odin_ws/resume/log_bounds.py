"""The log's first and last offsets, requested once for all replays that wait for them."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

import attrs
import trio

from odin_ws.log_reader import (
    NO_IDS,
    Bounds,
    LogReader,
    LogUnavailable,
    PartitionsUnavailable,
    Span,
    TimePositions,
)
from odin_ws.records import Record, TopicPartition

__all__ = ["SharedLogReader"]


@attrs.define(eq=False)
class _Lookup:
    """A request for the bounds of partitions, shared by the replays that wait for the answer."""

    partitions: set[TopicPartition] = attrs.field(factory=set)
    topic_ids: dict[str, str] = attrs.field(factory=dict)
    done: trio.Event = attrs.field(factory=trio.Event)
    found: Mapping[TopicPartition, Bounds] = attrs.field(factory=dict)
    failed: Mapping[TopicPartition, str] = attrs.field(factory=dict)
    failure: LogUnavailable | None = None


class SharedLogReader:
    """A log reader whose requests for bounds are shared by all replays of the same topics.

    Replays that come while a request is under way share the next one. Each set of topics has its
    own requests, so a topic whose brokers do not respond delays only the replays that need it. A
    partition without bounds fails only the replays that need this partition.
    """

    def __init__(self, log_reader: LogReader) -> None:
        self._log_reader = log_reader
        # By topics the next request.
        self._next: dict[frozenset[str], _Lookup] = {}
        self._in_flight: set[frozenset[str]] = set()
        self._requests, self._topics = trio.open_memory_channel[frozenset[str]](math.inf)

    async def run(self) -> None:
        """See LogReader."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._log_reader.run)
            async for topics in self._topics:
                nursery.start_soon(self._answer, topics)

    async def bounds(
        self, partitions: Collection[TopicPartition], topic_ids: Mapping[str, str] = NO_IDS
    ) -> dict[TopicPartition, Bounds]:
        """See LogReader. The ids of the last caller hold for all who share the request."""
        topics = frozenset(key.topic for key in partitions)
        question = self._next.get(topics)
        if question is None:
            question = self._next[topics] = _Lookup()
            if topics not in self._in_flight:
                self._in_flight.add(topics)
                self._requests.send_nowait(topics)
        question.partitions.update(partitions)
        question.topic_ids.update(topic_ids)
        await question.done.wait()
        if question.failure is not None:
            raise LogUnavailable(str(question.failure)) from question.failure
        if failed := {key: question.failed[key] for key in partitions if key in question.failed}:
            raise PartitionsUnavailable(failed, question.found)
        return {key: question.found[key] for key in partitions if key in question.found}

    async def _answer(self, topics: frozenset[str]) -> None:
        while question := self._next.pop(topics, None):
            try:
                question.found = await self._log_reader.bounds(
                    question.partitions, question.topic_ids
                )
            except PartitionsUnavailable as error:
                question.found, question.failed = error.found, error.failed
            except LogUnavailable as error:
                question.failure = error
            question.done.set()
        self._in_flight.remove(topics)

    async def positions_at(
        self, topics: Collection[str], timestamp: int, topic_ids: Mapping[str, str] = NO_IDS
    ) -> TimePositions:
        """See LogReader."""
        return await self._log_reader.positions_at(topics, timestamp, topic_ids)

    def read(
        self, spans: Mapping[TopicPartition, Span], topic_ids: Mapping[str, str] = NO_IDS
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Record]]]:
        """See LogReader."""
        return self._log_reader.read(spans, topic_ids)
