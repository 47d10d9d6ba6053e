"""Overlapping subscriptions: a replay omits only messages that the connection has been sent."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from odin_ws.records import TopicPartition
from odin_ws.settings import Settings
from odin_ws.testing.assertions import offsets_of
from odin_ws.testing.follower import key_of
from odin_ws.testing.scenario import Scenario, open_scenario
from tests.scenarios.resume.following import after, all_messages, publish, send

TRADES = "odin.trades"
RETAINED = [0, 5_200, 1 << 20]


def kinds(scenario: Scenario) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the commands that replay all records."""
    positions = {TRADES: dict.fromkeys(range(12), -1)}
    assert scenario.log.ends()[TopicPartition(TRADES, 0)] >= 0
    return {
        "since_ms": ("subscribe", {"since_ms": 0}),
        "resume": ("resume", {"positions": positions}),
    }


@pytest.mark.parametrize("retained", RETAINED)
@pytest.mark.parametrize("kind", ["since_ms", "resume"])
@pytest.mark.parametrize("name", ["*.trade", "BTC.*", "BTC.trade"])
async def test_replay_of_live_channel_omits_live_messages(
    odin_scenario: Scenario, retained: int, kind: str, name: str
) -> None:
    """Records from before the live subscription are replayed once; later ones come live."""
    async with open_scenario(Settings(ws_history_bytes=retained), log=odin_scenario.log) as one:
        records = await publish(one, 6)
        client = await one.connect()
        await client.subscribe(channels=["BTC.trade"])
        await publish(one, 3)
        command, data = kinds(one)[kind]
        ack = await client.command(command, channels=[name], **data)
        assert ack["replayed"] == 6
        assert (await client.response())["type"] == "replay_complete"
        await publish(one, 2)
        messages = await all_messages(client)
        (found,) = offsets_of(messages).values()
        assert found == [6, 7, 8, 0, 1, 2, 3, 4, 5, 9, 10]
        assert [bool(m.get("replay")) for m in messages] == [False] * 3 + [True] * 6 + [False] * 2
        assert key_of(records[0]).topic == TRADES


async def test_snapshot_of_live_channel_has_message_not_yet_sent(odin_scenario: Scenario) -> None:
    """The last message of the other channel was sent live, and is omitted."""
    await publish(odin_scenario, 3)
    await publish(odin_scenario, 3, "ETH")
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade", "ETH.trade"])
    await publish(odin_scenario, 1, "ETH")
    ack = await client.subscribe(channels=["*.trade"], snapshot=True)
    assert ack["replayed"] == 1
    messages = await all_messages(client)
    assert [message["channel"] for message in messages] == ["ETH.trade", "BTC.trade"]


@pytest.mark.parametrize("retained", RETAINED)
async def test_wider_replay_omits_messages_of_earlier_replay(
    odin_scenario: Scenario, retained: int
) -> None:
    """A subscription is complete from where its replay began, not from where it became live."""
    async with open_scenario(Settings(ws_history_bytes=retained), log=odin_scenario.log) as one:
        records = await publish(one, 6)
        client = await one.connect()
        await client.resume(after(records[2]), channels=["BTC.trade"])
        await publish(one, 2)
        ack = await client.subscribe(channels=["*.trade"], since_ms=0)
        assert ack["replayed"] == 3
        (found,) = offsets_of(await all_messages(client)).values()
        assert found == [3, 4, 5, 6, 7, 0, 1, 2]
        # Nothing is left to replay.
        await client.response()
        ack = await client.subscribe(channels=["*.*"], since_ms=0)
        assert ack["replayed"] == 0
        assert await client.silence(5)


@pytest.mark.parametrize("retained", RETAINED)
async def test_third_replay_omits_messages_of_second_replay(
    odin_scenario: Scenario, retained: int
) -> None:
    """The channel is complete from where its latest replay began."""
    async with open_scenario(Settings(ws_history_bytes=retained), log=odin_scenario.log) as one:
        await publish(one, 6)
        client = await one.connect()
        await client.subscribe(channels=["BTC.trade"])
        assert (await client.subscribe(channels=["BTC.trade"], since_ms=0))["replayed"] == 6
        await client.response()
        assert (await client.subscribe(channels=["*.trade"], since_ms=0))["replayed"] == 0
        assert len(await all_messages(client)) == 6


async def test_replay_after_recreated_topic_omits_sent_records_of_new_topic(
    odin_scenario: Scenario,
) -> None:
    """The offsets of the old topic do not matter."""
    await publish(odin_scenario, 6)
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade"])
    odin_scenario.log.recreate(TRADES)
    await publish(odin_scenario, 3)
    await client.messages(3)
    await client.response()
    assert (await client.subscribe(channels=["*.trade"], since_ms=0))["replayed"] == 0


async def test_replay_after_truncation_omits_sent_records(odin_scenario: Scenario) -> None:
    """Records before the truncation, and those that reuse truncated offsets."""
    records = await publish(odin_scenario, 2)
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade"])
    await publish(odin_scenario, 6)
    odin_scenario.log.truncate(TRADES, records[0].partition, 5)
    await publish(odin_scenario, 2)
    await client.messages(8)
    await client.response()
    assert (await client.subscribe(channels=["*.trade"], since_ms=0))["replayed"] == 2


async def test_replay_omits_sent_records_of_added_partition(odin_scenario: Scenario) -> None:
    """An earlier subscription is complete from the partition's first record."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade"])
    odin_scenario.log.add_partitions(TRADES, 1)
    for _ in range(3):
        odin_scenario.log.append(TRADES, b"BTC", b"{}", partition=12)
    await trio.sleep(1)
    await client.messages(3)
    assert (await client.subscribe(channels=["*.trade"], since_ms=0))["replayed"] == 0


async def test_replay_after_unsubscribe_has_all_records(odin_scenario: Scenario) -> None:
    """A new subscription does not remember the old one."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade"])
    await publish(odin_scenario, 3)
    await client.unsubscribe(channels=["BTC.trade"])
    await send(client, "subscribe", channels=["BTC.trade"], since_ms=0)
    (found,) = offsets_of(await all_messages(client)).values()
    assert found == [0, 1, 2, 0, 1, 2]
