"""A resume with a snapshot, for a client whose first snapshot was interrupted."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from odin_ws.settings import Settings
from odin_ws.testing.assertions import offsets_of
from odin_ws.testing.follower import Follower, by_topic
from odin_ws.testing.scenario import Scenario, open_scenario
from tests.scenarios.resume.following import all_messages, publish


@pytest.mark.parametrize("retained", [0, 1 << 20])
async def test_resume_with_snapshot_gets_missed_records_and_last_messages(
    autojump_clock: MockClock, retained: int
) -> None:
    """A channel with missed records gets those, other channels their last message; none twice."""
    async with open_scenario(Settings(ws_history_bytes=retained)) as scenario:
        records = await publish(scenario, 5)
        await publish(scenario, 3, "ETH")
        client = await scenario.connect()
        positions = by_topic({key: end - 1 for key, end in scenario.log.ends().items()})
        positions[records[0].topic][records[0].partition] = 1
        ack = await client.resume(positions, channels=["*.trade"], snapshot=True)
        assert (ack["recovered"], ack["replayed"]) == (True, 4)
        messages = await all_messages(client)
        assert [message["channel"] for message in messages] == ["ETH.trade", *["BTC.trade"] * 3]
        assert sorted(map(sorted, offsets_of(messages).values())) == [[2], [2, 3, 4]]
        await publish(scenario, 1)
        assert (await client.message())["pos"].endswith("-5")


async def test_interrupted_snapshot_can_be_requested_again(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """With the positions of the first ack, no record published since is missing."""
    for number in range(100):
        odin_scenario.publish(f"T{number}", "trade", "x" * 3000)
    await trio.sleep(1)
    follower = Follower("*.trade", pause=0.1)
    await follower.connect(nursery, odin_scenario, capacity=5000, snapshot=True)
    await trio.sleep(2)
    follower.break_off()
    assert 0 < len(follower.messages) < 100
    await publish(odin_scenario, 3, "T0")
    await publish(odin_scenario, 1, "NEW")
    follower.pause = 0
    follower.messages.clear()
    await follower.connect(nursery, odin_scenario, snapshot=True)
    await trio.sleep(5)
    ack = follower.responses[0]
    assert (ack["recovered"], ack["replayed"]) == (True, 103)
    channels = [message["channel"] for message in follower.messages]
    assert len(channels) == 103
    assert set(channels) == {f"T{number}.trade" for number in range(100)} | {"NEW.trade"}


async def test_snapshot_beside_a_live_subscription_has_no_message_twice(
    odin_scenario: Scenario,
) -> None:
    """It leaves out what the live subscription has delivered, and what is replayed."""
    for token in "BTC", "ETH", "RUNE":
        await publish(odin_scenario, 2, token)
    client = await odin_scenario.connect()
    ends = odin_scenario.log.ends()
    await client.subscribe(channels=["BTC.trade"])
    await publish(odin_scenario, 1, "BTC")
    assert (await client.message())["channel"] == "BTC.trade"
    (missed,) = await publish(odin_scenario, 1, "ETH")
    positions = by_topic({key: end - 1 for key, end in ends.items()})
    ack = await client.resume(positions, channels=["*.trade"], snapshot=True)
    assert ack["recovered"], ack
    messages = await all_messages(client)
    # BTC's last message came live, ETH's is replayed; only RUNE's is from the snapshot.
    assert sorted(message["channel"] for message in messages) == ["ETH.trade", "RUNE.trade"]
    (eth,) = (message for message in messages if message["channel"] == "ETH.trade")
    assert eth["pos"] == f"{missed.partition}-{missed.offset}"
