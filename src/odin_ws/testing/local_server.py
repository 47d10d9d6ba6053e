"""A server on a free loopback port with a log in memory, for clients that are programs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from odin_ws.address import Address
from odin_ws.assembly import Upstream
from odin_ws.catalogue import Catalogue, default_catalogue
from odin_ws.records import Record
from odin_ws.serve import serve
from odin_ws.settings import Settings
from odin_ws.testing.memory_log import MemoryLog, MemorySource
from odin_ws.testing.memory_log_reader import MemoryLogReader
from odin_ws.testing.ports import LOOPBACK

__all__ = ["LocalServer", "open_local_server"]


@attrs.frozen
class LocalServer:
    """A running server."""

    url: str
    """The URL for subscribers: `ws://127.0.0.1:41191/ws`."""

    ops_url: str
    """The base URL of health and metrics: `http://127.0.0.1:41192`."""

    log: MemoryLog
    """The log that stands for Kafka."""

    source: MemorySource
    """The live reader of the log; `lose_broker` and `find_broker` simulate an outage."""

    log_reader: MemoryLogReader
    """The reader for replays; `fail` and `recover` simulate an outage."""

    catalogue: Catalogue

    def publish(self, token: str, category: str, data: Any = None, *, kind: str = "") -> Record:
        """Append an event of a token to the topic of a category; returns the record."""
        topic = self.catalogue.categories[category]
        event = {"type": kind or topic.events[0], "timestamp": 0, "data": data}
        return self.log.append(topic.name, token.encode(), json.dumps(event).encode())


@asynccontextmanager
async def open_local_server(
    settings: Settings | None = None,
    *,
    catalogue: Catalogue | None = None,
    partitions: int = 12,
    log: MemoryLog | None = None,
    port: int = 0,
) -> AsyncIterator[LocalServer]:
    """Run a server for the length of the block, in real time.

    `port`: the port for subscribers; 0 for any free port. Several servers may share a `log`, as
    instances share Kafka.
    """
    catalogue = catalogue or default_catalogue()
    log = log or MemoryLog(catalogue.topics, partitions)
    settings = attrs.evolve(
        settings or Settings(),
        ws_addr=Address(LOOPBACK, port),
        ws_ops_addr=Address(LOOPBACK, 0),
        ws_drain_delay_seconds=0,
    )
    source, log_reader = MemorySource(log), MemoryLogReader(log)
    async with trio.open_nursery() as nursery:
        upstream = Upstream(source, log_reader)
        addresses = await nursery.start(serve, settings, catalogue, upstream, trio.Event())
        yield LocalServer(
            f"ws://{addresses.subscribers}/ws",
            f"http://{addresses.ops}",
            log,
            source,
            log_reader,
            catalogue,
        )
        nursery.cancel_scope.cancel()
