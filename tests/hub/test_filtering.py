"""`where`: a filter is evaluated once per record for all its subscribers."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from odin_ws.hub import Hub, SubscriptionOptions
from odin_ws.protocol.filters import Fields, Filter, read_filter
from odin_ws.records import Record
from odin_ws.steps import finish
from tests.factories import record
from tests.hub.hub_driver import Client, dispatching, make_hub
from tests.hub.joins import join

LARGE = {"field": "data.amount", "gte": 1000}
BUYS = {"field": "data.side", "eq": "buy"}


def join_where(
    hub: Hub,
    where: Any,
    *patterns: str,
    max_rate: float | None = None,
    client: Client | None = None,
) -> Client:
    """A client that has subscribed to some patterns with a filter."""
    client = client or Client()
    shared = hub.filters.share(read_filter(where))
    options = SubscriptionOptions.of(max_rate, shared)
    hub.subscribe(client.subscriber, patterns, options=options)
    return client


def trade(amount: str, offset: int, side: str = "buy", token: bytes = b"BTC") -> Record:
    """A record of a trade."""
    value = b'{"type":"","data":{"amount":"%b","side":"%b"}}' % (amount.encode(), side.encode())
    return record(token, value, offset=offset)


async def test_only_matching_records_are_sent(autojump_clock: MockClock) -> None:
    """Numbers have no gap; positions also cover the records left out."""
    hub = make_hub()
    large, all_of_it = join_where(hub, LARGE, "*.trade"), join(hub, "*.trade")
    async with dispatching(hub) as feeder:
        await feeder.publish(trade("1500.2", 0), trade("9", 1), trade("1000", 2), trade("x", 3))
    assert [(message["seq"], message["pos"]) for message in large.messages] == [
        (1, "0-0"),
        (2, "0-2"),
    ]
    assert len(all_of_it.messages) == 4
    assert hub.sent_positions(large.subscriber, ["odin.trades"]) == {"odin.trades": {0: 3}}


async def test_shared_filter_is_evaluated_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over patterns, rates and clients; the value is parsed once, and only for a filter."""
    parsed: list[bytes] = []
    original = Fields.__init__

    def count(self: Fields, value: bytes) -> None:
        parsed.append(value)
        original(self, value)

    monkeypatch.setattr(Fields, "__init__", count)
    hub = make_hub()
    clients = [join_where(hub, LARGE, "*.trade") for _ in range(20)]
    clients.append(join_where(hub, {"and": [LARGE, LARGE]}, "BTC.trade", "*.*"))
    clients.append(join_where(hub, LARGE, "*.trade", max_rate=1))
    join_where(hub, {"or": [LARGE, BUYS]}, "*.trade")
    async with dispatching(hub) as feeder:
        await feeder.publish(trade("1500.2", 0))
        assert hub.stats.filter_comparisons == 1 + 2
        assert len(parsed) == 1
        await feeder.publish(record(topic="odin.social"))
        assert hub.stats.filter_comparisons == 1 + 2 + 1
    assert all(client.positions == ["0-0"] for client in clients)
    assert len({id(client.writes[0]) for client in clients[:20]}) == 1
    assert len(hub.filters) == 2


async def test_record_that_meets_any_filter_is_sent_once(
    autojump_clock: MockClock,
) -> None:
    """In order, whichever filters it meets."""
    hub = make_hub()
    client = join_where(hub, LARGE, "*.trade")
    join_where(hub, BUYS, "BTC.trade", client=client)
    join(hub, "ETH.trade", client=client)
    async with dispatching(hub) as feeder:
        await feeder.publish(
            trade("1", 0, "sell"),
            trade("1", 1, "buy"),
            trade("2000", 2, "buy"),
            trade("2000", 3, "sell"),
            trade("1", 4, "sell", b"ETH"),
            trade("1", 5, "buy", b"SOL"),
        )
    assert client.positions == ["0-1", "0-2", "0-3", "0-4"]


async def test_new_filter_of_a_pattern_replaces_the_old(
    autojump_clock: MockClock,
) -> None:
    """The old one is dropped with its last subscriber; without a filter every record is sent."""
    hub = make_hub()
    client = join_where(hub, LARGE, "*.trade")
    async with dispatching(hub) as feeder:
        await feeder.publish(trade("1", 0))
        join_where(hub, BUYS, "*.trade", client=client)
        assert len(hub.filters) == 1
        await feeder.publish(trade("1", 1), trade("2000", 2, "sell"))
        join(hub, "*.trade", client=client)
        assert len(hub.filters) == 0
        await feeder.publish(trade("1", 3, "sell"))
    assert client.positions == ["0-1", "0-3"]


async def test_filters_with_the_same_matches_share_bytes(
    autojump_clock: MockClock,
) -> None:
    """The same list is encoded once for any number of filters."""
    hub = make_hub()
    filters = [{"field": "data.amount", "gte": number} for number in (1, 10, 100, 5000)]
    clients = [join_where(hub, where, "*.trade", "BTC.*") for where in filters]
    async with dispatching(hub) as feeder:
        await feeder.publish(trade("2000", 0), trade("300", 1))
    assert len({id(client.writes[0]) for client in clients[:3]}) == 1
    assert [client.positions for client in clients] == [["0-0", "0-1"]] * 3 + [[]]


async def test_filter_is_dropped_with_its_last_subscriber(autojump_clock: MockClock) -> None:
    """After an unsubscribe or the end of the connection."""
    hub = make_hub()
    first, second = join_where(hub, LARGE, "*.trade"), join_where(hub, BUYS, "BTC.trade")
    assert (len(hub.filters), len(hub.index)) == (2, 2)
    hub.unsubscribe(first.subscriber, ["*.trade"])
    assert (len(hub.filters), len(hub.index)) == (1, 1)
    finish(hub.leave(second.subscriber))
    assert (len(hub.filters), len(hub.index)) == (0, 0)
    assert "BTC.trade" not in hub.index


async def test_rate_sends_the_newest_matching_message(
    autojump_clock: MockClock,
) -> None:
    """A record that does not match replaces nothing and does not count as skipped."""
    hub = make_hub()
    client = join_where(hub, LARGE, "*.trade", max_rate=1)
    async with dispatching(hub) as feeder:
        for offset, amount in enumerate(["2000", "1", "3000", "4000", "5"]):
            await feeder.publish(trade(amount, offset))
        await trio.sleep(1.1)
    assert [(message["seq"], message["pos"]) for message in client.messages] == [
        (1, "0-0"),
        (3, "0-3"),
    ]
    assert client.messages[1]["skipped"] == 1


async def test_newer_message_by_a_filter_skips_the_held_one(
    autojump_clock: MockClock,
) -> None:
    """A ticker does not go back: the newer message counts the held one as skipped."""
    hub = make_hub()
    client = join_where(hub, LARGE, "*.trade")
    hub.subscribe(client.subscriber, ["BTC.trade"], options=SubscriptionOptions.of(1))
    async with dispatching(hub) as feeder:
        await feeder.publish(trade("1", 0))
        await feeder.publish(trade("2", 1))
        await feeder.publish(trade("3", 2))
        await feeder.publish(trade("4000", 3))
        await feeder.publish(trade("5", 4))
        await trio.sleep(2)
    received = [
        (message["seq"], message.get("skipped", 0), message["pos"]) for message in client.messages
    ]
    assert received == [(1, 0, "0-0"), (4, 2, "0-3"), (5, 0, "0-4")]
    assert not any("ahead" in message for message in client.messages)
    assert hub.stats.messages_skipped == 2


async def test_sent_messages_are_found_by_number(autojump_clock: MockClock) -> None:
    """Without the messages that the filter left out."""
    hub = make_hub()
    client = join_where(hub, LARGE, "*.trade")
    join(hub, "ETH.*", client=client)
    async with dispatching(hub) as feeder:
        await feeder.publish(trade("1", 0), trade("2000", 1), trade("3", 2, token=b"ETH"))
        first, found = finish(hub.sent(client.subscriber))
    again = {number: f"0-{one.record.offset}" for number, one in enumerate(found, first)}
    assert (
        again
        == {message["seq"]: message["pos"] for message in client.messages}
        == {1: "0-1", 2: "0-2"}
    )


async def test_comparisons_count_for_the_size_of_a_cycle(autojump_clock: MockClock) -> None:
    """So expensive filters leave time to other tasks."""
    hub = make_hub(cycle_bytes=64 << 10)
    several = [{"field": f"a{number}", "eq": number} for number in range(16)]
    clients = [
        join_where(hub, {"or": [*several[:15], {"field": "b", "eq": number}]}, "*.trade")
        for number in range(50)
    ]
    moved: list[int] = []
    async with dispatching(hub) as feeder:
        feeder.put(*(trade("1", offset) for offset in range(100)))
        while len(moved) < 100 and (not moved or moved[-1] < 99):
            await hub.stream.wait_moved()
            moved.append(hub.stream.positions["odin.trades"][0])
    # 50 filters of 16 comparisons: eleven records fill a cycle, else all would be in one.
    assert len(moved) >= 5
    assert hub.stats.filter_comparisons == 100 * 50 * 16
    assert not any(client.messages for client in clients)


async def test_equal_filters_are_one_object_while_used(autojump_clock: MockClock) -> None:
    """The registry keeps no unused filter."""
    hub = make_hub()
    shared = hub.filters.share(read_filter(LARGE))
    assert isinstance(shared, Filter)
    del shared
    assert len(hub.filters) == 0


async def test_newest_of_two_filters_at_one_rate_is_sent(autojump_clock: MockClock) -> None:
    """The subscription whose record came last has it, whichever was looked at last."""
    hub = make_hub()
    client = join_where(hub, LARGE, "BTC.trade", max_rate=1)
    join_where(hub, {"not": LARGE}, "*.trade", client=client, max_rate=1)
    async with dispatching(hub) as feeder:
        await feeder.publish(trade("2000", 0))
        await feeder.publish(trade("2000", 1), trade("1", 2), trade("2000", 3))
        await trio.sleep(1.1)
    assert [(message["pos"], message.get("skipped", 0)) for message in client.messages] == [
        ("0-0", 0),
        ("0-3", 2),
    ]
