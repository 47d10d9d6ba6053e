"""Filters (`where`) through the whole server: live, replayed from history and Kafka, and limits."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from odin_ws.settings import Settings
from odin_ws.testing.scenario import Scenario, ScenarioClient, open_scenario
from tests.scenarios.resume.following import after

LARGE = {"field": "data.amount", "gte": 1000}


def trades(scenario: Scenario, *amounts: object, of: str = "BTC") -> None:
    """Publish trades of these amounts."""
    for amount in amounts:
        scenario.publish(of, "trade", {"amount": amount})


def amounts(messages: list[dict[str, Any]]) -> list[object]:
    """Return the published amount of each message."""
    return [message["data"]["data"]["amount"] for message in messages]


async def rest(client: ScenarioClient, seconds: float = 1) -> list[dict[str, Any]]:
    """Return the messages of the next seconds."""
    found = []
    with trio.move_on_after(seconds):
        while True:
            found.append(await client.message())
    return found


@contextlib.asynccontextmanager
async def without_history() -> AsyncIterator[Scenario]:
    """Run a server without in-memory history."""
    async with open_scenario(Settings(ws_history_bytes=0), partitions=3) as scenario:
        yield scenario


async def test_filter_applies_to_live_messages_of_its_subscription(odin_scenario: Scenario) -> None:
    """Another subscription of the connection has no filter."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade"], where=LARGE)
    await client.subscribe(channels=["ETH.trade"])
    trades(odin_scenario, "1500.2", "9", 1000, 999.9)
    trades(odin_scenario, "1", of="ETH")
    assert sorted(map(str, amounts(await rest(client)))) == ["1", "1000", "1500.2"]


@pytest.mark.odin_settings(ws_positions_interval_seconds=1)
async def test_positions_advance_past_filtered_messages(odin_scenario: Scenario) -> None:
    """A client that gets no message can still resume from the position in the notice."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade"], where=LARGE, positions=True)
    trades(odin_scenario, *range(20))
    await trio.sleep(3)
    notice = await client.response()
    while (notice := await client.response())["type"] == "positions":
        if sum(notice["positions"]["odin.trades"].values()) > -12:
            break
    assert max(notice["positions"]["odin.trades"].values()) == 19
    again = await odin_scenario.connect()
    ack = await again.resume(notice["positions"], channels=["BTC.trade"], where=LARGE)
    assert (ack["recovered"], ack["replayed"]) == (True, 0)


async def test_resume_replays_only_matching_messages(odin_scenario: Scenario) -> None:
    """`replayed` counts after the filter; live messages have the filter too."""
    client = await odin_scenario.connect()
    ack = await client.subscribe(channels=["*.trade"], positions=True)
    trades(odin_scenario, "1", "2000", "2", "3000")
    await trio.sleep(1)
    again = await odin_scenario.connect()
    resumed = await again.resume(ack["positions"], channels=["*.trade"], where=LARGE)
    assert (resumed["recovered"], resumed["replayed"]) == (True, 2)
    trades(odin_scenario, "3", "4000")
    messages = await rest(again)
    assert amounts(messages) == ["2000", "3000", "4000"]
    assert [message.get("replay", False) for message in messages] == [True, True, False]


async def test_snapshot_and_since_ms_are_filtered(odin_scenario: Scenario) -> None:
    """A snapshot has the last message of a channel if it matches, and no older one instead."""
    trades(odin_scenario, "2000", "1")
    trades(odin_scenario, "1", "3000", of="ETH")
    await trio.sleep(1)
    client = await odin_scenario.connect()
    ack = await client.subscribe(channels=["*.trade"], where=LARGE, snapshot=True)
    assert ack["replayed"] == 1
    assert amounts(await rest(client)) == ["3000"]
    other = await odin_scenario.connect()
    ack = await other.subscribe(channels=["*.trade"], where=LARGE, since_ms=0)
    assert ack["replayed"] == 2
    assert sorted(map(str, amounts(await rest(other)))) == ["2000", "3000"]


async def test_replay_from_kafka_is_filtered(autojump_clock: object) -> None:  # noqa: ARG001
    """`replayed` counts only matching messages; positions advance past all that were read."""
    async with without_history() as scenario:
        trades(scenario, *("2000" if number % 10 == 0 else "1" for number in range(100)))
        await trio.sleep(1)
        client = await scenario.connect()
        ack = await client.subscribe(channels=["*.trade"], where=LARGE, since_ms=0, positions=True)
        assert ack["replayed"] == 10
        trades(scenario, "5", "5000")
        assert amounts(await rest(client)) == ["2000"] * 10 + ["5000"]


async def resume_together(scenario: Scenario, number: int) -> list[ScenarioClient]:
    """Resume `number` clients with the same filter at the same time."""
    first = await scenario.connect()
    ack = await first.subscribe(channels=["*.trade"], positions=True)
    trades(scenario, *range(900, 1100))
    await trio.sleep(1)
    clients = [await scenario.connect() for _ in range(number)]

    async def resume(client: ScenarioClient) -> None:
        await client.resume(ack["positions"], channels=["*.trade"], where=LARGE)

    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(resume, client)
    return clients


@pytest.mark.parametrize("history_bytes", [0, 1 << 20], ids=["from Kafka", "from history"])
async def test_concurrent_replays_share_filter_results(
    autojump_clock: object,  # noqa: ARG001
    history_bytes: int,
) -> None:
    """For 20 clients the filter is evaluated once per record, not 20 times."""
    settings = Settings(ws_history_bytes=history_bytes)
    async with open_scenario(settings, partitions=3) as scenario:
        clients = await resume_together(scenario, 20)
        for client in clients:
            assert sorted(int(str(amount)) for amount in amounts(await rest(client))) == list(
                range(1000, 1100)
            )
        assert scenario.service.hub.filter_cache.evaluations == 200


async def test_long_replay_without_matches_is_acknowledged_before_its_end(
    autojump_clock: object,  # noqa: ARG001
) -> None:
    """The ack is sent after some records were read, with `replayed: null`."""
    async with without_history() as scenario:
        for _ in range(40):
            trades(scenario, "1" + " " * 100_000)
        trades(scenario, "7000")
        client = await scenario.connect()
        ack = await client.subscribe(channels=["*.trade"], where=LARGE, since_ms=0)
        assert ack["replayed"] is None
        assert amounts(await rest(client, 5)) == ["7000"]
        complete = await client.response()
        assert (complete["type"], complete["count"]) == ("replay_complete", 1)


async def test_resume_without_filter_replays_only_messages_not_yet_delivered(
    odin_scenario: Scenario,
) -> None:
    """The filter left out some live messages; those are replayed, the delivered ones are not."""
    client = await odin_scenario.connect()
    ack = await client.subscribe(channels=["*.trade"], where=LARGE, positions=True)
    trades(odin_scenario, "1", "2000", "2")
    assert amounts(await rest(client)) == ["2000"]
    await client.resume(ack["positions"], channels=["BTC.trade"])
    assert amounts(await rest(client)) == ["1", "2"]
    trades(odin_scenario, "3", "4000")
    assert amounts(await rest(client)) == ["3", "4000"]


async def test_later_replay_has_what_an_earlier_filter_left_out(odin_scenario: Scenario) -> None:
    """The resume without the filter begins behind a message, so nothing has brought that one."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade"], where=LARGE)
    trades(odin_scenario, "1", "2")
    assert amounts(await rest(client)) == []
    first, _ = odin_scenario.log.records
    await client.resume(after(first), channels=["BTC.trade"])
    assert amounts(await rest(client)) == ["2"]
    await client.subscribe(channels=["*.trade"], since_ms=0)
    assert amounts(await rest(client)) == ["1"]


@pytest.mark.odin_settings(ws_max_filters=2, ws_max_filters_per_connection=1)
async def test_filters_are_limited(odin_scenario: Scenario) -> None:
    """There are limits per connection and in total; equal filters count once."""
    clients = [await odin_scenario.connect() for _ in range(3)]
    filters = [{"field": "a", "eq": number} for number in range(3)]
    for client, where in zip(clients[:2], filters[:2], strict=True):
        assert (await client.subscribe(channels=["BTC.trade"], where=where))["subscribed"]
    error = await clients[0].subscribe(channels=["ETH.trade"], where=filters[1])
    assert (error["code"], error["retry"]) == ("TOO_MANY_FILTERS", False)
    assert "data.where: at most 1 different filters per connection" in error["message"]
    again = {"and": [{"field": "a", "in": ["0.0"]}]}
    assert (await clients[0].subscribe(channels=["ETH.trade"], where=again))["subscribed"]
    for command, more in (
        ("subscribe", {}),
        ("subscribe", {"snapshot": True}),
        ("resume", {"positions": {}}),
    ):
        error = await clients[2].command(command, channels=["ETH.trade"], where=filters[2], **more)
        assert (error["code"], error["retry"]) == ("TOO_MANY_FILTERS", True)
        assert "retry_ms" in error
    await clients[0].unsubscribe(channels=["BTC.trade", "ETH.trade"])
    assert (await clients[2].subscribe(channels=["ETH.trade"], where=filters[2]))["subscribed"]


async def test_subscribe_with_invalid_filter_is_rejected(odin_scenario: Scenario) -> None:
    """The error names the place in the filter."""
    client = await odin_scenario.connect()
    where = {"and": [LARGE, {"field": "x", "above": 1}]}
    error = await client.subscribe(channels=["BTC.trade"], where=where)
    assert error["code"] == "INVALID_MESSAGE"
    assert error["message"].startswith("data.where.and[1]: must have one of eq, ne, lt")
    trades(odin_scenario, "2000")
    assert await client.silence(1)
