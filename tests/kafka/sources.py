"""A KafkaSource of a cluster in memory, and what it hands on."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import pytest
import trio

from odin_ws.catalogue import default_catalogue
from odin_ws.history import History, SnapshotCache
from odin_ws.hub import Ingest, Stream
from odin_ws.kafka.options import KafkaOptions
from odin_ws.kafka.security import KafkaSecurity
from odin_ws.kafka.source import KafkaSource
from odin_ws.kafka.source_status import SourceState, SourceStatus
from odin_ws.records import Assignment, Batch, HistoryEnd, Item, Record, TopicPartition
from tests.kafka.fake_cluster import FakeCluster

__all__ = ["PATIENCE", "SOCIAL", "TOPICS", "TRADES", "Received", "options", "sourcing", "whole"]

CATALOGUE = default_catalogue()
TOPICS: Final = sorted(CATALOGUE.topics)
TRADES, TRADES_1 = TopicPartition("odin.trades", 0), TopicPartition("odin.trades", 1)
SOCIAL = TopicPartition("odin.social", 0)

PATIENCE: Final = 5.0


def options(**changes: Any) -> KafkaOptions:
    """What a service uses, without a history."""
    usual = KafkaOptions(
        KafkaSecurity(("kafka-0:9092",)),
        group=None,
        max_wait=0.5,
        slot=0.05,
        rate=0,
        probe=PATIENCE,
        history_seconds=0,
        history_records=0,
    )
    return attrs.evolve(usual, **changes)


def whole(*more: TopicPartition) -> FakeCluster:
    """All topics of the catalogue, each with one partition, and some more, over three brokers."""
    keys = [*(TopicPartition(topic, 0) for topic in TOPICS), *more]
    return FakeCluster({key: number % 3 for number, key in enumerate(keys)})


@attrs.define(eq=False)
class Received:
    """What a source handed on, and the hub's positions by it; `changes` of the feed's status."""

    source_status: SourceStatus
    items: list[Item] = attrs.field(factory=list)
    changes: list[SourceState] = attrs.field(factory=list)
    topic_changes: list[frozenset[str]] = attrs.field(factory=list)
    ingest: Ingest = attrs.field(
        factory=lambda: Ingest(
            Stream(CATALOGUE),
            History(CATALOGUE, 1 << 30, math.inf),
            SnapshotCache(CATALOGUE, 1 << 30),
            max_record_bytes=1 << 20,
        )
    )
    news: list[Record] = attrs.field(factory=list)

    def take(self, item: Item) -> None:
        """As the hub does."""
        self.items.append(item)
        if isinstance(item, Batch):
            for record in item.records:
                at = self.ingest.stream.position(TopicPartition(record.topic, record.partition))
                assert at is not None
                if record.offset > at:
                    self.news.append(record)
        left = deque([item])
        while left:
            self.ingest.take(left, lambda _message: True, 1 << 30)

    @property
    def assignments(self) -> list[Assignment]:
        """Those that came."""
        return [item for item in self.items if isinstance(item, Assignment)]

    @property
    def has_history_end(self) -> bool:
        """Whether it came."""
        return any(isinstance(item, HistoryEnd) for item in self.items)

    def offsets(self, key: TopicPartition) -> list[int]:
        """The offsets of the records of a partition that are to be delivered."""
        return [record.offset for record in self.news if (record.topic, record.partition) == key]

    def problems(self) -> list[str]:
        """What health would show."""
        return [str(problem) for problem in self.source_status.problems]


@asynccontextmanager
async def sourcing(
    cluster: FakeCluster,
    monkeypatch: pytest.MonkeyPatch,
    hub_is_free: trio.Event | None = None,
    /,
    **changes: Any,
) -> AsyncIterator[Received]:
    """Run a source during the block.

    `hub_is_free`: the hub takes items only after this event, and has no room before; None for a
    hub that always takes them.
    """
    monkeypatch.setattr("odin_ws.kafka.source.KafkaClient", lambda _security, _seconds: cluster)
    source = KafkaSource(CATALOGUE, options(**changes))
    received = Received(source.status)
    send, receive = trio.open_memory_channel[Item](8 if hub_is_free is None else 0)

    async def take() -> None:
        if hub_is_free is not None:
            await hub_is_free.wait()
        async for item in receive:
            received.take(item)

    async def watch() -> None:
        async for status in source.status.state.eventual_values():
            received.changes.append(status)

    async def watch_topics() -> None:
        async for topics in source.status.stalled_topics.eventual_values():
            received.topic_changes.append(topics)

    async with trio.open_nursery() as nursery:
        for task in (take, watch, watch_topics):
            nursery.start_soon(task)
        nursery.start_soon(source.run, send)
        yield received
        nursery.cancel_scope.cancel()
