"""The hub reports what it reads and its positions."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from trio.testing import MockClock

from odin_ws.records import Assignment, TopicPartition
from tests.factories import record
from tests.hub.hub_driver import dispatching, make_hub


async def test_assignment_replaces_positions_and_partitions(autojump_clock: MockClock) -> None:
    """None of an earlier assignment is left."""
    hub = make_hub()
    async with dispatching(hub) as feeder:
        await feeder.publish(
            Assignment({TopicPartition("odin.trades", 1): 4, TopicPartition("odin.trades", 0): -1})
        )
        assert hub.stream.partitions_of(["odin.trades", "odin.social"]) == {
            "odin.trades": [0, 1],
            "odin.social": [],
        }
        assert hub.stream.positions_of(["odin.trades"]) == {"odin.trades": {0: -1, 1: 4}}
        assert not hub.stream.is_partial
        await feeder.publish(Assignment({TopicPartition("odin.social", 3): 9}, partial=True))
        assert hub.stream.positions_of(["odin.trades", "odin.social"]) == {
            "odin.trades": {},
            "odin.social": {3: 9},
        }
        assert hub.stream.is_partial


async def test_reported_positions_do_not_change(
    autojump_clock: MockClock,
) -> None:
    """An ack keeps the offsets of its moment."""
    hub = make_hub()
    async with dispatching(hub) as feeder:
        await feeder.publish(record(offset=1))
        reported = hub.stream.positions_of(["odin.trades"])
        await feeder.publish(record(offset=2))
    assert reported == {"odin.trades": {0: 1}}
