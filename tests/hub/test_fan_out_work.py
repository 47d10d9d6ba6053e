"""The work of a step grows with its messages, not with their square."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import cycle, islice

import pytest
import trio
from trio.testing import MockClock

from odin_ws.hub import PLAIN, Hub, Subscriber, SubscriptionOptions
from odin_ws.hub.fan_out import FanOut
from odin_ws.protocol.filters import read_filter
from odin_ws.records import Batch
from tests.bench.counting import instructions
from tests.factories import record
from tests.hub.hub_driver import Client, make_hub

Act = Callable[[Hub, Subscriber, int], None]

# Four times the names and messages: quadratic work would be 16 times as much.
FEW = 100
MANY = 400
LINEAR = 6.0

ALL_RATES = [SubscriptionOptions.of(tenths / 10) for tenths in range(1, 200)]
FILTERED = SubscriptionOptions.of(None, read_filter({"field": "type", "exists": True}))


def take_and_release(hub: Hub, _subscriber: Subscriber, channels: int) -> None:
    """Dispatch two records of each channel, and release what a rate holds."""
    for _ in range(2):
        fan_out = FanOut(hub.index, hub.pacer, hub.stats)
        records = [record(f"T{number}".encode(), offset=number) for number in range(channels)]
        hub.ingest.take(deque([Batch(records)]), fan_out.add, 1 << 20)
        fan_out.distribute()
    hub.pacer.release(trio.current_time() + 60)
    hub.pacer.mark()


def take_early(hub: Hub, subscriber: Subscriber, channels: int) -> None:
    """Dispatch, and release everything early, as a command of the client does."""
    fan_out = FanOut(hub.index, hub.pacer, hub.stats)
    records = [record(f"T{number}".encode(), offset=number) for number in range(channels)]
    hub.ingest.take(deque([Batch(records)]), fan_out.add, 1 << 20)
    fan_out.distribute()
    hub.settle(subscriber)


def work(act: Act, options: list[SubscriptionOptions], names: int) -> int:
    """Count the instructions for a client with this many names, each with the next options."""
    hub, client = make_hub(), Client()
    for number, option in enumerate(islice(cycle(options), names)):
        hub.subscribe(client.subscriber, [f"T{number}.trade"], options=option)
    with instructions() as count:
        act(hub, client.subscriber, names)
    return count.value


@pytest.mark.parametrize("act", [take_and_release, take_early])
@pytest.mark.parametrize(
    "options",
    [[PLAIN], [FILTERED], ALL_RATES[9:10], ALL_RATES, [PLAIN, FILTERED, *ALL_RATES]],
    ids=["plain", "filtered", "one rate", "all rates", "mixed"],
)
async def test_work_of_a_client_with_many_names_is_linear(
    autojump_clock: MockClock,  # noqa: ARG001 -- the test runs under it
    act: Act,
    options: list[SubscriptionOptions],
) -> None:
    """A step of 200 messages blocked the event loop for 9 s, with 100 clients at all rates."""
    assert work(act, options, MANY) <= LINEAR * work(act, options, FEW)
