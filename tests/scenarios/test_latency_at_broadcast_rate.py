"""The latency of records that are more frequent than cycles: fetcher and hub have one clock."""

from __future__ import annotations

from typing import Final

import attrs
import pytest
import trio
from trio.testing import MockClock

from odin_ws.catalogue import default_catalogue
from odin_ws.history import History, SnapshotCache
from odin_ws.hub import Hub, Ingest, Stream, Subscriber
from odin_ws.hub.dispatcher import Dispatcher
from odin_ws.kafka.fetcher import Fetcher
from odin_ws.records import Assignment, Batch, Item, Record
from tests.kafka.fetchers import FIRST, MAX_WAIT, SLOT
from tests.kafka.test_fetch_pace import TRAVEL, DistantCluster

# One `send()`.
_WRITE_SECONDS: Final = 12e-6

_VALUE: Final = b'{"type":"TRADE_EXECUTED","timestamp":1767609600000,"data":{}}'


@attrs.define(eq=False)
class Deliveries:
    """Subscribers whose writes take time, and the latencies of their messages."""

    clock: MockClock
    published_at: list[float] = attrs.field(factory=list)
    latencies: list[float] = attrs.field(factory=list)

    def subscriber(self) -> Subscriber:
        """Return another subscriber."""
        received = 0

        def deliver(data: bytes) -> None:
            nonlocal received
            self.clock.jump(_WRITE_SECONDS)
            for _ in range(data.count(b'"seq":')):
                self.latencies.append(trio.current_time() - self.published_at[received])
                received += 1

        return Subscriber(deliver)


def _hub() -> Hub:
    catalogue = default_catalogue()
    snapshots = SnapshotCache(catalogue, 1 << 20)
    ingest = Ingest(Stream(catalogue), History(catalogue, 1 << 20, 60), snapshots, 1 << 20)
    return Hub(ingest, interval=SLOT, cycle_bytes=1 << 20)


async def _pass_on(fetcher: Fetcher, channel: trio.MemorySendChannel[Item]) -> None:
    """Send what is fetched to the hub, as the source does."""
    while True:
        taken = await fetcher.take(None)
        if taken.records:
            records = [
                Record(FIRST.topic, 0, record.offset, 0, b"BTC", _VALUE) for record in taken.records
            ]
            await channel.send(Batch(records))


@pytest.mark.parametrize("subscribers", [1, 1000])
async def test_record_waits_half_a_slot_and_half_the_writes(
    autojump_clock: MockClock, subscribers: int
) -> None:
    """100 records a second, 20 cycles, writes of 12 us: nothing waits for a second clock.

    The next fetch is sent when the slot allows, not when the last write has ended.
    """
    cluster, hub, deliveries = DistantCluster({FIRST: 0}), _hub(), Deliveries(autojump_clock)
    fetcher = Fetcher(cluster, MAX_WAIT, SLOT)
    fetcher.apply((await cluster.metadata([FIRST.topic])).topics)
    fetcher.assign({FIRST: 0})
    for _ in range(subscribers):
        hub.subscribe(deliveries.subscriber(), ["BTC.trade"])
    send, inbox = trio.open_memory_channel[Item](8)
    await send.send(Assignment({FIRST: -1}))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetcher.run)
        nursery.start_soon(_pass_on, fetcher, send)
        nursery.start_soon(Dispatcher(hub).run, inbox)
        begun = trio.current_time()
        for number in range(500):
            await trio.sleep_until(begun + number / 100)
            deliveries.published_at.append(trio.current_time())
            cluster.publish(FIRST)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert len(deliveries.latencies) == 500 * subscribers
    writes = subscribers * _WRITE_SECONDS
    mean = sum(deliveries.latencies) / len(deliveries.latencies)
    assert mean <= SLOT / 2 + 2 * TRAVEL + writes / 2 + 0.001
    assert max(deliveries.latencies) <= SLOT + 2 * TRAVEL + writes + 0.001
