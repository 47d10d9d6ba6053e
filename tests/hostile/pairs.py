"""`python -m tests.hostile.pairs`: CPU per record with clients that share no filter and no rate."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from itertools import count, islice, product
from typing import Final

import click
import trio

from odin_ws.hub import PLAIN, Hub, Subscriber, SubscriptionOptions
from odin_ws.hub.fan_out import FanOut
from odin_ws.protocol.filters import read_filter
from odin_ws.records import Batch
from tests.factories import record
from tests.hub.hub_driver import make_hub

__all__ = ["main"]

_STEP: Final = 10
_CHANNELS: Final = 5000

# Seconds between two steps: 1,000 records a second.
_PERIOD: Final = 0.01

_FILTERS: Final = 100


def _pairs(hub: Hub, slowest: float) -> Iterator[SubscriptionOptions]:
    """Yield pairs of a rate and a filter, evenly from all; every filter matches every record."""
    filters = [
        hub.filters.share(read_filter({"field": "type", "ne": str(number)}))
        for number in range(_FILTERS)
    ]
    rates = [tenths / 10 for tenths in range(1, 201) if tenths / 10 <= slowest]
    for filter_, rate in product(filters, rates):
        yield SubscriptionOptions.of(rate, filter_)


def _step(hub: Hub, numbers: Iterator[int], now: float) -> None:
    fan_out = FanOut(hub.index, hub.pacer, hub.stats)
    records = [
        record(b"T%d" % (number % _CHANNELS), offset=number) for number in islice(numbers, _STEP)
    ]
    hub.ingest.take(deque([Batch(records)]), fan_out.add, 1 << 20)
    subscribers = fan_out.distribute() + hub.pacer.release(now)
    hub.pacer.mark()
    for subscriber in subscribers:
        hub.flush(subscriber)
    hub.encoder.end()


async def _measure(clients: int, slowest: float | None) -> float:
    """Return the CPU per record in microseconds; `slowest`: the highest rate, None for no pairs."""
    hub, numbers = make_hub(), count()
    if slowest is None:
        options = [PLAIN] * clients
    else:
        every = list(_pairs(hub, slowest))
        options = [every[number * len(every) // clients] for number in range(clients)]
    for option in options:
        hub.subscribe(Subscriber(lambda _data: None), ["*.*"], options=option)
    # Clients with the lowest rates hold messages of all channels after a while.
    steps, warmup = (500, 600) if clients < 1000 else (50, 300)
    for number in range(warmup):
        _step(hub, numbers, number * _PERIOD)
    before = time.process_time()
    for number in range(warmup, warmup + steps):
        _step(hub, numbers, number * _PERIOD)
    return 1e6 * (time.process_time() - before) / steps / _STEP


@click.command(help=__doc__)
def main() -> None:
    """Measure and print a table."""
    click.echo("| clients | plain | own pair | own pair, at most 2 messages/s |\n|---|---|---|---|")
    for clients in (1, 100, 1000, 5000):
        figures = [trio.run(_measure, clients, slowest) for slowest in (None, 20.0, 2.0)]
        click.echo(f"| {clients:,} | " + " | ".join(f"{each:,.0f} us" for each in figures) + " |")


if __name__ == "__main__":
    main()
