"""A fetcher of a cluster in memory, and how tests take from it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

import trio

from odin_ws.kafka.errors import KafkaUnavailable
from odin_ws.kafka.fetcher import FetchedRecords, Fetcher
from odin_ws.kafka.partition import OffsetReset
from odin_ws.records import Record, TopicPartition
from tests.kafka.fake_cluster import FakeCluster

__all__ = [
    "FIRST",
    "MAX_WAIT",
    "SECOND",
    "SLOT",
    "THIRD",
    "fetching",
    "move",
    "places",
    "until_reset",
]

FIRST, SECOND, THIRD = (TopicPartition("odin.trades", number) for number in range(3))
MAX_WAIT: Final = 0.5
SLOT: Final = 0.05

# As the monitor does.
_METADATA_PAUSE: Final = 0.2


@asynccontextmanager
async def fetching(cluster: FakeCluster, *, starts: int = 0) -> AsyncIterator[Fetcher]:
    """A fetcher of all partitions from an offset on; it gets the metadata when it wants it."""
    fetcher = Fetcher(cluster, MAX_WAIT, SLOT)
    topics = sorted({key.topic for key in cluster.leaders})

    async def ask_for_metadata() -> None:
        while True:
            await fetcher.metadata_requested.wait()
            fetcher.metadata_requested = trio.Event()
            try:
                fetcher.apply((await cluster.metadata(topics)).topics)
            except KafkaUnavailable:
                fetcher.metadata_requested.set()
            await trio.sleep(_METADATA_PAUSE)

    fetcher.apply((await cluster.metadata(topics)).topics)
    fetcher.assign(dict.fromkeys(cluster.leaders, starts))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetcher.run)
        nursery.start_soon(ask_for_metadata)
        yield fetcher
        nursery.cancel_scope.cancel()


async def move(
    cluster: FakeCluster, fetcher: Fetcher, node: int, *, keeps: int | None = None
) -> None:
    """Elect a leader for `FIRST`, as FakeCluster.move does, and let the fetcher know it at once."""
    cluster.move(FIRST, node, keeps=keeps)
    fetcher.apply((await cluster.metadata([FIRST.topic])).topics)


async def places(fetcher: Fetcher, count: int, seconds: float = 120) -> list[str]:
    """Take so many records; returns partition and offset of each."""
    found: list[Record] = []
    with trio.fail_after(seconds):
        while len(found) < count:
            taken = await fetcher.take(None)
            assert not taken.resets
            found += taken.records
    return named(found)


def named(records: Iterable[Record]) -> list[str]:
    """Partition and offset of each."""
    return [f"{record.partition}-{record.offset}" for record in records]


async def until_reset(
    fetcher: Fetcher, seconds: float = 120
) -> tuple[list[str], dict[TopicPartition, OffsetReset]]:
    """Take until partitions jump; returns what came before, and the jumps."""
    found: list[Record] = []
    with trio.fail_after(seconds):
        while True:
            taken: FetchedRecords = await fetcher.take(None)
            found += taken.records
            if taken.resets:
                return named(found), dict(taken.resets)
