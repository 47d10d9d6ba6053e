"""Commands that begin in the past take effect in order, and end when the client unsubscribes."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from odin_ws.records import HistoryEnd
from tests.session.conversation import (
    FakeClient,
    open_harness,
)
from tests.session.start_positions import BEGINNINGS, NOTHING, begin_long_replay


async def test_plain_subscribe_is_answered_at_once(autojump_clock: MockClock) -> None:
    """The subscription is live before any other task runs."""
    async with open_harness() as harness:
        client = FakeClient(harness)
        client.send("subscribe", 1, channels=["BTC.trade"], positions=True)
        client.send("unsubscribe", 2, channels=["BTC.trade"])
        assert client.kinds == ["subscription_ack", "unsubscription_ack"]
        assert client.tasks == 0


async def test_commands_wait_for_a_running_replay(autojump_clock: MockClock) -> None:
    """Responses have the order of the commands."""
    async with open_harness(retention_bytes=0) as harness:
        client = await begin_long_replay(harness)
        client.send("subscribe", 2, channels=["ETH.trade"])
        client.send("replay", 3, since=0)
        client.send("resume", 4, channels=["DOGE.trade"], positions=NOTHING)
        client.send("subscribe", 5, channels=["SOL.trade"])
        await harness.publish("ETH", "BTC")
        assert client.received == []
        harness.log_reader.release()
        await wait_all_tasks_blocked()
        await harness.publish("BTC", "ETH", "DOGE", "SOL")
    assert client.kinds == [
        "resume_ack",
        *["0-0", "0-1", "0-3"],
        "subscription_ack",
        "replay_incomplete",
        *["resume_ack", "replay_complete"],
        "subscription_ack",
        *["0-4", "0-5", "0-6", "0-7"],
    ]
    responder = [one for one in client.received if "seq" not in one]
    assert [one["id"] for one in responder] == [1, 2, 3, 4, 4, 5]
    assert [message.get("seq") for message in client.received if "seq" in message] == list(
        range(1, 8)
    )
    # One replay task has served all four commands.
    assert client.tasks == 1


async def test_rejected_waiting_command_does_not_stop_the_next(
    autojump_clock: MockClock,
) -> None:
    """A waiting command is validated when it begins."""
    async with open_harness(retention_bytes=0, patterns=2) as harness:
        client = await begin_long_replay(harness)
        client.send("reconnect", 2, last_pos={"ETH.trade": "0-0", "SOL.trade": "0-0"})
        client.send("subscribe", 3, channels=["ETH.trade"])
        harness.log_reader.release()
        await wait_all_tasks_blocked()
    assert client.kinds == ["resume_ack", "0-0", "0-1", "reconnect_error", "subscription_ack"]
    assert client.received[3]["id"] == 2


@pytest.mark.parametrize("start_position", ["resume", "since", "reconnect"])
async def test_replay_without_a_log_response_is_rejected(
    autojump_clock: MockClock, start_position: str
) -> None:
    """After 30 s the client gets an error with `retry_ms`; other commands proceed."""
    kind, data, _ = BEGINNINGS[start_position]
    async with open_harness(retention_bytes=0) as harness:
        await harness.publish("BTC", "BTC")
        harness.log_reader.fail()
        client = FakeClient(harness)
        client.send(kind, 1, **data)
        client.send("subscribe", 2, channels=["ETH.trade"])
        await trio.sleep(40)
        rejected, ack = client.received
        assert rejected["id"] == 1
        assert (rejected["type"], rejected["code"]) == (
            ("reconnect_error", "rate_limited")
            if kind == "reconnect"
            else ("error", "NOT_AVAILABLE")
        )
        assert rejected.get("retry", True)
        assert 2000 <= rejected["retry_ms"] <= 10_000
        assert (ack["type"], ack["count"]) == ("subscription_ack", 1)
        assert len(harness.hub.index) == 1
        assert harness.context.stats.unavailable == 1


async def test_acks_with_positions_wait_for_the_history(autojump_clock: MockClock) -> None:
    """A starting hub reads its history first; a subscribe without positions is live at once."""
    async with open_harness(history_loaded=False) as harness:
        client = FakeClient(harness)
        client.send("subscribe", 1, channels=["ETH.trade"])
        client.send("subscribe", 2, channels=["BTC.trade"], positions=True)
        await harness.publish("BTC")
        assert client.kinds == ["subscription_ack"]
        await harness.feeder.publish(HistoryEnd())
        assert client.kinds == ["subscription_ack"] * 2
        ack = client.received[1]
        assert ack["positions"] == {"odin.trades": {"0": 0, "1": -1}}
        assert ack["categories"] == {"trade": "odin.trades"}
        await harness.publish("BTC")
    assert client.kinds[2:] == ["0-1"]


@pytest.mark.parametrize("begun", [True, False])
async def test_unsubscribe_ends_a_running_replay(autojump_clock: MockClock, *, begun: bool) -> None:
    """Unsubscribed before or after the task's first step: no message follows the response."""
    async with open_harness(retention_bytes=0) as harness:
        await harness.publish("BTC", "ETH")
        harness.log_reader.hold()
        client = FakeClient(harness)
        client.send("resume", 1, channels=["BTC.trade", "ETH.trade"], positions=NOTHING)
        if begun:
            await wait_all_tasks_blocked()
        client.send("unsubscribe", 2, channels=["BTC.trade", "SOL.trade"])
        (ack,) = client.received
        assert (ack["unsubscribed"], ack["count"]) == (["BTC.trade"], 1)
        assert [rejection["name"] for rejection in ack["rejected"]] == ["SOL.trade"]
        harness.log_reader.release()
        await harness.publish("BTC", "ETH")
    assert client.kinds == ["unsubscription_ack", "resume_ack", "0-1", "0-3"]
    assert len(harness.hub.index) == 1


async def test_unsubscribe_of_a_waiting_name_is_answered_at_once(
    autojump_clock: MockClock,
) -> None:
    """The waiting command proceeds without the name; a later command may subscribe to it again."""
    async with open_harness(retention_bytes=0) as harness:
        client = await begin_long_replay(harness)
        client.send("subscribe", 2, channels=["ETH.trade", "SOL.trade"])
        client.send("unsubscribe", 3, channels=["ETH.trade", "DOGE.trade"])
        client.send("unsubscribe", 4, channels=["BTC.trade"])
        client.send("subscribe", 5, channels=["ETH.*"])
        ended, _ = client.received
        assert (ended["id"], ended["unsubscribed"]) == (3, ["ETH.trade"])
        assert [rejection["name"] for rejection in ended["rejected"]] == ["DOGE.trade"]
        harness.log_reader.release()
        await wait_all_tasks_blocked()
        assert [one["id"] for one in client.received] == [3, 4, 1, 2, 5]
        assert client.received[3]["subscribed"] == ["SOL.trade"]
        assert client.subscriber.patterns == {"SOL.trade", "ETH.*"}


async def test_unsubscribe_drops_held_messages(autojump_clock: MockClock) -> None:
    """A slow client gets no message of an unsubscribed name."""
    async with open_harness(retention_bytes=0) as harness:
        await harness.publish(*["BTC"] * 20, *["ETH"] * 20)
        client = FakeClient(harness, room=100)
        channels = ["BTC.trade", "ETH.trade"]
        client.send("resume", 1, channels=channels, positions={"odin.trades": {"0": -1}})
        await wait_all_tasks_blocked()
        client.send("unsubscribe", 2, channels=["ETH.trade"])
        client.make_room()
        await wait_all_tasks_blocked()
        await harness.publish("ETH", "BTC")
    after = client.kinds[client.kinds.index("unsubscription_ack") :]
    assert not {"0-20", "0-39", "0-40"} & set(after)
    assert client.kinds[-1] == "0-41"


async def test_offset_without_a_partition_is_rejected(autojump_clock: MockClock) -> None:
    """For a topic with several partitions; the message says what to send."""
    async with open_harness() as harness:
        client = FakeClient(harness)
        response = await client.request("reconnect", 9, last_offset={"odin.trades": 3})
        assert (response["type"], response["id"], response["code"]) == (
            "reconnect_error",
            9,
            "invalid_request",
        )
        assert response["message"].startswith("data.last_offset.odin.trades: ")
        assert len(harness.hub.index) == 0


async def test_replayed_messages_are_not_sent_twice(autojump_clock: MockClock) -> None:
    """The name does not repeat them, nor does a pattern that covers it."""
    async with open_harness() as harness:
        client = FakeClient(harness)
        await client.request("subscribe", channels=["BTC.trade"])
        await harness.publish("BTC", "ETH")
        await client.request("resume", channels=["BTC.trade", "*.trade"], positions=NOTHING)
        await harness.publish("BTC", "ETH")
    assert client.kinds == [
        *["subscription_ack", "0-0"],
        *["resume_ack", "0-1", "replay_complete"],
        *["0-2", "0-3"],
    ]
    assert client.received[2]["replayed"] == 1


async def test_unsubscribe_of_an_already_ended_name_is_rejected(
    autojump_clock: MockClock,
) -> None:
    """An earlier name of the same command has ended its only pattern."""
    async with open_harness() as harness:
        client = FakeClient(harness)
        await client.request("subscribe", channels=["BTC.trade"])
        ack = await client.request(
            "unsubscribe", channels=["BTC.trade"], topics=["odin.trades"], tokens=["BTC"]
        )
        assert ack["unsubscribed"] == ["BTC.trade"]
        assert [rejection["name"] for rejection in ack["rejected"]] == ["odin.trades"]
