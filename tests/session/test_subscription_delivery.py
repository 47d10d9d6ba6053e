"""`delivery` of a connection: conflated messages, held messages, and when it is slow."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.session.conversation import (
    GRACE,
    HELD,
    MARK,
    STUCK,
    Talker,
    open_house,
)
from tests.session.start_positions import BEGINNINGS


@pytest.mark.parametrize("start_position", ["resume", "snapshot"])
async def test_delivery_can_be_changed_at_any_time(
    autojump_clock: MockClock, start_position: str
) -> None:
    """By every subscribe command; one without the field changes nothing."""
    kind, data, _ = BEGINNINGS[start_position]
    async with open_house() as house:
        client = Talker(house)
        seen = []
        for delivery in (None, "latest", None, "latest", "all", None):
            await client.ask(kind, **data, delivery=delivery)
            conflated = client.subscriber.conflation is not None
            seen.append(conflated)
    assert seen == [False, True, True, True, False, False]


async def test_latest_client_that_reads_is_not_slow(
    autojump_clock: MockClock,
) -> None:
    """Messages over the high-water mark are conflated, and sent when there is room."""
    async with open_house() as house:
        client = Talker(house, takes=0)
        client.say("subscribe", channels=["*.trade"], delivery="latest")
        for _ in range(20):
            await house.publish("BTC", "ETH")
            await trio.sleep(STUCK - 1)
            client.take(1)
        assert MARK - 20 < client.send_queue.backlog < 2 * MARK
        assert not client.slow
        client.take()
        await wait_all_tasks_blocked()
    *maximum, before, last = client.received[1:]
    assert [one["pos"] for one in (before, last)] == ["0-38", "0-39"]
    assert before["skipped"] == before["seq"] - maximum[-1]["seq"] - 1
    assert last["seq"] == 40


async def test_latest_client_that_reads_nothing_is_slow(
    autojump_clock: MockClock,
) -> None:
    """Else it would stay for ever: its pongs prove no reads."""
    async with open_house() as house:
        client = Talker(house, takes=0)
        client.say("subscribe", channels=["*.trade"], delivery="latest")
        await house.publish("BTC")
        await trio.sleep(STUCK - 1)
        assert not client.slow
        await trio.sleep(2)
        assert client.slow
        client.take()


async def test_latest_of_too_many_channels_is_slow(autojump_clock: MockClock) -> None:
    """Messages of different channels replace nothing."""
    async with open_house() as house:
        client = Talker(house, takes=0)
        client.say("subscribe", channels=["*.trade"], delivery="latest")
        numbers = iter(range(1000))
        while not client.send_queue.backlog > MARK:
            await house.publish("BTC")
        held = 0
        while not client.slow:
            await house.publish(f"T{next(numbers)}")
            held += len(house.value)
        assert HELD < held <= HELD + len(house.value)
        client.take()


async def test_change_from_latest_to_all_sends_held_messages_first(
    autojump_clock: MockClock,
) -> None:
    """Then no message is replaced, and the client may be slow again."""
    async with open_house() as house:
        client = Talker(house, takes=0)
        client.say("subscribe", 1, channels=["*.trade"], delivery="latest")
        await house.publish(*["BTC"] * 10)
        await house.publish(*["BTC"] * 10)
        client.say("subscribe", 2, channels=["*.trade"], delivery="all")
        for _ in range(3):
            await house.publish("BTC")
        await trio.sleep(GRACE + 1)
        assert client.slow
        client.take()
        await wait_all_tasks_blocked()
    assert client.kinds[-5:] == ["0-19", "subscription_ack", "0-20", "0-21", "0-22"]
