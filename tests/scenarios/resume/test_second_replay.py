"""A replaying subscription on a connection that has live subscriptions."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from collections import Counter

import pytest
import trio
from trio.testing import MockClock

from odin_ws.records import TopicPartition
from odin_ws.settings import Settings
from odin_ws.testing.assertions import position_of
from odin_ws.testing.follower import Follower
from odin_ws.testing.scenario import Scenario, open_scenario

TRADES = "odin.trades"
RETAINED = [0, 1 << 20]


async def publish_all(scenario: Scenario, count: int, size: int = 3000) -> None:
    """Publish trades of 24 tokens, two of each partition."""
    for number in range(count):
        scenario.publish(f"T{number % 24}", "trade", [number, "x" * size])
    await trio.sleep(count / 1000 + 1)


def count_by_position(follower: Follower) -> Counter[tuple[TopicPartition, int]]:
    """Return how often each record was received."""
    return Counter(map(position_of, follower.messages))


def positions_of_all(scenario: Scenario) -> set[tuple[TopicPartition, int]]:
    """Return partition and offset of each record."""
    return {
        (TopicPartition(record.topic, record.partition), record.offset)
        for record in scenario.log.records
    }


@pytest.mark.parametrize("retained", RETAINED)
@pytest.mark.parametrize("live", ["*.trade", "T1.trade"])
async def test_interrupted_second_replay_is_resumed_completely(
    autojump_clock: MockClock, nursery: trio.Nursery, retained: int, live: str
) -> None:
    """The client's positions never pass records that one of its subscriptions has not received."""
    settings = Settings(ws_history_bytes=retained, ws_positions_interval_seconds=1)
    async with open_scenario(settings) as scenario:
        await publish_all(scenario, 300)
        follower = Follower(live, pause=0.02)
        await follower.connect(nursery, scenario, capacity=5000)
        await trio.sleep(1)
        await follower.send("subscribe", channels=["*.trade"], since_ms=0, positions=True)
        for _ in range(5):
            await publish_all(scenario, 24, size=10)
        assert follower.catching_up
        received = len(follower.messages)
        assert 0 < received < 300
        follower.break_off()
        assert not [item for item in follower.items if item["type"] == "replay_complete"]
        follower.pause = 0
        await follower.connect(nursery, scenario)
        await trio.sleep(10)
        ack = next(item for item in follower.items if item["type"] == "resume_ack")
        assert ack["recovered"]
        found = count_by_position(follower)
        assert found.keys() == positions_of_all(scenario)
        # The second connection got no record twice, and none that was replayed on the first.
        assert max(found.values()) <= 2
        replayed = [message for message in follower.messages[:received] if message.get("replay")]
        assert all(found[position_of(one)] == 1 for one in replayed)


@pytest.mark.parametrize("retained", RETAINED)
async def test_second_replay_ends_with_positions(
    autojump_clock: MockClock, nursery: trio.Nursery, retained: int
) -> None:
    """No positions notice is sent during it."""
    settings = Settings(ws_history_bytes=retained, ws_positions_interval_seconds=1)
    async with open_scenario(settings) as scenario:
        await publish_all(scenario, 300)
        follower = Follower("T1.trade", pause=0.02)
        await follower.connect(nursery, scenario, capacity=5000)
        await trio.sleep(1)
        await follower.send("subscribe", channels=["*.trade"], since_ms=0, positions=True)
        await trio.sleep(60)
        kinds = [item["type"] for item in follower.items if "seq" not in item]
        first, last = kinds.index("subscription_ack", 1), kinds.index("replay_complete")
        assert "positions" in kinds[:first] + kinds[last:]
        assert "positions" not in kinds[first:last]
        assert not follower.catching_up
        assert follower.positions == {
            key: end - 1 for key, end in scenario.log.ends().items() if key.topic == TRADES
        }
        complete = next(item for item in follower.items if item["type"] == "replay_complete")
        assert complete["count"] == sum(bool(item.get("replay")) for item in follower.items)
        assert complete["ids"] == {TRADES: scenario.log.ids[TRADES]}


async def test_no_positions_notice_is_sent_while_replay_waits_for_log(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """The client has received all messages so far, but the rest of the replay is pending."""
    settings = Settings(ws_history_bytes=0, ws_positions_interval_seconds=1)
    async with open_scenario(settings) as scenario:
        await publish_all(scenario, 600)
        follower = Follower("T1.trade")
        await follower.connect(nursery, scenario)
        await trio.sleep(3)
        scenario.log_reader.batch, scenario.log_reader.seconds = 10, 0.1
        await follower.send("subscribe", channels=["*.trade"], since_ms=0, positions=True)
        await trio.sleep(5)
        scenario.log_reader.hold()
        await trio.sleep(10)
        assert 0 < len(follower.messages) < 600
        kinds = [item["type"] for item in follower.items if "seq" not in item]
        assert "positions" in kinds
        assert "positions" not in kinds[kinds.index("subscription_ack", 1) :]
        scenario.log_reader.release()
        await trio.sleep(60)
        assert len(follower.messages) == 600
        assert follower.items[-1]["type"] == "positions"


async def test_second_resume_ack_has_its_start_positions(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """They replace the client's positions, which may be further."""
    await publish_all(odin_scenario, 100, size=10)
    follower = Follower("T1.trade")
    await follower.connect(nursery, odin_scenario)
    await trio.sleep(1)
    ends = dict(follower.positions)
    given = {TRADES: {str(key.partition): min(3, end) for key, end in ends.items()}}
    await follower.send("resume", channels=["*.trade"], positions=given)
    await trio.sleep(1)
    (ack, complete) = follower.responses[1:]
    assert ack["positions"] == given
    assert complete["type"] == "replay_complete"
    assert follower.positions == ends


async def test_second_replay_without_positions_ends_with_replay_complete(
    odin_scenario: Scenario,
) -> None:
    """The first replay of a connection has no `replay_complete`."""
    await publish_all(odin_scenario, 5, size=10)
    client = await odin_scenario.connect()
    await client.subscribe(channels=["T1.trade"], since_ms=0)
    await client.subscribe(channels=["*.trade"], since_ms=0)
    assert await client.response() == {"type": "replay_complete", "count": 4}
    assert len(await client.messages(5)) == 5
