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
async def test_subscriber_gets_the_records_of_its_patterns(
    autojump_clock: MockClock, patterns: list[str], expected: list[str]
) -> None:
    """And no others."""
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


async def test_failing_2_record_of_several_audiences_arrives_once(
    autojump_clock: MockClock,
) -> None:
    """Overlapping patterns do not multiply a record."""
    hub = make_hub()
    client = join(hub, "BTC.trade", "*.trade", "BTC.*", "*.*")
    async with dispatching(hub) as feeder:
        await feeder.publish(*(record(offset=offset) for offset in range(3)))
    assert client.positions == ["0-0", "0-1", "0-2"]


async def test_records_of_several_channels_keep_their_order(
    autojump_clock: MockClock,
) -> None:
    """The merge of audiences does not sort by channel."""
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
    assert [message["channel"] for message in one_by_one.messages] == channels
    assert [message["channel"] for message in overlapping.messages] == channels


async def test_failing_5_sequence_numbers_of_a_connection_have_no_gap(
    autojump_clock: MockClock,
) -> None:
    """From 1 on, each once, over all cycles and channels."""
    hub = make_hub()
    early, late = join(hub, "*.*"), Client()
    async with dispatching(hub) as feeder:
        await feeder.publish(*(record(offset=offset) for offset in range(3)))
        join(hub, "*.*", client=late)
        await feeder.publish(*(record(offset=offset) for offset in range(3, 5)))
    assert [message["seq"] for message in early.messages] == [1, 2, 3, 4, 5]
    assert [message["seq"] for message in late.messages] == [1, 2]


async def test_failing_9_key_with_dots_reaches_its_channel(autojump_clock: MockClock) -> None:
    """A token may contain dots, and may equal another token's channel."""
    hub = make_hub()
    dotted, other = join(hub, "a.b.trade"), join(hub, "a.trade", "b.trade", "a.b.social")
    async with dispatching(hub) as feeder:
        await feeder.publish(record(b"a.b"))
    assert [message["channel"] for message in dotted.messages] == ["a.b.trade"]
    assert other.messages == []


async def test_each_subscriber_gets_its_dialect(autojump_clock: MockClock) -> None:
    """Subscribers with the same records and different envelopes do not share bytes."""
    hub = make_hub()
    old, new = Client(wire_format(Dialect.V0)), Client(wire_format(Dialect.V1))
    for client in (old, new):
        join(hub, "BTC.trade", client=client)
    async with dispatching(hub) as feeder:
        await feeder.publish(record())
    assert [item["type"] for item in (*old.messages, *new.messages)] == ["price:update", "message"]


async def test_failing_28_envelope_is_encoded_once_for_all_subscribers(
    autojump_clock: MockClock,
) -> None:
    """Subscribers with the same records and numbers get the same bytes object."""
    hub = make_hub()
    clients = [join(hub, "BTC.trade") for _ in range(100)]
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=0), record(offset=1))
    assert len({id(client.writes[0]) for client in clients}) == 1


async def test_subscribers_of_the_same_overlapping_patterns_share_bytes(
    autojump_clock: MockClock,
) -> None:
    """Their merged list is made once."""
    hub = make_hub()
    clients = [join(hub, "BTC.trade", "*.trade", "BTC.*") for _ in range(10)]
    async with dispatching(hub) as feeder:
        await feeder.publish(record(b"BTC"), record(b"ETH", offset=1))
    assert len({id(client.writes[0]) for client in clients}) == 1
