"""`delivery`: conflated messages, held messages, and when the server closes a client as slow."""

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
    FakeClient,
    open_harness,
)
from tests.session.start_positions import BEGINNINGS


@pytest.mark.parametrize("start_position", ["resume", "snapshot"])
async def test_delivery_can_be_changed_at_any_time(
    autojump_clock: MockClock, start_position: str
) -> None:
    """Each subscribe command may change it; one without the field does not."""
    kind, data, _ = BEGINNINGS[start_position]
    async with open_harness() as harness:
        client = FakeClient(harness)
        seen = []
        for delivery in (None, "latest", None, "latest", "all", None):
            await client.request(kind, **data, delivery=delivery)
            conflated = client.subscriber.conflation is not None
            seen.append(conflated)
    assert seen == [False, True, True, True, False, False]


async def test_latest_client_that_reads_is_not_slow(
    autojump_clock: MockClock,
) -> None:
    """Messages over the conflation threshold are conflated, and sent once there is room."""
    async with open_harness() as harness:
        client = FakeClient(harness, room=0)
        client.send("subscribe", channels=["*.trade"], delivery="latest")
        for _ in range(20):
            await harness.publish("BTC", "ETH")
            await trio.sleep(STUCK - 1)
            client.make_room(1)
        assert MARK - 20 < client.send_queue.backlog < 2 * MARK
        assert not client.slow
        client.make_room()
        await wait_all_tasks_blocked()
    *maximum, before, last = client.received[1:]
    assert [message["pos"] for message in (before, last)] == ["0-38", "0-39"]
    assert before["skipped"] == before["seq"] - maximum[-1]["seq"] - 1
    assert last["seq"] == 40


async def test_latest_client_that_reads_nothing_is_slow(
    autojump_clock: MockClock,
) -> None:
    """Otherwise it would stay connected forever: pongs do not prove that it reads messages."""
    async with open_harness() as harness:
        client = FakeClient(harness, room=0)
        client.send("subscribe", channels=["*.trade"], delivery="latest")
        await harness.publish("BTC")
        await trio.sleep(STUCK - 1)
        assert not client.slow
        await trio.sleep(2)
        assert client.slow
        client.make_room()


async def test_latest_of_too_many_channels_is_slow(autojump_clock: MockClock) -> None:
    """Messages of different channels do not replace each other, so they fill the queue."""
    async with open_harness() as harness:
        client = FakeClient(harness, room=0)
        client.send("subscribe", channels=["*.trade"], delivery="latest")
        numbers = iter(range(1000))
        while not client.send_queue.backlog > MARK:
            await harness.publish("BTC")
        held = 0
        while not client.slow:
            await harness.publish(f"T{next(numbers)}")
            held += len(harness.value)
        assert HELD < held <= HELD + len(harness.value)
        client.make_room()


async def test_change_from_latest_to_all_sends_held_messages_first(
    autojump_clock: MockClock,
) -> None:
    """From then on no message is replaced, and the client may be slow again."""
    async with open_harness() as harness:
        client = FakeClient(harness, room=0)
        client.send("subscribe", 1, channels=["*.trade"], delivery="latest")
        await harness.publish(*["BTC"] * 10)
        await harness.publish(*["BTC"] * 10)
        client.send("subscribe", 2, channels=["*.trade"], delivery="all")
        for _ in range(3):
            await harness.publish("BTC")
        await trio.sleep(GRACE + 1)
        assert client.slow
        client.make_room()
        await wait_all_tasks_blocked()
    assert client.kinds[-5:] == ["0-19", "subscription_ack", "0-20", "0-21", "0-22"]
