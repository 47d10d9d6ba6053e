"""Each subscriber gets exactly its records: once, in order, numbered, in its dialect."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import pytest
from trio.testing import MockClock

from odin_ws.protocol.envelope import Dialect
from odin_ws.protocol.wire_format import wire_format
from tests.factories import record
from tests.hub.hub_driver import Client, dispatching, make_hub
from tests.hub.joins import join


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["BTC.trade"], ["0-0"]),
        (["*.trade"], ["0-0", "0-1"]),
        (["BTC.*"], ["0-0", "1-0"]),
        (["*.*"], ["0-0", "0-1", "1-0", "1-1"]),
        (["BTC.social", "ETH.trade"], ["0-1", "1-0"]),
        (["SOL.trade"], []),
    ],
)
async def test_a_subscriber_gets_what_its_patterns_name(
    autojump_clock: MockClock, patterns: list[str], expected: list[str]
) -> None:
    """Each pattern brings the records of its channels, and no others."""
    hub = make_hub()
    client = join(hub, *patterns)
    async with dispatching(hub) as feeder:
        await feeder.publish(
            record(b"BTC", offset=0),
            record(b"ETH", offset=1),
            record(b"BTC", topic="odin.social", partition=1, offset=0),
            record(b"ETH", topic="odin.social", partition=1, offset=1),
        )
    assert client.positions == expected


async def test_failing_2_a_record_in_several_audiences_arrives_once(
    autojump_clock: MockClock,
) -> None:
    """Overlapping patterns do not multiply a record."""
    hub = make_hub()
    client = join(hub, "BTC.trade", "*.trade", "BTC.*", "*.*")
    async with dispatching(hub) as feeder:
        await feeder.publish(*(record(offset=offset) for offset in range(3)))
    assert client.positions == ["0-0", "0-1", "0-2"]


async def test_records_of_several_channels_come_in_the_order_of_their_arrival(
    autojump_clock: MockClock,
) -> None:
    """Merging a subscriber's audiences does not sort its records by channel."""
    hub = make_hub()
    channels = ["BTC.trade", "ETH.trade", "SOL.social", "ETH.trade", "BTC.trade", "SOL.social"]
    one_by_one = join(hub, "SOL.social", "BTC.trade", "ETH.trade")
    overlapping = join(hub, "ETH.*", "*.trade", "SOL.social", "BTC.trade")
    async with dispatching(hub) as feeder:
        await feeder.publish(
            *(
                record(
                    channel.partition(".")[0].encode(),
                    topic="odin.trades" if channel.endswith("trade") else "odin.social",
                    offset=offset,
                )
                for offset, channel in enumerate(channels)
            )
        )
    assert [one["channel"] for one in one_by_one.messages] == channels
    assert [one["channel"] for one in overlapping.messages] == channels


async def test_failing_5_sequence_numbers_count_a_connections_messages_without_a_hole(
    autojump_clock: MockClock,
) -> None:
    """Whatever cycles and channels messages come from, they are numbered from 1 on, each once."""
    hub = make_hub()
    early, late = join(hub, "*.*"), Client()
    async with dispatching(hub) as feeder:
        await feeder.publish(*(record(offset=offset) for offset in range(3)))
        join(hub, "*.*", client=late)
        await feeder.publish(*(record(offset=offset) for offset in range(3, 5)))
    assert [one["seq"] for one in early.messages] == [1, 2, 3, 4, 5]
    assert [one["seq"] for one in late.messages] == [1, 2]


async def test_failing_9_a_key_with_dots_reaches_its_channel(autojump_clock: MockClock) -> None:
    """A token may contain dots, and even look like another token's channel."""
    hub = make_hub()
    dotted, other = join(hub, "a.b.trade"), join(hub, "a.trade", "b.trade", "a.b.social")
    async with dispatching(hub) as feeder:
        await feeder.publish(record(b"a.b"))
    assert [one["channel"] for one in dotted.messages] == ["a.b.trade"]
    assert other.messages == []


async def test_each_subscriber_is_spoken_to_in_its_dialect(autojump_clock: MockClock) -> None:
    """Neighbours with the same records but other envelopes do not get each other's bytes."""
    hub = make_hub()
    old, new = Client(wire_format(Dialect.V0)), Client(wire_format(Dialect.V1))
    for client in (old, new):
        join(hub, "BTC.trade", client=client)
    async with dispatching(hub) as feeder:
        await feeder.publish(record())
    assert [one["type"] for one in (*old.messages, *new.messages)] == ["price:update", "message"]


async def test_failing_28_an_envelope_is_written_once_however_many_subscribers(
    autojump_clock: MockClock,
) -> None:
    """Who gets the same records under the same numbers gets the very same bytes."""
    hub = make_hub()
    clients = [join(hub, "BTC.trade") for _ in range(100)]
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=0), record(offset=1))
    assert len({id(client.writes[0]) for client in clients}) == 1


async def test_subscribers_of_the_same_overlapping_patterns_share_their_bytes_too(
    autojump_clock: MockClock,
) -> None:
    """A merged list is made once for all who need it."""
    hub = make_hub()
    clients = [join(hub, "BTC.trade", "*.trade", "BTC.*") for _ in range(10)]
    async with dispatching(hub) as feeder:
        await feeder.publish(record(b"BTC"), record(b"ETH", offset=1))
    assert len({id(client.writes[0]) for client in clients}) == 1
