"""The whole server in memory with the real Kafka source and log reader, on a cluster in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import attrs
import pytest
import trio

from odin_ws.assembly import kafka
from odin_ws.catalogue import default_catalogue
from odin_ws.kafka.security import KafkaSecurity
from odin_ws.kafka.source_protocol import Source
from odin_ws.kafka.source_status import SourceStatus
from odin_ws.records import Batch, Item, Record
from odin_ws.settings import Settings
from odin_ws.testing.scenario import Scenario, open_scenario
from tests.kafka.fake_cluster import FakeCluster

__all__ = ["Tap", "open_cluster_scenario"]


@attrs.define(eq=False)
class Tap:
    """A source that notes the records of another one, as soon as the hub has taken them."""

    source: Source
    taken: list[Record]
    _channel: Any = None

    status: SourceStatus = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.status = self.source.status

    async def run(self, channel: trio.MemorySendChannel[Item]) -> None:
        """See Source."""
        self._channel = channel
        await self.source.run(cast("trio.MemorySendChannel[Item]", self))

    async def send(self, item: Item) -> None:
        """Hand an item on."""
        await self._channel.send(item)
        if isinstance(item, Batch):
            self.taken += item.records


@asynccontextmanager
async def open_cluster_scenario(
    cluster: FakeCluster,
    monkeypatch: pytest.MonkeyPatch,
    taken: list[Record] | None = None,
    **settings: Any,
) -> AsyncIterator[Scenario]:
    """Run a server that reads `cluster`, for the length of the block.

    `taken`: gets the records that the hub has taken.
    """

    def client(_security: KafkaSecurity, _seconds: float) -> FakeCluster:
        return cluster

    for module in "source", "log_reader":
        monkeypatch.setattr(f"odin_ws.kafka.{module}.KafkaClient", client)
    chosen = Settings(**settings)
    catalogue = default_catalogue()
    upstream = kafka(chosen, catalogue, KafkaSecurity(("kafka-0:9092",)))
    if taken is not None:
        upstream = attrs.evolve(upstream, source=Tap(upstream.source, taken))
    async with open_scenario(chosen, catalogue=catalogue, upstream=upstream) as scenario:
        yield scenario
