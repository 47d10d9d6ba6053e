"""`replay` resends messages of the connection by their sequence numbers."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from odin_ws.testing.scenario import Scenario, ScenarioClient
from tests.scenarios.resume.following import after, all_messages, publish


async def subscriber(scenario: Scenario, count: int, path: str = "/ws") -> ScenarioClient:
    """Return a client that has received `count` trades of several tokens."""
    client = await scenario.connect(path)
    await client.subscribe(channels=["*.trade"])
    for number in range(count):
        scenario.publish(f"T{number % 5}", "trade", number)
        await trio.sleep(0.01)
    assert len(await client.messages(count)) == count
    return client


def numbers(messages: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """Return sequence number and published data of each message."""
    return [(message["seq"], message["data"]["data"]) for message in messages]


@pytest.mark.parametrize(
    ("requested", "first", "last"),
    [
        ({"from": 1, "to": 10}, 1, 10),
        ({"from": 3, "to": 3}, 3, 3),
        ({"from": 4, "to": 7}, 4, 7),
        ({"from": 9, "to": 99}, 9, 10),
        ({"since": 0}, 1, 10),
        ({"since": 7}, 8, 10),
        ({"since": 10}, 11, 10),
        ({"from": 11, "to": 12}, 11, 10),
    ],
)
async def test_replay_resends_range_with_its_sequence_numbers(
    odin_scenario: Scenario, requested: dict[str, int], first: int, last: int
) -> None:
    """Then replay_complete follows, and live numbering continues."""
    client = await subscriber(odin_scenario, 10)
    response = await client.command("replay", **requested)
    assert response == {"type": "replay_complete", "count": last - first + 1}
    messages = await all_messages(client)
    assert numbers(messages) == [(number, number - 1) for number in range(first, last + 1)]
    assert all(message["replay"] for message in messages)
    odin_scenario.publish("T1", "trade", "next")
    assert (await client.message())["seq"] == 11


async def test_replay_of_350_messages_is_in_order_for_slow_reader(odin_scenario: Scenario) -> None:
    """They take several writes."""
    client = await odin_scenario.connect(capacity=3000)
    await client.subscribe(channels=["*.trade"])
    for number in range(350):
        odin_scenario.publish(f"T{number % 5}", "trade", number)
    sent = numbers(await client.messages(350))
    response = await client.command("replay", since=0)
    assert response["count"] == 350
    assert numbers(await client.messages(350)) == sent


@pytest.mark.parametrize(
    ("requested", "missing", "count"),
    [
        ({"from": 1, "to": 30}, [1, 25], 5),
        ({"from": 1, "to": 5}, [1, 5], 0),
        ({"from": 20, "to": 26}, [20, 25], 1),
        ({"since": 3}, [4, 25], 5),
    ],
)
@pytest.mark.odin_settings(ws_history_bytes=5_200)
async def test_replay_reports_messages_no_longer_in_history(
    odin_scenario: Scenario, requested: dict[str, int], missing: list[int], count: int
) -> None:
    """Messages that the history still has are resent."""
    client = await subscriber(odin_scenario, 30)
    response = await client.command("replay", **requested)
    assert response == {"type": "replay_incomplete", "count": count, "missing": missing}
    expected = [(number, number - 1) for number in range(26, 26 + count)]
    assert numbers(await all_messages(client)) == expected


@pytest.mark.odin_settings(ws_history_bytes=26_000)
async def test_replay_of_range_no_longer_in_history_resends_nothing(
    odin_scenario: Scenario,
) -> None:
    """The range is reported as missing."""
    client = await subscriber(odin_scenario, 30)
    response = await client.command("replay", **{"from": 1, "to": 2})
    assert response == {"type": "replay_incomplete", "count": 0, "missing": [1, 2]}
    assert await all_messages(client) == []


@pytest.mark.odin_settings(ws_conflation_threshold_bytes=1000)
async def test_replay_reports_messages_before_last_conflation_as_missing(
    odin_scenario: Scenario,
) -> None:
    """With `delivery: latest` sequence numbers have gaps, so older numbers cannot be assigned."""
    client = await odin_scenario.connect(capacity=1000)
    await client.subscribe(channels=["*.trade"], delivery="latest")
    for number in range(100):
        odin_scenario.publish("BTC", "trade", number)
        await trio.sleep(0.06)
    messages = await all_messages(client)
    assert any("skipped" in message for message in messages)
    response = await client.command("replay", since=0)
    assert (response["type"], response["missing"][0]) == ("replay_incomplete", 1)
    again = await all_messages(client)
    assert numbers(again) == numbers(messages)[len(messages) - len(again) :]


async def test_replay_reports_messages_before_subscription_change_as_missing(
    odin_scenario: Scenario,
) -> None:
    """Numbers of earlier subscriptions cannot be assigned from the current ones."""
    client = await subscriber(odin_scenario, 5)
    await client.subscribe(channels=["BTC.social"])
    for number in range(5, 10):
        odin_scenario.publish("BTC", "social", number)
    await client.messages(5)
    response = await client.command("replay", since=0)
    assert (response["count"], response["missing"]) == (5, [1, 5])
    assert numbers(await all_messages(client)) == [(number, number - 1) for number in range(6, 11)]
    await client.unsubscribe(channels=["*.trade"])
    assert (await client.command("replay", since=0))["missing"] == [1, 10]


async def test_replay_reports_messages_of_resume_as_missing(odin_scenario: Scenario) -> None:
    """The client can resume again to get them."""
    records = await publish(odin_scenario, 4)
    client = await odin_scenario.connect()
    await client.resume(after(records[0]), channels=["BTC.trade"])
    await client.messages(3)
    # Records published before the client is live would be replayed too.
    await wait_all_tasks_blocked()
    await publish(odin_scenario, 2)
    await client.messages(2)
    response = await client.command("replay", since=0)
    assert (response["count"], response["missing"]) == (2, [1, 3])
    assert [seq for seq, _ in numbers(await all_messages(client))] == [4, 5]


async def test_v0_replay_resends_v0_envelopes(odin_scenario: Scenario) -> None:
    """With the original sequence numbers."""
    client = await subscriber(odin_scenario, 5, "/ws?v=0")
    response = await client.command("replay", **{"from": 2, "to": 3})
    assert response == {"type": "replay_complete", "count": 2}
    messages = await all_messages(client)
    assert numbers(messages) == [(2, 1), (3, 2)]
    assert {message["type"] for message in messages} == {"price:update"}


async def test_replay_resends_only_messages_of_this_connection(odin_scenario: Scenario) -> None:
    """Not those published before it subscribed."""
    await publish(odin_scenario, 5)
    client = await subscriber(odin_scenario, 3)
    response = await client.command("replay", since=0)
    assert response == {"type": "replay_complete", "count": 3}
    assert numbers(await all_messages(client)) == [(1, 0), (2, 1), (3, 2)]


async def test_live_messages_keep_their_order_around_replay(odin_scenario: Scenario) -> None:
    """A record read before the replay gets its number before it."""
    client = await subscriber(odin_scenario, 3)
    odin_scenario.publish("T0", "trade", 3)
    response = await client.command("replay", since=0)
    messages = await all_messages(client)
    assert [seq for seq, _ in numbers(messages) if seq > 3] in ([4], [4, 4])
    assert response["type"] == "replay_complete"


@pytest.mark.parametrize(
    ("requested", "named"),
    [
        ({}, "data.from"),
        ({"from": 1}, "data.to"),
        ({"from": 0, "to": 1}, "data.from"),
        ({"from": 2, "to": 1}, "data.to"),
        ({"since": -1}, "data.since"),
        ({"since": True}, "data.since"),
        ({"since": 1, "to": 3}, "data.since"),
        ({"from": "1", "to": 3}, "data.from"),
        ({"from": 1, "to": 1 << 53}, "data.to"),
    ],
)
async def test_invalid_replay_is_rejected_with_field(
    odin_scenario: Scenario, requested: dict[str, Any], named: str
) -> None:
    """The error names the field."""
    client = await odin_scenario.connect()
    error = await client.command("replay", **requested)
    assert error["code"] == "INVALID_MESSAGE"
    assert error["message"].startswith(named)
