"""The hub counts records read and messages sent."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import time

from trio.testing import MockClock

from tests.factories import TRADE, record
from tests.hub.hub_driver import dispatching, make_hub
from tests.hub.joins import join


async def test_unknown_event_type_is_delivered_and_counted(autojump_clock: MockClock) -> None:
    """Publishers may be newer than the server; another topic's type is unknown too."""
    hub = make_hub()
    client = join(hub, "*.*")
    values = [TRADE, b'{"type":"BRAND_NEW"}', b'{"type":"TOKEN_CREATED"}', b'{"type":[]}', b"{}"]
    async with dispatching(hub) as feeder:
        await feeder.publish(
            *(record(value=value, offset=offset) for offset, value in enumerate(values))
        )
    assert len(client.messages) == 5
    assert hub.stats.unknown_types == 4


async def test_failing_24_records_read_and_messages_sent_are_counted(
    autojump_clock: MockClock,
) -> None:
    """Records by topic, with or without subscribers; messages when sent."""
    hub = make_hub()
    for _ in range(3):
        join(hub, "*.trade")
    now_ms = int(time.time() * 1000)
    async with dispatching(hub) as feeder:
        await feeder.publish(
            record(timestamp=now_ms),
            record(offset=1, timestamp=now_ms - 20_000),
            record(topic="odin.social", timestamp=now_ms),
        )
        await feeder.publish(record(value=None, offset=2))
    assert hub.stats.received == {"odin.trades": 3, "odin.social": 1}
    assert hub.stats.messages_sent == 6
    assert hub.stats.cycle.samples == 2
    # Nobody asked for odin.social: how old its record is says nothing about a delivery.
    assert hub.stats.age.samples == 2
    assert 20 <= hub.stats.age.maximum < 3600
