"""`max_rate`: the newest message of each channel at a bounded rate, with the number skipped."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from odin_ws.hub import Conflation, Hub, SubscriptionOptions
from odin_ws.protocol.envelope import Dialect
from odin_ws.protocol.wire_format import Frames, wire_format
from odin_ws.steps import finish
from tests.factories import record
from tests.hub.hub_driver import Client, dispatching, make_hub
from tests.hub.joins import Interrupting, join


def join_at(hub: Hub, max_rate: float, *patterns: str, client: Client | None = None) -> Client:
    """A client that has subscribed to some patterns at a rate."""
    client = client or Client()
    hub.subscribe(client.subscriber, patterns, options=SubscriptionOptions.of(max_rate))
    return client


def numbers(client: Client) -> list[tuple[int, int, str]]:
    """Sequence number, skipped ones before it, and place of every message so far."""
    return [
        (message["seq"], message.get("skipped", 0), message["pos"]) for message in client.messages
    ]


def ahead(client: Client) -> list[bool]:
    """Whether each message so far says that an older one comes later."""
    return [message.get("ahead", False) for message in client.messages]


async def test_first_message_is_sent_at_once_then_the_newest_per_period(
    autojump_clock: MockClock,
) -> None:
    """Eight records in a second, at a rate of 2: three writes, the rest is skipped."""
    hub = make_hub()
    client = join_at(hub, 2, "*.trade")
    async with dispatching(hub) as feeder:
        for offset in range(7):
            await feeder.publish(record(offset=offset))
            await trio.sleep(0.15)
    # At 0, 0.5 and 1.0.
    assert numbers(client) == [(1, 0, "0-0"), (4, 2, "0-3"), (7, 2, "0-6")]
    assert hub.stats.messages_skipped == 4
    assert hub.stats.messages_sent == 3


async def test_held_message_is_sent_at_the_end_of_its_period(
    autojump_clock: MockClock,
) -> None:
    """Without another record: the dispatcher wakes up for it."""
    hub = make_hub()
    client = join_at(hub, 0.1, "BTC.trade")
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=0))
        await trio.sleep(1)
        await feeder.publish(record(offset=1))
        await trio.sleep(8.9)
        assert client.positions == ["0-0"]
        await trio.sleep(0.2)
        assert client.positions == ["0-0", "0-1"]


async def test_message_after_a_pause_is_sent_at_once(autojump_clock: MockClock) -> None:
    """The period has passed."""
    hub = make_hub()
    client = join_at(hub, 1, "BTC.trade")
    async with dispatching(hub) as feeder:
        for offset in range(3):
            await feeder.publish(record(offset=offset))
            assert len(client.positions) == offset + 1
            await trio.sleep(1.5)


async def test_newest_messages_of_all_channels_share_a_write(autojump_clock: MockClock) -> None:
    """A ticker of many channels at a rate of 1 is one write a second, in the hub's order."""
    hub = make_hub()
    client = join_at(hub, 1, "BTC.trade", "ETH.trade", "SOL.social")
    async with dispatching(hub) as feeder:
        for offset in range(4):
            await feeder.publish(
                record(b"ETH", partition=1, offset=offset),
                record(b"BTC", offset=offset),
                record(b"SOL", topic="odin.social", offset=offset),
            )
        await trio.sleep(1.1)
    assert len(client.writes) == 2
    assert [message["channel"] for message in client.messages] == [
        "ETH.trade",
        "BTC.trade",
        "SOL.social",
    ] * 2
    assert [skipped for _, skipped, _ in numbers(client)] == [0, 0, 0, 6, 0, 0]


async def test_subscribers_at_the_same_rate_share_bytes(autojump_clock: MockClock) -> None:
    """Held messages are kept and encoded once."""
    hub = make_hub()
    clients = [join_at(hub, 1, "*.trade") for _ in range(20)]
    late = Client()
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=0))
        await feeder.publish(record(offset=1), record(offset=2))
        join_at(hub, 1, "*.trade", client=late)
        await feeder.publish(record(offset=3))
        await trio.sleep(1.1)
    assert len({id(client.writes[1]) for client in clients}) == 1
    assert numbers(clients[0]) == [(1, 0, "0-0"), (4, 2, "0-3")]
    # It was not there for what the others had skipped, and had been sent nothing yet.
    assert numbers(late) == [(1, 0, "0-3")]


@pytest.mark.parametrize("others", [("BTC.trade",), ("BTC.*", "*.trade"), ("*.*",)])
async def test_overlapping_subscription_without_a_rate_wins(
    autojump_clock: MockClock, others: tuple[str, ...]
) -> None:
    """Every BTC message is sent once, and none counts as skipped."""
    hub = make_hub()
    client = join(hub, *others)
    join_at(hub, 1, "BTC.trade" if others != ("BTC.trade",) else "*.trade", client=client)
    async with dispatching(hub) as feeder:
        for offset in range(5):
            await feeder.publish(record(offset=offset))
        await trio.sleep(2)
    assert numbers(client) == [(offset + 1, 0, f"0-{offset}") for offset in range(5)]


async def test_highest_of_overlapping_rates_wins(autojump_clock: MockClock) -> None:
    """BTC at its own rate, the other tokens at theirs."""
    hub = make_hub()
    client = join_at(hub, 10, "BTC.trade")
    join_at(hub, 1, "*.trade", client=client)
    async with dispatching(hub) as feeder:
        for offset in range(20):
            await feeder.publish(record(offset=offset), record(b"ETH", partition=1, offset=offset))
            await trio.sleep(0.05)
        await trio.sleep(2)
    found = [message["channel"] for message in client.messages]
    assert found.count("BTC.trade") == 11
    assert found.count("ETH.trade") == 2
    assert sum(skipped for _, skipped, _ in numbers(client)) == 40 - 13
    assert numbers(client)[-1][0] == 40


async def test_message_ahead_of_a_held_one_is_marked(autojump_clock: MockClock) -> None:
    """BTC passes ETH in their partition only; after ETH's message nothing is held."""
    hub = make_hub()
    client = join(hub, "BTC.*")
    join_at(hub, 1, "*.trade", client=client)
    async with dispatching(hub) as feeder:
        await feeder.publish(record(b"ETH", offset=0), record(b"BTC", offset=1))
        await feeder.publish(record(b"ETH", offset=2))
        await feeder.publish(record(b"BTC", offset=0, topic="odin.social"))
        await feeder.publish(record(b"BTC", partition=1, offset=9))
        await feeder.publish(record(b"BTC", offset=3))
        assert hub.sent_positions(client.subscriber, ["odin.trades"]) == {
            "odin.trades": {0: 1, 1: 9}
        }
        await trio.sleep(1.1)
        await feeder.publish(record(b"BTC", offset=4))
    assert list(zip(client.positions, ahead(client), strict=True)) == [
        ("0-0", False),
        ("0-1", False),
        ("0-0", False),
        ("1-9", False),
        ("0-3", True),
        ("0-2", False),
        ("0-4", False),
    ]


async def test_message_ahead_of_a_replaced_one_is_not_marked(
    autojump_clock: MockClock,
) -> None:
    """Only the newest held message counts: the others are skipped."""
    hub = make_hub()
    client = join(hub, "BTC.trade")
    join_at(hub, 1, "ETH.trade", client=client)
    async with dispatching(hub) as feeder:
        await feeder.publish(record(b"ETH", offset=0))
        await feeder.publish(record(b"ETH", offset=1))
        await feeder.publish(record(b"BTC", offset=2))
        await feeder.publish(record(b"ETH", offset=3))
        await feeder.publish(record(b"BTC", offset=4))
        await trio.sleep(1.1)
    assert list(zip(client.positions, ahead(client), strict=True)) == [
        ("0-0", False),
        ("0-2", True),
        ("0-4", True),
        ("0-3", False),
    ]
    assert [skipped for _, skipped, _ in numbers(client)] == [0, 0, 0, 1]


@pytest.mark.parametrize("frames", Frames)
async def test_batches_and_version_0_have_the_number_skipped(
    autojump_clock: MockClock, frames: Frames
) -> None:
    """Only version 1 has positions and so the mark."""
    hub = make_hub()
    clients = [Client(wire_format(dialect, frames)) for dialect in Dialect]
    for client in clients:
        join(hub, "BTC.trade", client=client)
        join_at(hub, 1, "ETH.trade", client=client)
    async with dispatching(hub) as feeder:
        for offset in range(3):
            await feeder.publish(record(b"ETH", offset=2 * offset))
            await feeder.publish(record(b"BTC", offset=2 * offset + 1))
        await trio.sleep(1.1)
    for dialect, client in zip(Dialect, clients, strict=True):
        messages = client.messages
        assert [message["seq"] for message in messages] == [1, 2, 3, 4, 6]
        assert [message.get("skipped", 0) for message in messages] == [0, 0, 0, 0, 1]
        marks = [bool(dialect)] * 2
        assert [message.get("ahead", False) for message in messages] == [
            False,
            False,
            *marks,
            False,
        ]


@pytest.mark.parametrize("change", ["subscribe", "unsubscribe", "settle"])
async def test_held_messages_precede_the_ack_of_a_change(
    autojump_clock: MockClock, change: str
) -> None:
    """The ack's positions cover them; the period restarts."""
    hub = make_hub()
    client = join_at(hub, 1, "*.trade")
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=0))
        await feeder.publish(record(offset=1))
        await feeder.publish(record(offset=2))
        await trio.sleep(0.5)
        match change:
            case "subscribe":
                hub.subscribe(client.subscriber, ["*.social"])
            case "unsubscribe":
                hub.unsubscribe(client.subscriber, ["*.trade"])
            case _:
                hub.settle(client.subscriber)
        assert numbers(client) == [(1, 0, "0-0"), (3, 1, "0-2")]
        await feeder.publish(record(offset=3))
        await trio.sleep(0.9)
        assert len(client.writes) == 2
        await trio.sleep(0.2)
    assert client.positions == ["0-0", "0-2", *([] if change == "unsubscribe" else ["0-3"])]


async def test_answer_releases_no_held_message(autojump_clock: MockClock) -> None:
    """Frequent pings do not raise the rate."""
    hub = make_hub()
    client = join_at(hub, 1, "*.trade")
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=0))
        await feeder.publish(record(offset=1))
        hub.flush(client.subscriber)
        assert client.positions == ["0-0"]


async def test_new_rate_of_a_pattern_replaces_the_old(
    autojump_clock: MockClock,
) -> None:
    """A subscription without a rate ends it."""
    hub = make_hub()
    client = join_at(hub, 0.1, "*.trade")
    join_at(hub, 1, "*.trade", client=client)
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=0))
        await feeder.publish(record(offset=1))
        await trio.sleep(1.1)
        assert client.positions == ["0-0", "0-1"]
        join(hub, "*.trade", client=client)
        assert client.subscriber.options is None
        assert client.subscriber.paces is None
        await feeder.publish(record(offset=2))
        await feeder.publish(record(offset=3))
    assert client.positions == ["0-0", "0-1", "0-2", "0-3"]
    assert client.subscriber.patterns == {"*.trade"}


async def test_held_messages_are_bounded_in_bytes(autojump_clock: MockClock) -> None:
    """With a new channel each time, the excess is sent early."""
    hub = make_hub(cycle_bytes=1000)
    client = join_at(hub, 0.1, "*.trade")
    async with dispatching(hub) as feeder:
        for number in range(100):
            await feeder.publish(record(b"T%d" % number, offset=number))
    assert len(client.messages) > 60
    assert sum(skipped for _, skipped, _ in numbers(client)) == 0


async def test_slow_client_at_a_rate_gets_one_sum_of_skipped(autojump_clock: MockClock) -> None:
    """With `latest`, the skips of the rate and of the send queue are added, in order."""
    hub = make_hub()
    client = join_at(hub, 1, "ETH.trade")
    join(hub, "BTC.trade", client=client)
    behind = False
    client.subscriber.conflation = Conflation(lambda: behind, 1 << 20, lambda: None)
    async with dispatching(hub) as feeder:
        await feeder.publish(record(b"ETH", offset=0))
        behind = True
        for offset in range(1, 7, 2):
            await feeder.publish(record(b"ETH", offset=offset), record(b"BTC", offset=offset + 1))
        await trio.sleep(1.1)
        behind = False
        hub.release(client.subscriber)
    # Skipped: two of each.
    assert numbers(client) == [(1, 0, "0-0"), (6, 4, "0-5"), (7, 0, "0-6")]
    assert ahead(client) == [False] * 3
    assert hub.stats.messages_skipped == 4


async def test_conflated_message_ahead_of_a_held_one_is_marked(
    autojump_clock: MockClock,
) -> None:
    """Conflation keeps the mark."""
    hub = make_hub()
    client = join_at(hub, 1, "ETH.trade")
    join(hub, "BTC.trade", client=client)
    behind = True
    async with dispatching(hub) as feeder:
        await feeder.publish(record(b"ETH", offset=0))
        client.subscriber.conflation = Conflation(lambda: behind, 1 << 20, lambda: None)
        await feeder.publish(record(b"ETH", offset=1), record(b"BTC", offset=2))
        hub.release(client.subscriber)
    assert list(zip(client.positions, ahead(client), strict=True)) == [
        ("0-0", False),
        ("0-2", True),
    ]


async def test_messages_at_a_rate_cannot_be_resent(
    autojump_clock: MockClock,
) -> None:
    """A held message's number differs from its place in the hub's order."""
    hub = make_hub()
    client = join_at(hub, 1, "*.trade")
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=0))
        await feeder.publish(record(offset=1))
        assert finish(hub.sent(client.subscriber)) == (2, [])


async def test_ended_subscriber_is_dropped(autojump_clock: MockClock) -> None:
    """It is not written to, and the dispatcher does not wake up for it."""
    hub = make_hub()
    client = join_at(hub, 1, "*.trade")
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=0))
        await feeder.publish(record(offset=1))
        finish(hub.leave(client.subscriber))
        await trio.sleep(2)
        await feeder.publish(record(offset=2))
    assert client.positions == ["0-0"]
    assert client.subscriber.paces is None
    assert len(hub.index) == 0


async def test_records_during_a_cycle_are_held_back(autojump_clock: MockClock) -> None:
    """A release already written in this cycle is not written again."""
    hub = make_hub()
    client = Client()
    async with dispatching(hub) as feeder:

        def put() -> None:
            feeder.put(record(offset=1))

        join(hub, "*.*", client=Interrupting(put))
        join_at(hub, 1, "*.trade", client=client)
        await feeder.publish(record(offset=0))
        await wait_all_tasks_blocked()
        assert client.positions == ["0-0"]
        await trio.sleep(1.1)
    assert client.positions == ["0-0", "0-1"]
