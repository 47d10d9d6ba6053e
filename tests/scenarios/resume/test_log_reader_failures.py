"""Replays while the log reader fails or does not answer."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from odin_ws.testing.assertions import offsets_of
from odin_ws.testing.follower import key_of
from odin_ws.testing.scenario import Scenario
from tests.scenarios.resume.following import after, all_messages, following, publish, send

pytestmark = pytest.mark.odin_settings(ws_history_bytes=0)


@pytest.mark.parametrize("seconds", [1, 25])
async def test_replay_waits_up_to_30_s_for_log_reader(
    odin_scenario: Scenario, nursery: trio.Nursery, seconds: float
) -> None:
    """Then the client gets all records."""
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


async def test_long_replay_survives_repeated_failures(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """Each time the replay continues after the records that it has read."""
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
    assert [
        response for response in follower.responses if response["type"] == "replay_complete"
    ] == [{"type": "replay_complete", "count": count}]


@pytest.mark.parametrize("delivery", ["all", "latest"])
async def test_failing_log_reader_gives_not_available_after_30_s(
    odin_scenario: Scenario, delivery: str
) -> None:
    """Subscriptions and delivery mode do not change, and a later resume succeeds."""
    records = await publish(odin_scenario, 5)
    odin_scenario.log_reader.fail()
    client = await odin_scenario.connect()
    await client.subscribe(channels=["ETH.trade"])
    sent_at = trio.current_time()
    error = await client.resume(after(records[0]), channels=["BTC.trade"], delivery=delivery)
    assert (error["type"], error["code"], error["retry"]) == ("error", "NOT_AVAILABLE", True)
    assert trio.current_time() - sent_at == pytest.approx(30, abs=2)
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
async def test_each_replaying_command_gets_not_available_with_retry_delay(
    odin_scenario: Scenario, command: tuple[str, dict[str, Any]]
) -> None:
    """`reconnect` gets `rate_limited`, because the SDK treats `not_available` as final."""
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


@pytest.mark.parametrize(
    "command",
    [
        ("subscribe", {"channels": ["BTC.unheard-of"], "since_ms": 0}),
        ("resume", {"channels": ["BTC.unheard-of"], "positions": {"odin.trades": {"2": -1}}}),
    ],
)
async def test_command_whose_names_are_all_rejected_does_not_wait_for_log_reader(
    odin_scenario: Scenario, command: tuple[str, dict[str, Any]]
) -> None:
    """The acknowledgement names what was rejected."""
    await publish(odin_scenario, 2)
    odin_scenario.log_reader.hold()
    client = await odin_scenario.connect()
    kind, data = command
    sent_at = trio.current_time()
    ack = await client.command(kind, **data)
    assert [rejection["name"] for rejection in ack["rejected"]] == ["BTC.unheard-of"]
    assert trio.current_time() - sent_at < 1


async def test_log_reader_that_stops_answering_delays_rest_of_replay(
    odin_scenario: Scenario, nursery: trio.Nursery
) -> None:
    """Records that were read before are sent."""
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
    (ack,) = follower.responses
    assert (ack["recovered"], ack["replayed"]) == (True, None)
    odin_scenario.log_reader.release()
    await trio.sleep(2)
    follower.check(odin_scenario.log.records)
    assert follower.responses[-1] == {"type": "replay_complete", "count": 3000}


async def test_waiting_command_is_processed_after_failed_replay(odin_scenario: Scenario) -> None:
    """The subscribe behind the failed resume takes effect."""
    records = await publish(odin_scenario, 2)
    odin_scenario.log_reader.fail()
    client = await odin_scenario.connect()
    await send(client, "resume", positions=after(records[0]), channels=["BTC.trade"])
    await send(client, "subscribe", channels=["ETH.trade"])
    assert [(await client.response())["type"] for _ in range(2)] == ["error", "subscription_ack"]
    await publish(odin_scenario, 1, "ETH")
    assert (await client.message())["channel"] == "ETH.trade"
