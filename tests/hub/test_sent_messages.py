"""Sent messages are found by their numbers, or reported as not kept."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import pytest
from trio.testing import MockClock

from odin_ws.hub import Conflation, Hub
from odin_ws.records import Assignment, TopicPartition
from odin_ws.steps import finish
from tests.factories import message, record
from tests.hub.hub_driver import Client, dispatching, make_hub
from tests.hub.joins import Interrupting, join

FIRST, SECOND = (TopicPartition("odin.trades", number) for number in (0, 1))


def sent_again(hub: Hub, client: Client) -> dict[int, str]:
    """Number and place of each message that can be sent again."""
    first, messages = finish(hub.sent(client.subscriber))
    return {
        number: f"{one.record.partition}-{one.record.offset}"
        for number, one in enumerate(messages, first)
    }


def received(client: Client) -> dict[int, str]:
    """Number and place of each message that came."""
    return {message["seq"]: message["pos"] for message in client.messages}


async def test_all_sent_messages_are_found(autojump_clock: MockClock) -> None:
    """Of the client's patterns, overlapping or not, and no others."""
    hub = make_hub()
    client = join(hub, "BTC.*", "*.trade")
    async with dispatching(hub) as feeder:
        assert sent_again(hub, client) == {}
        assert finish(hub.sent(client.subscriber))[0] == 1
        for offset in range(5):
            await feeder.publish(
                record(b"BTC", offset=offset),
                record(b"ETH", partition=1, offset=offset),
                record(b"BTC", topic="odin.social", partition=2, offset=offset),
                record(b"ETH", topic="odin.social", partition=3, offset=offset),
            )
    assert len(received(client)) == 15
    assert sent_again(hub, client) == received(client)


@pytest.mark.parametrize("change", ["subscribe", "unsubscribe", "replay", "skip", "assignment"])
async def test_search_ends_at_the_last_subscription_change(
    autojump_clock: MockClock, change: str
) -> None:
    """All messages since then are found, none before."""
    hub = make_hub()
    client = join(hub, "BTC.trade", "ETH.trade")
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=0), record(b"ETH", offset=1))
        match change:
            case "subscribe":
                hub.subscribe(client.subscriber, ["DOGE.trade"])
            case "unsubscribe":
                hub.unsubscribe(client.subscriber, ["ETH.trade"])
            case "replay":
                hub.replay(client.subscriber, [message("BTC", offset=0)])
            case "skip":
                conflation = Conflation(lambda: True, 1 << 20, lambda: None)
                client.subscriber.conflation = conflation
                conflation.add([message("BTC", offset=1)] * 4)
                hub.release(client.subscriber)
                client.subscriber.conflation = None
            case "assignment":
                await feeder.publish(Assignment({FIRST: 1}))
        before = client.subscriber.seq
        await feeder.publish(record(offset=2), record(offset=3))
    again = sent_again(hub, client)
    assert again == {before + 1: "0-2", before + 2: "0-3"}
    assert again.items() <= received(client).items()


async def test_messages_no_longer_kept_are_not_found(autojump_clock: MockClock) -> None:
    """The numbers of the others stay right."""
    hub = make_hub()
    client = join(hub, "*.trade")
    async with dispatching(hub) as feeder:
        await feeder.publish(*(record(offset=offset) for offset in range(5)))
        hub.history.trim(-1)
        assert len(sent_again(hub, client)) == 5
        hub.history.drop(FIRST)
        await feeder.publish(record(offset=5))
    assert sent_again(hub, client) == {6: "0-5"}


async def test_history_among_live_records_is_not_found(autojump_clock: MockClock) -> None:
    """An early subscriber was sent only the live records among it."""
    hub = make_hub()
    async with dispatching(hub) as feeder:
        await feeder.publish(Assignment({FIRST: 4, SECOND: -1}, history={FIRST: -1, SECOND: -1}))
        client = join(hub, "*.trade")
        await feeder.publish(record(partition=1, offset=0))
        await feeder.publish(*(record(offset=offset) for offset in range(3)))
        await feeder.publish(record(partition=1, offset=1))
    assert received(client) == {1: "1-0", 2: "1-1"}
    assert sent_again(hub, client).items() <= received(client).items()


async def test_due_messages_of_the_running_cycle_are_sent_first(autojump_clock: MockClock) -> None:
    """They have their numbers already."""
    hub = make_hub()
    asking = Client()
    found: list[dict[int, str]] = []
    join(hub, "*.*", client=Interrupting(lambda: found.append(sent_again(hub, asking))))
    join(hub, "*.trade", client=asking)
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=0), record(offset=1))
    assert found == [{1: "0-0", 2: "0-1"}] == [received(asking)]


async def test_conflated_messages_are_sent_first(autojump_clock: MockClock) -> None:
    """The replaced ones are not found: they were never sent."""
    hub = make_hub()
    client = join(hub, "*.*")
    behind = True
    client.subscriber.conflation = Conflation(lambda: behind, 1 << 20, lambda: None)
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=0), record(offset=1))
        again = sent_again(hub, client)
        assert received(client) == {2: "0-1"}
        assert again.items() <= received(client).items()
