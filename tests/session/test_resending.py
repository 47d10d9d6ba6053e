"""`replay`: messages are sent again under their numbers; those not kept are reported."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from typing import Any

import pytest
from trio.testing import MockClock, wait_all_tasks_blocked

from odin_ws.records import Assignment
from tests.session.conversation import House, Talker, open_house


async def ask_again(client: Talker, **numbers: int) -> tuple[list[int], dict[str, Any]]:
    """The numbers of what is sent again, and the answer behind it."""
    before = len(client.received)
    client.say("replay", 5, **numbers)
    await wait_all_tasks_blocked()
    *again, answer = client.received[before:]
    assert all(one["replay"] is True for one in again)
    assert answer["id"] == 5
    assert answer["count"] == len(again)
    first = {one["seq"]: one for one in client.received[:before] if "seq" in one}
    assert [one | {"replay": True} for one in (first[one["seq"]] for one in again)] == again
    return [one["seq"] for one in again], answer


async def one_who_was_sent(house: House, count: int, forgotten: int = 0) -> Talker:
    """A client that was sent so many messages, the first of which are not found any more."""
    client = Talker(house)
    await client.ask("subscribe", channels=["*.trade", "*.social"])
    await house.publish(*["BTC"] * forgotten)
    if forgotten:
        positions = {key: end - 1 for key, end in house.log.ends().items()}
        await house.feeder.publish(Assignment(positions))
    await house.publish(*["BTC", "ETH"] * ((count - forgotten) // 2))
    return client


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ({"from": 1, "to": 8}, [1, 2, 3, 4, 5, 6, 7, 8]),
        ({"from": 3, "to": 5}, [3, 4, 5]),
        ({"from": 4, "to": 4}, [4]),
        ({"from": 7, "to": 100}, [7, 8]),
        ({"from": 9, "to": 100}, []),
        ({"since": 0}, [1, 2, 3, 4, 5, 6, 7, 8]),
        ({"since": 6}, [7, 8]),
        ({"since": 8}, []),
        ({"since": 100}, []),
    ],
    ids=str,
)
async def test_kept_messages_are_sent_again(
    autojump_clock: MockClock, numbers: dict[str, int], expected: list[int]
) -> None:
    """Unchanged but for the mark; numbers never used are no loss."""
    async with open_house() as house:
        client = await one_who_was_sent(house, 8)
        again, answer = await ask_again(client, **numbers)
        assert again == expected
        assert answer["type"] == "replay_complete"


@pytest.mark.parametrize(
    ("numbers", "expected", "missing"),
    [
        ({"from": 5, "to": 6}, [5, 6], None),
        ({"from": 4, "to": 6}, [5, 6], [4, 4]),
        ({"from": 1, "to": 100}, [5, 6, 7, 8, 9, 10], [1, 4]),
        ({"from": 1, "to": 4}, [], [1, 4]),
        ({"from": 1, "to": 3}, [], [1, 3]),
        ({"from": 2, "to": 2}, [], [2, 2]),
        ({"from": 1, "to": 1}, [], [1, 1]),
        ({"since": 0}, [5, 6, 7, 8, 9, 10], [1, 4]),
        ({"since": 3}, [5, 6, 7, 8, 9, 10], [4, 4]),
        ({"since": 4}, [5, 6, 7, 8, 9, 10], None),
    ],
    ids=str,
)
async def test_messages_no_longer_kept_are_reported(
    autojump_clock: MockClock,
    numbers: dict[str, int],
    expected: list[int],
    missing: list[int] | None,
) -> None:
    """From the first number to the last."""
    async with open_house() as house:
        client = await one_who_was_sent(house, 10, forgotten=4)
        again, answer = await ask_again(client, **numbers)
        assert again == expected
        assert answer.get("missing") == missing
        kind = "replay_complete" if missing is None else "replay_incomplete"
        assert answer["type"] == kind


async def test_replay_without_sent_messages_is_empty(autojump_clock: MockClock) -> None:
    """Neither messages nor a loss."""
    async with open_house() as house:
        client = Talker(house)
        for numbers in ({"since": 0}, {"from": 1, "to": 9}):
            again, answer = await ask_again(client, **numbers)
            assert (again, answer["type"]) == ([], "replay_complete")


async def test_resent_messages_take_no_new_numbers(autojump_clock: MockClock) -> None:
    """The next live message continues the sequence."""
    async with open_house() as house:
        client = await one_who_was_sent(house, 4)
        await ask_again(client, since=0)
        await house.publish("BTC")
        assert client.received[-1]["seq"] == 5
        assert "replay" not in client.received[-1]
        assert (await ask_again(client, since=3))[0] == [4, 5]


async def test_slow_client_gets_a_hundred_messages_at_a_time(autojump_clock: MockClock) -> None:
    """Live messages come in between, under their own numbers."""
    async with open_house() as house:
        client = await one_who_was_sent(house, 250)
        before = len(client.received)
        client.transport.room = 0
        client.say("replay", 1, since=0)
        await wait_all_tasks_blocked()
        chunk = client.send_queue.backlog
        await house.publish("BTC")
        client.take(chunk)
        await wait_all_tasks_blocked()
        client.take()
        await wait_all_tasks_blocked()
    *rest, answer = client.received[before:]
    assert (answer["type"], answer["count"]) == ("replay_complete", 250)
    again = [one["seq"] for one in rest if "replay" in one]
    news = [number for number, one in enumerate(rest) if "replay" not in one]
    assert again == list(range(1, 251))
    assert news == [100]
    assert rest[100]["seq"] == 251


async def test_resent_messages_are_counted_as_sent(autojump_clock: MockClock) -> None:
    """One function numbers, counts and delivers all messages."""
    async with open_house() as house:
        client = await one_who_was_sent(house, 8)
        assert house.hub.stats.messages_sent == 8
        await ask_again(client, **{"from": 3, "to": 5})
        assert house.hub.stats.messages_sent == 11
        assert client.charged == 3
