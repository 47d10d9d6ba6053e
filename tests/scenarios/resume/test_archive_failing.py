"""The log does not answer: a replay waits for it, and a client is told if that takes too long."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from odin_ws.testing.assertions import offsets_of
from odin_ws.testing.follower import key_of
from odin_ws.testing.scenario import Scenario
from tests.scenarios.resume.following import after, all_messages, following, publish, say

pytestmark = pytest.mark.odin_settings(ws_history_bytes=0)


@pytest.mark.parametrize("seconds", [1, 25])
async def test_it_recovers(odin_scenario: Scenario, nursery: trio.Nursery, seconds: float) -> None:
    """Within half a minute the client only waits: then it gets everything."""
    records = await publish(odin_scenario, 20)
    odin_scenario.log_reader.fail()
    follower = following(records, "BTC.trade")
    await follower.connect(nursery, odin_scenario)
    await trio.sleep(seconds)
    await publish(odin_scenario, 3)
    assert follower.items == []
    odin_scenario.log_reader.recover()
    await trio.sleep(3)
    follower.check(odin_scenario.log.records)


async def test_it_fails_and_recovers_again_and_again(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """What was read stands: the rest is read later, in the middle of a long replay too."""
    for number in range(3000):
        odin_scenario.publish(f"T{number % 5}", "trade", [number, "x" * 1000])
    await trio.sleep(5)
    follower = following(odin_scenario.log.records, "*.trade")
    follower.pause = 0.001
    await follower.connect(nursery, odin_scenario, capacity=20_000)
    for _ in range(20):
        odin_scenario.log_reader.fail()
        await trio.sleep(2)
        odin_scenario.log_reader.recover()
        await trio.sleep(0.7)
        odin_scenario.publish("T1", "trade", "meanwhile")
    await trio.sleep(30)
    follower.check(odin_scenario.log.records)
    count = sum(item.get("replay", False) for item in follower.items)
    assert follower.items[0]["replayed"] is None
    assert [one for one in follower.answers if one["type"] == "replay_complete"] == [
        {"type": "replay_complete", "count": count}
    ]


@pytest.mark.parametrize("delivery", ["all", "latest"])
async def test_it_fails_for_good(odin_scenario: Scenario, delivery: str) -> None:
    """The answer says to come again, and nothing has changed: no subscription, no delivery mode."""
    records = await publish(odin_scenario, 5)
    odin_scenario.log_reader.fail()
    client = await odin_scenario.connect()
    await client.subscribe(channels=["ETH.trade"])
    asked = trio.current_time()
    error = await client.resume(after(records[0]), channels=["BTC.trade"], delivery=delivery)
    assert (error["type"], error["code"], error["retry"]) == ("error", "NOT_AVAILABLE", True)
    assert trio.current_time() - asked == pytest.approx(30, abs=2)
    (connection,) = odin_scenario.service.server.connections
    assert connection.subscriber.patterns == {"ETH.trade"}
    assert connection.subscriber.conflation is None
    await publish(odin_scenario, 1)
    assert await client.silence(5)
    assert (await client.unsubscribe(channels=["BTC.trade"]))["unsubscribed"] == []
    odin_scenario.log_reader.recover()
    assert (await client.resume(after(records[0]), channels=["BTC.trade"]))["recovered"]
    assert offsets_of(await all_messages(client)) == {key_of(records[0]): [1, 2, 3, 4, 5]}
    assert odin_scenario.service.server.replays.unavailable == 1


@pytest.mark.parametrize(
    "command",
    [
        ("subscribe", {"channels": ["BTC.trade"], "since_ms": 0}),
        ("resume", {"channels": ["BTC.trade"], "positions": {"odin.trades": {"2": -1}}}),
        ("reconnect", {"last_pos": {"BTC.trade": "2-0"}}),
    ],
)
async def test_every_kind_of_beginning_says_so(
    odin_scenario: Scenario, command: tuple[str, dict[str, Any]]
) -> None:
    """With the time to try again; to a reconnect in its own words, since its SDK would give up."""
    (record, _) = await publish(odin_scenario, 2)
    assert record.partition == 2
    odin_scenario.log_reader.hold()
    client = await odin_scenario.connect()
    kind, data = command
    error = await client.command(kind, **data)
    if kind == "reconnect":
        assert (error["type"], error["code"]) == ("reconnect_error", "rate_limited")
    else:
        assert (error["type"], error["code"], error["retry"]) == ("error", "NOT_AVAILABLE", True)
    assert 2000 <= error["retry_ms"] <= 10_000


async def test_it_falls_silent_amid_the_reading(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """What was read by then is not thrown away: the answer comes, and the rest when it can."""
    for number in range(3000):
        odin_scenario.publish("BTC", "trade", number)
    await trio.sleep(4)
    follower = following(odin_scenario.log.records[:1], "BTC.trade")
    stats = odin_scenario.service.server.replays

    async def hold() -> None:
        while not stats.from_log:
            await trio.lowlevel.checkpoint()
        odin_scenario.log_reader.hold()

    nursery.start_soon(hold)
    await follower.connect(nursery, odin_scenario)
    await trio.sleep(31)
    assert 0 < stats.from_log < 3000
    (ack,) = follower.answers
    assert (ack["recovered"], ack["replayed"]) == (True, None)
    odin_scenario.log_reader.release()
    await trio.sleep(2)
    follower.check(odin_scenario.log.records)
    assert follower.answers[-1] == {"type": "replay_complete", "count": 3000}


async def test_what_waits_has_its_turn_after_a_failure(odin_scenario: Scenario) -> None:
    """A subscribe behind a resume that could not be had is carried out."""
    records = await publish(odin_scenario, 2)
    odin_scenario.log_reader.fail()
    client = await odin_scenario.connect()
    await say(client, "resume", positions=after(records[0]), channels=["BTC.trade"])
    await say(client, "subscribe", channels=["ETH.trade"])
    assert [(await client.answer())["type"] for _ in range(2)] == ["error", "subscription_ack"]
    await publish(odin_scenario, 1, "ETH")
    assert (await client.message())["channel"] == "ETH.trade"
