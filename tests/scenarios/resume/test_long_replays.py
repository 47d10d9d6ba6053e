"""Replays that are too long to be counted before their ack."""

from __future__ import annotations

import pytest
import trio

from odin_ws.testing.follower import key_of
from odin_ws.testing.scenario import Scenario
from tests.scenarios.resume.following import following, publish_long

pytestmark = pytest.mark.odin_settings(ws_history_bytes=0)


@pytest.mark.parametrize("tokens", [1, 7])
async def test_count_of_replay_over_1_mib_is_in_replay_complete(
    odin_scenario: Scenario, nursery: trio.Nursery, tokens: int
) -> None:
    """The ack has `replayed: null`."""
    await publish_long(odin_scenario, 7 * 1500)
    records = odin_scenario.log.records
    follower = following(records, *[f"T{number}.trade" for number in range(tokens)])
    await follower.connect(nursery, odin_scenario)
    await trio.sleep(10)
    follower.check(records)
    ack, *messages, complete = follower.items
    assert (ack["recovered"], ack["replayed"]) == (True, None)
    assert complete == {"type": "replay_complete", "count": 1500 * tokens}
    assert len(messages) == 1500 * tokens
    assert all(message["replay"] for message in messages)


async def test_count_of_replay_under_1_mib_is_in_ack(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """No `replay_complete` follows."""
    await publish_long(odin_scenario, 7 * 900)
    records = odin_scenario.log.records
    follower = following(records, "T0.trade")
    await follower.connect(nursery, odin_scenario)
    await trio.sleep(10)
    ack, *messages = follower.items
    assert ack["replayed"] == len(messages) == 900
    assert all(message.get("replay") for message in messages)


async def test_records_published_during_replay_are_not_marked_as_replay(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """They follow the replay and do not count."""
    await publish_long(odin_scenario, 7 * 500)
    follower = following(odin_scenario.log.records, "*.trade")
    follower.pause = 0.001
    await follower.connect(nursery, odin_scenario, capacity=20_000)
    for number in range(200):
        odin_scenario.publish(f"T{number % 7}", "trade", "live")
        await trio.sleep(0.05)
    await trio.sleep(10)
    follower.check(odin_scenario.log.records)
    (complete,) = [item for item in follower.items if item["type"] == "replay_complete"]
    marked = [item for item in follower.items if item.get("replay")]
    assert complete["count"] == len(marked)
    assert [item["seq"] for item in follower.messages] == list(range(1, 3701))
    # Records published before the ack are replayed too.
    assert 0 <= len(marked) - 3500 < 20


async def test_replayed_message_equals_live_message(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """Except for `seq` and `replay`."""
    live = await odin_scenario.connect()
    await live.subscribe(channels=["*.trade"])
    await publish_long(odin_scenario, 50)
    messages = {message["pos"]: message for message in await live.messages(50)}
    follower = following(odin_scenario.log.records, "*.trade")
    await follower.connect(nursery, odin_scenario)
    await trio.sleep(1)
    for message in follower.messages:
        was = messages[message["pos"]]
        same = {key: value for key, value in message.items() if key not in {"seq", "replay"}}
        assert same == {key: value for key, value in was.items() if key != "seq"}
    assert len(follower.messages) == 50
    assert key_of(odin_scenario.log.records[0]) in follower.positions
