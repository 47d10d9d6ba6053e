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


def step(hub: Hub, *keys: bytes, offset: int) -> None:
    """Dispatch a record of each key, and write all pending messages."""
    fan_out = FanOut(hub.index, hub.pacer, hub.stats)
    records = [record(key, offset=offset + number) for number, key in enumerate(keys)]
    hub.ingest.take(deque([Batch(records)]), fan_out.add, 1 << 20)
    for subscriber in fan_out.distribute():
        hub.flush(subscriber)


def holding(channels: int) -> tuple[Hub, Subscriber]:
    """A client that holds a message of each channel, and gets those of one channel at once."""
    hub, subscriber = make_hub(), Client().subscriber
    hub.subscribe(subscriber, ["*.trade"], options=SubscriptionOptions.of(0.1))
    hub.subscribe(subscriber, ["NOW.trade"])
    step(hub, b"FIRST", offset=0)
    hub.pacer.release(trio.current_time())
    hub.flush(subscriber)
    step(hub, *(b"T%d" % number for number in range(channels)), offset=1)
    return hub, subscriber


async def test_work_of_a_step_does_not_grow_with_held_messages(
    autojump_clock: MockClock,  # noqa: ARG001 -- the test runs under it
) -> None:
    """Clients with a low rate hold thousands of messages; each step went through all of them."""

    def work_beside(channels: int) -> int:
        hub, _ = holding(channels)
        with instructions() as count:
            for number in range(10):
                step(hub, b"NOW", b"T%d" % number, offset=10_000 + 2 * number)
        return count.value

    # The first of the steps computes the lowest offsets once.
    assert work_beside(MANY) <= work_beside(FEW) + 30 * (MANY - FEW)


async def test_step_changes_held_messages_in_place(
    autojump_clock: MockClock,  # noqa: ARG001 -- the test runs under it
) -> None:
    """Copying them in each step took 7 ms for 100 clients with 5,000 held messages each."""
    hub, subscriber = holding(FEW)
    assert subscriber.paces is not None
    (pace,) = subscriber.paces.values()
    held = pace.held
    step(hub, b"NOW", b"T1", b"NEW", offset=10_000)
    assert pace.held is held
    assert len(held.newest) == FEW + 1


async def test_clients_that_no_longer_hold_the_same_have_their_own_messages(
    autojump_clock: MockClock,  # noqa: ARG001 -- the test runs under it
) -> None:
    """Three share what they hold; one gets it early, and one more also holds another channel."""
    hub = make_hub()
    clients = [Client() for _ in range(3)]
    for client in clients:
        hub.subscribe(client.subscriber, ["*.trade"], options=SubscriptionOptions.of(0.1))
    step(hub, b"FIRST", offset=0)
    hub.pacer.release(trio.current_time())
    for client in clients:
        hub.flush(client.subscriber)
    step(hub, b"A", offset=1)
    held = {id(pace.held) for c in clients for pace in (c.subscriber.paces or {}).values()}
    assert len(held) == 1
    hub.settle(clients[0].subscriber)
    step(hub, b"B", offset=2)
    for client in clients:
        hub.settle(client.subscriber)
        assert client.positions == ["0-0", "0-1", "0-2"]


async def test_message_of_many_rates_is_added_once(
    autojump_clock: MockClock,  # noqa: ARG001 -- the test runs under it
) -> None:
    """The rates of a pattern with the same filter share their new messages."""

    def work_with(rates: int) -> int:
        hub = make_hub()
        for option in ALL_RATES[:rates]:
            hub.subscribe(Client().subscriber, ["*.trade"], options=option)
        fan_out = FanOut(hub.index, hub.pacer, hub.stats)
        batch = Batch([record(b"A", offset=number) for number in range(100)])
        with instructions() as count:
            hub.ingest.take(deque([batch]), fan_out.add, 1 << 20)
        return count.value

    assert work_with(100) <= 1.01 * work_with(1)
