"""A hub that runs, and clients of it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

from odin_ws.catalogue import default_catalogue
from odin_ws.history import History, SnapshotCache
from odin_ws.hub import Dispatcher, Hub, Ingest, Stream, Subscriber
from odin_ws.protocol.wire_format import WireFormat
from odin_ws.records import Assignment, Batch, HistoryEnd, Item, Record
from tests.wire_decoder import messages

__all__ = ["Client", "Feeder", "dispatching", "make_hub"]


def make_hub(
    interval: float = 0.0,
    max_record_bytes: int = 1 << 20,
    cycle_bytes: int = 1 << 20,
    retention_bytes: int = 1 << 30,
    **callbacks: Callable[..., None],
) -> Hub:
    """A hub for the platform's topics. `callbacks`: those of its ingest."""
    catalogue = default_catalogue()
    history = History(catalogue, retention_bytes, max_age=math.inf)
    ingest = Ingest(
        Stream(catalogue),
        history,
        SnapshotCache(catalogue, max_bytes=1 << 30),
        max_record_bytes,
        **callbacks,
    )
    return Hub(ingest, interval=interval, cycle_bytes=cycle_bytes)


class Client:
    """A subscriber that keeps what it is sent. Override `received` to act on it."""

    def __init__(self, form: WireFormat | None = None) -> None:
        self.writes: list[bytes] = []
        self.subscriber = Subscriber(self._deliver, form)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """Every message so far."""
        return messages(*self.writes)

    @property
    def positions(self) -> list[str]:
        """`partition-offset` of every message so far."""
        return [message["pos"] for message in self.messages]

    def received(self) -> None:
        """Called after each write."""

    def _deliver(self, data: bytes) -> None:
        self.writes.append(data)
        self.received()


class Feeder:
    """The source's end of the hub's channel, which is never full."""

    def __init__(self, send: trio.MemorySendChannel[Item]) -> None:
        self._send = send

    def put(self, *items: Record | Assignment | HistoryEnd) -> None:
        """Put one batch of records, or an assignment, into the channel; the hub has not seen it."""
        for item in items:
            if not isinstance(item, Record):
                self._send.send_nowait(item)
        records = [item for item in items if isinstance(item, Record)]
        if records:
            self._send.send_nowait(Batch(records))

    async def publish(self, *items: Record | Assignment | HistoryEnd) -> None:
        """Put one batch in and let the hub do what it does without time passing."""
        self.put(*items)
        await wait_all_tasks_blocked()


@asynccontextmanager
async def dispatching(hub: Hub) -> AsyncIterator[Feeder]:
    """Run the hub's dispatcher for the length of the block."""
    send, receive = trio.open_memory_channel[Item](math.inf)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Dispatcher(hub).run, receive)
        yield Feeder(send)
        nursery.cancel_scope.cancel()
