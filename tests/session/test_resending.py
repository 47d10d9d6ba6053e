"""`replay` resends messages under their sequence numbers, and reports those no longer kept."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from typing import Any

import pytest
from trio.testing import MockClock, wait_all_tasks_blocked

from odin_ws.records import Assignment
from tests.session.conversation import FakeClient, Harness, open_harness


async def resend(client: FakeClient, **numbers: int) -> tuple[list[int], dict[str, Any]]:
    """Send `replay`; return the numbers of the resent messages, and the response after them."""
    before = len(client.received)
    client.send("replay", 5, **numbers)
    await wait_all_tasks_blocked()
    *again, response = client.received[before:]
    assert all(message["replay"] is True for message in again)
    assert response["id"] == 5
    assert response["count"] == len(again)
    first = {message["seq"]: message for message in client.received[:before] if "seq" in message}
    assert [one | {"replay": True} for one in (first[message["seq"]] for message in again)] == again
    return [message["seq"] for message in again], response


async def client_with_messages(harness: Harness, count: int, forgotten: int = 0) -> FakeClient:
    """Return a client that was sent `count` messages; history has dropped the first `forgotten`."""
    client = FakeClient(harness)
    await client.request("subscribe", channels=["*.trade", "*.social"])
    await harness.publish(*["BTC"] * forgotten)
    if forgotten:
        positions = {key: end - 1 for key, end in harness.log.ends().items()}
        await harness.feeder.publish(Assignment(positions))
    await harness.publish(*["BTC", "ETH"] * ((count - forgotten) // 2))
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
    """Messages are equal but for `replay: true`; numbers not yet used are not reported missing."""
    async with open_harness() as harness:
        client = await client_with_messages(harness, 8)
        again, response = await resend(client, **numbers)
        assert again == expected
        assert response["type"] == "replay_complete"


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
    """`missing` is the range from the first to the last number that the history has dropped."""
    async with open_harness() as harness:
        client = await client_with_messages(harness, 10, forgotten=4)
        again, response = await resend(client, **numbers)
        assert again == expected
        assert response.get("missing") == missing
        kind = "replay_complete" if missing is None else "replay_incomplete"
        assert response["type"] == kind


async def test_replay_without_sent_messages_is_empty(autojump_clock: MockClock) -> None:
    """The response is `replay_complete`: nothing was sent, so nothing is missing."""
    async with open_harness() as harness:
        client = FakeClient(harness)
        for numbers in ({"since": 0}, {"from": 1, "to": 9}):
            again, response = await resend(client, **numbers)
            assert (again, response["type"]) == ([], "replay_complete")


async def test_resent_messages_take_no_new_numbers(autojump_clock: MockClock) -> None:
    """The next live message continues the sequence."""
    async with open_harness() as harness:
        client = await client_with_messages(harness, 4)
        await resend(client, since=0)
        await harness.publish("BTC")
        assert client.received[-1]["seq"] == 5
        assert "replay" not in client.received[-1]
        assert (await resend(client, since=3))[0] == [4, 5]


async def test_slow_client_gets_a_hundred_messages_at_a_time(autojump_clock: MockClock) -> None:
    """A chunk has 100 messages; a live message is sent between two chunks, under its own number."""
    async with open_harness() as harness:
        client = await client_with_messages(harness, 250)
        before = len(client.received)
        client.transport.room = 0
        client.send("replay", 1, since=0)
        await wait_all_tasks_blocked()
        chunk = client.send_queue.backlog
        await harness.publish("BTC")
        client.make_room(chunk)
        await wait_all_tasks_blocked()
        client.make_room()
        await wait_all_tasks_blocked()
    *rest, response = client.received[before:]
    assert (response["type"], response["count"]) == ("replay_complete", 250)
    again = [message["seq"] for message in rest if "replay" in message]
    news = [number for number, one in enumerate(rest) if "replay" not in one]
    assert again == list(range(1, 251))
    assert news == [100]
    assert rest[100]["seq"] == 251


async def test_resent_messages_are_counted_as_sent(autojump_clock: MockClock) -> None:
    """`messages_sent` and the charge of the command include them."""
    async with open_harness() as harness:
        client = await client_with_messages(harness, 8)
        assert harness.hub.stats.messages_sent == 8
        await resend(client, **{"from": 3, "to": 5})
        assert harness.hub.stats.messages_sent == 11
        assert client.charged == 3
