"""`replay`: messages of this connection again, by their sequence numbers."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from odin_ws.testing.scenario import Scenario, ScenarioClient
from tests.scenarios.resume.following import after, all_messages, publish


async def subscriber(scenario: Scenario, count: int, path: str = "/ws") -> ScenarioClient:
    """A client that has got so many trades of several tokens."""
    client = await scenario.connect(path)
    await client.subscribe(channels=["*.trade"])
    for number in range(count):
        scenario.publish(f"T{number % 5}", "trade", number)
        await trio.sleep(0.01)
    assert len(await client.messages(count)) == count
    return client


def numbers(messages: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """Of each the sequence number, and what it was when it was published."""
    return [(one["seq"], one["data"]["data"]) for one in messages]


@pytest.mark.parametrize(
    ("asked", "first", "last"),
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
async def test_within_the_window(
    odin_scenario: Scenario, asked: dict[str, int], first: int, last: int
) -> None:
    """They come as they were, with their numbers, then replay_complete; numbering goes on."""
    client = await subscriber(odin_scenario, 10)
    answer = await client.command("replay", **asked)
    assert answer == {"type": "replay_complete", "count": last - first + 1}
    messages = await all_messages(client)
    assert numbers(messages) == [(number, number - 1) for number in range(first, last + 1)]
    assert all(message["replay"] for message in messages)
    odin_scenario.publish("T1", "trade", "next")
    assert (await client.message())["seq"] == 11


async def test_many_at_once(odin_scenario: Scenario) -> None:
    """More than a write's worth come in order, to a client that reads slowly too."""
    client = await odin_scenario.connect(capacity=3000)
    await client.subscribe(channels=["*.trade"])
    for number in range(350):
        odin_scenario.publish(f"T{number % 5}", "trade", number)
    sent = numbers(await client.messages(350))
    answer = await client.command("replay", since=0)
    assert answer["count"] == 350
    assert numbers(await client.messages(350)) == sent


@pytest.mark.parametrize(
    ("asked", "missing", "count"),
    [
        ({"from": 1, "to": 30}, [1, 25], 5),
        ({"from": 1, "to": 5}, [1, 5], 0),
        ({"from": 20, "to": 26}, [20, 25], 1),
        ({"since": 3}, [4, 25], 5),
    ],
)
@pytest.mark.odin_settings(ws_history_bytes=5_200)
async def test_beyond_the_window(
    odin_scenario: Scenario, asked: dict[str, int], missing: list[int], count: int
) -> None:
    """What memory has no more is told, and what it has comes: nothing else."""
    client = await subscriber(odin_scenario, 30)
    answer = await client.command("replay", **asked)
    assert answer == {"type": "replay_incomplete", "count": count, "missing": missing}
    expected = [(number, number - 1) for number in range(26, 26 + count)]
    assert numbers(await all_messages(client)) == expected


@pytest.mark.odin_settings(ws_history_bytes=26_000)
async def test_all_of_it_beyond_the_window(odin_scenario: Scenario) -> None:
    """Where nothing of it is left, nothing else comes in its place."""
    client = await subscriber(odin_scenario, 30)
    answer = await client.command("replay", **{"from": 1, "to": 2})
    assert answer == {"type": "replay_incomplete", "count": 0, "missing": [1, 2]}
    assert await all_messages(client) == []


@pytest.mark.odin_settings(ws_conflation_threshold_bytes=1000)
async def test_not_beyond_what_was_skipped(odin_scenario: Scenario) -> None:
    """With delivery latest numbers have holes: what is before the last one is not made up."""
    client = await odin_scenario.connect(capacity=1000)
    await client.subscribe(channels=["*.trade"], delivery="latest")
    for number in range(100):
        odin_scenario.publish("BTC", "trade", number)
        await trio.sleep(0.06)
    messages = await all_messages(client)
    assert any("skipped" in message for message in messages)
    answer = await client.command("replay", since=0)
    assert (answer["type"], answer["missing"][0]) == ("replay_incomplete", 1)
    again = await all_messages(client)
    assert numbers(again) == numbers(messages)[len(messages) - len(again) :]


async def test_not_beyond_a_change_of_subscriptions(odin_scenario: Scenario) -> None:
    """What was sent under other subscriptions is not made up from those of now."""
    client = await subscriber(odin_scenario, 5)
    await client.subscribe(channels=["BTC.social"])
    for number in range(5, 10):
        odin_scenario.publish("BTC", "social", number)
    await client.messages(5)
    answer = await client.command("replay", since=0)
    assert (answer["count"], answer["missing"]) == (5, [1, 5])
    assert numbers(await all_messages(client)) == [(number, number - 1) for number in range(6, 11)]
    await client.unsubscribe(channels=["*.trade"])
    assert (await client.command("replay", since=0))["missing"] == [1, 10]


async def test_not_beyond_a_replay(odin_scenario: Scenario) -> None:
    """What a resume brought is asked for by another resume."""
    records = await publish(odin_scenario, 4)
    client = await odin_scenario.connect()
    await client.resume(after(records[0]), channels=["BTC.trade"])
    await client.messages(3)
    # Records that come before the client is live are replayed, too.
    await wait_all_tasks_blocked()
    await publish(odin_scenario, 2)
    await client.messages(2)
    answer = await client.command("replay", since=0)
    assert (answer["count"], answer["missing"]) == (2, [1, 3])
    assert [seq for seq, _ in numbers(await all_messages(client))] == [4, 5]


async def test_in_version_0(odin_scenario: Scenario) -> None:
    """In the envelope of the connection, numbered as before."""
    client = await subscriber(odin_scenario, 5, "/ws?v=0")
    answer = await client.command("replay", **{"from": 2, "to": 3})
    assert answer == {"type": "replay_complete", "count": 2}
    messages = await all_messages(client)
    assert numbers(messages) == [(2, 1), (3, 2)]
    assert {message["type"] for message in messages} == {"price:update"}


async def test_only_what_this_connection_was_sent(odin_scenario: Scenario) -> None:
    """Nothing comes that was published before it subscribed, or for others."""
    await publish(odin_scenario, 5)
    client = await subscriber(odin_scenario, 3)
    answer = await client.command("replay", since=0)
    assert answer == {"type": "replay_complete", "count": 3}
    assert numbers(await all_messages(client)) == [(1, 0), (2, 1), (3, 2)]


async def test_what_was_published_in_between_is_due_first(odin_scenario: Scenario) -> None:
    """News keeps its order: what has been read by then has its number before the replay."""
    client = await subscriber(odin_scenario, 3)
    odin_scenario.publish("T0", "trade", 3)
    answer = await client.command("replay", since=0)
    messages = await all_messages(client)
    assert [seq for seq, _ in numbers(messages) if seq > 3] in ([4], [4, 4])
    assert answer["type"] == "replay_complete"


@pytest.mark.parametrize(
    ("asked", "named"),
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
async def test_what_cannot_be_read(
    odin_scenario: Scenario, asked: dict[str, Any], named: str
) -> None:
    """The error names the field."""
    client = await odin_scenario.connect()
    error = await client.command("replay", **asked)
    assert error["code"] == "INVALID_MESSAGE"
    assert error["message"].startswith(named)
