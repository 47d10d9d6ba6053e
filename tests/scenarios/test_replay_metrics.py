"""Metrics and health of replays, history and conflation."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from odin_ws.resume import LossReason
from odin_ws.testing.scenario import Scenario
from tests.scenarios.ops import metric, metrics, ops_request
from tests.scenarios.wire import RawClient


async def results(scenario: Scenario) -> dict[str, float]:
    """Return the replays by result, without zeros."""
    return {
        dict(labels)["result"]: value
        for (name, labels), value in (await metrics(scenario)).items()
        if name == "ws_replays_total" and value
    }


async def checks(scenario: Scenario, name: str) -> dict[str, Any]:
    """Return one check of the health report."""
    found: dict[str, Any] = (await ops_request(scenario, "/health")).json()["checks"][name]
    return found


async def publish_trades(scenario: Scenario, count: int) -> dict[str, dict[int, int]]:
    """Publish trades; return the position before the first one."""
    records = [scenario.publish("BTC", "trade", number) for number in range(count)]
    await trio.sleep(1)
    return {records[0].topic: {records[0].partition: records[0].offset - 1}}


async def test_each_replay_result_has_a_sample_from_the_start(odin_scenario: Scenario) -> None:
    """A rate over a label that appears with its first event would miss that event."""
    found = {
        dict(labels)["result"]: value
        for (name, labels), value in (await metrics(odin_scenario)).items()
        if name == "ws_replays_total"
    }
    assert found == dict.fromkeys(["recovered", *LossReason, "not_available"], 0)


async def test_replay_from_history_counts_as_recovered(odin_scenario: Scenario) -> None:
    """Its messages count as `from="history"`."""
    client = await odin_scenario.connect()
    await client.resume(await publish_trades(odin_scenario, 3), channels=["BTC.trade"])
    await client.messages(3)
    assert await results(odin_scenario) == {"recovered": 1}
    assert await metric(odin_scenario, "ws_replayed_messages_total", **{"from": "history"}) == 3
    assert await metric(odin_scenario, "ws_replayed_messages_total", **{"from": "log"}) == 0


@pytest.mark.odin_settings(ws_history_bytes=0)
async def test_replay_from_kafka_counts_as_recovered(odin_scenario: Scenario) -> None:
    """Its messages count as `from="log"`."""
    client = await odin_scenario.connect()
    await client.resume(await publish_trades(odin_scenario, 3), channels=["BTC.trade"])
    await client.messages(3)
    assert await results(odin_scenario) == {"recovered": 1}
    assert await metric(odin_scenario, "ws_replayed_messages_total", **{"from": "history"}) == 0
    assert await metric(odin_scenario, "ws_replayed_messages_total", **{"from": "log"}) == 3


@pytest.mark.odin_settings(ws_history_bytes=0, ws_max_replay_records=2)
async def test_replay_with_loss_counts_by_reason(odin_scenario: Scenario) -> None:
    """Records expired, more than one replay may read, or a position that never existed."""
    positions = await publish_trades(odin_scenario, 5)
    client = await odin_scenario.connect()
    ack = await client.resume(positions, channels=["BTC.trade"])
    assert ack["reason"] == "too_many"
    client = await odin_scenario.connect()
    ack = await client.resume({"odin.trades": {"99": 1}}, channels=["BTC.trade"])
    assert ack["reason"] == "unknown_position"
    (partition,) = positions["odin.trades"]
    odin_scenario.log.delete_before("odin.trades", partition, 4)
    client = await odin_scenario.connect()
    ack = await client.resume(positions, channels=["BTC.trade"])
    assert ack["reason"] == "expired"
    assert await results(odin_scenario) == {"too_many": 1, "unknown_position": 1, "expired": 1}


async def test_replay_that_cannot_begin_counts_as_not_available(odin_scenario: Scenario) -> None:
    """The log reader fails."""
    odin_scenario.log_reader.fail()
    client = await odin_scenario.connect()
    response = await client.subscribe(channels=["BTC.trade"], since_ms=0)
    assert (response["code"], response["retry"]) == ("NOT_AVAILABLE", True)
    assert await results(odin_scenario) == {"not_available": 1}
    assert await metric(odin_scenario, "ws_replays_active") == 0


async def test_active_replays_are_reported(odin_scenario: Scenario) -> None:
    """Health and metrics count them until they end."""
    odin_scenario.log_reader.hold()
    for _ in range(2):
        client = await RawClient.open(odin_scenario)
        await client.command("subscribe", channels=["BTC.trade"], since_ms=0)
    await trio.sleep(1)
    seen = [await checks(odin_scenario, "replays")]
    assert await metric(odin_scenario, "ws_replays_active") == 2
    odin_scenario.log_reader.release()
    await trio.sleep(1)
    seen.append(await checks(odin_scenario, "replays"))
    assert seen == [{"active": 2}, {"active": 0}]


@pytest.mark.odin_settings(ws_history_seconds=60, ws_history_bytes=5000)
async def test_history_size_and_age_are_reported(odin_scenario: Scenario) -> None:
    """Messages, bytes, maximum of bytes, and the age of the oldest message."""
    empty = {"messages": 0, "bytes": 0, "max_bytes": 5000, "oldest_seconds": 0}
    assert await checks(odin_scenario, "history") == empty
    for token in ("BTC", "ETH"):
        odin_scenario.log.append("odin.trades", token.encode(), b'{"n":12345}')
        await trio.sleep(10)
    found = await checks(odin_scenario, "history")
    assert found.pop("oldest_seconds") == pytest.approx(20, abs=0.1)
    assert found == {"messages": 2, "bytes": 2 * (2 * 11 + 900), "max_bytes": 5000}
    assert await metric(odin_scenario, "ws_history_messages") == 2
    assert await metric(odin_scenario, "ws_history_bytes") == found["bytes"]
    assert await metric(odin_scenario, "ws_snapshot_channels") == 2


@pytest.mark.odin_settings(ws_conflation_threshold_bytes=1000)
async def test_conflated_messages_are_counted(odin_scenario: Scenario) -> None:
    """The metric equals the number in the client's `skipped`."""
    client = await RawClient.open(odin_scenario, capacity=4096)
    await client.command("subscribe", channels=["BTC.trade"], delivery="latest")
    await client.next()
    for size in (10_000, 1, 1, 1):
        odin_scenario.publish("BTC", "trade", "x" * size)
        await trio.sleep(1)
    assert (await client.next()).json["seq"] == 1
    newest = (await client.next_but_pings()).json
    assert (newest["seq"], newest["skipped"]) == (4, 2)
    assert await metric(odin_scenario, "ws_messages_skipped_total") == 2
    assert await metric(odin_scenario, "ws_messages_sent_total") == 2
