"""Commands from a past position take effect in order, and end when the client unsubscribes."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from odin_ws.records import HistoryEnd
from tests.session.conversation import (
    Talker,
    open_house,
)
from tests.session.start_positions import BEGINNINGS, NOTHING, begin_a_long_replay


async def test_plain_subscribe_is_answered_at_once(autojump_clock: MockClock) -> None:
    """It is live before any other task runs."""
    async with open_house() as house:
        client = Talker(house)
        client.say("subscribe", 1, channels=["BTC.trade"], positions=True)
        client.say("unsubscribe", 2, channels=["BTC.trade"])
        assert client.kinds == ["subscription_ack", "unsubscription_ack"]
        assert client.tasks == 0


async def test_commands_wait_for_a_running_replay(autojump_clock: MockClock) -> None:
    """They are answered in the order they were received."""
    async with open_house(retention_bytes=0) as house:
        client = await begin_a_long_replay(house)
        client.say("subscribe", 2, channels=["ETH.trade"])
        client.say("replay", 3, since=0)
        client.say("resume", 4, channels=["DOGE.trade"], positions=NOTHING)
        client.say("subscribe", 5, channels=["SOL.trade"])
        await house.publish("ETH", "BTC")
        assert client.received == []
        house.log_reader.release()
        await wait_all_tasks_blocked()
        await house.publish("BTC", "ETH", "DOGE", "SOL")
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
    assert [one.get("seq") for one in client.received if "seq" in one] == list(range(1, 8))
    # All of it was one task's work.
    assert client.tasks == 1


async def test_rejected_waiting_command_does_not_stop_the_next(
    autojump_clock: MockClock,
) -> None:
    """It is validated only when it begins."""
    async with open_house(retention_bytes=0, patterns=2) as house:
        client = await begin_a_long_replay(house)
        client.say("reconnect", 2, last_pos={"ETH.trade": "0-0", "SOL.trade": "0-0"})
        client.say("subscribe", 3, channels=["ETH.trade"])
        house.log_reader.release()
        await wait_all_tasks_blocked()
    assert client.kinds == ["resume_ack", "0-0", "0-1", "reconnect_error", "subscription_ack"]
    assert client.received[3]["id"] == 2


@pytest.mark.parametrize("start_position", ["resume", "since", "reconnect"])
async def test_replay_without_a_log_response_is_rejected(
    autojump_clock: MockClock, start_position: str
) -> None:
    """After 30 s, with the advice to retry; other commands proceed."""
    kind, data, _ = BEGINNINGS[start_position]
    async with open_house(retention_bytes=0) as house:
        await house.publish("BTC", "BTC")
        house.log_reader.fail()
        client = Talker(house)
        client.say(kind, 1, **data)
        client.say("subscribe", 2, channels=["ETH.trade"])
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
        assert len(house.hub.index) == 1
        assert house.context.stats.unavailable == 1


async def test_acks_with_positions_wait_for_the_history(autojump_clock: MockClock) -> None:
    """At a start history is read first; a subscribe without positions is live at once."""
    async with open_house(history_loaded=False) as house:
        client = Talker(house)
        client.say("subscribe", 1, channels=["ETH.trade"])
        client.say("subscribe", 2, channels=["BTC.trade"], positions=True)
        await house.publish("BTC")
        assert client.kinds == ["subscription_ack"]
        await house.feeder.publish(HistoryEnd())
        assert client.kinds == ["subscription_ack"] * 2
        ack = client.received[1]
        assert ack["positions"] == {"odin.trades": {"0": 0, "1": -1}}
        assert ack["categories"] == {"trade": "odin.trades"}
        await house.publish("BTC")
    assert client.kinds[2:] == ["0-1"]


@pytest.mark.parametrize("begun", [True, False])
async def test_unsubscribe_ends_a_running_replay(autojump_clock: MockClock, *, begun: bool) -> None:
    """Before or after the task's first step: no message follows the answer."""
    async with open_house(retention_bytes=0) as house:
        await house.publish("BTC", "ETH")
        house.log_reader.hold()
        client = Talker(house)
        client.say("resume", 1, channels=["BTC.trade", "ETH.trade"], positions=NOTHING)
        if begun:
            await wait_all_tasks_blocked()
        client.say("unsubscribe", 2, channels=["BTC.trade", "SOL.trade"])
        (ack,) = client.received
        assert (ack["unsubscribed"], ack["count"]) == (["BTC.trade"], 1)
        assert [one["name"] for one in ack["rejected"]] == ["SOL.trade"]
        house.log_reader.release()
        await house.publish("BTC", "ETH")
    assert client.kinds == ["unsubscription_ack", "resume_ack", "0-1", "0-3"]
    assert len(house.hub.index) == 1


async def test_unsubscribe_of_a_waiting_name_is_answered_at_once(
    autojump_clock: MockClock,
) -> None:
    """The waiting command proceeds without the name, which a later command may use again."""
    async with open_house(retention_bytes=0) as house:
        client = await begin_a_long_replay(house)
        client.say("subscribe", 2, channels=["ETH.trade", "SOL.trade"])
        client.say("unsubscribe", 3, channels=["ETH.trade", "DOGE.trade"])
        client.say("unsubscribe", 4, channels=["BTC.trade"])
        client.say("subscribe", 5, channels=["ETH.*"])
        ended, _ = client.received
        assert (ended["id"], ended["unsubscribed"]) == (3, ["ETH.trade"])
        assert [one["name"] for one in ended["rejected"]] == ["DOGE.trade"]
        house.log_reader.release()
        await wait_all_tasks_blocked()
        assert [one["id"] for one in client.received] == [3, 4, 1, 2, 5]
        assert client.received[3]["subscribed"] == ["SOL.trade"]
        assert client.subscriber.patterns == {"SOL.trade", "ETH.*"}


async def test_unsubscribe_drops_held_messages(autojump_clock: MockClock) -> None:
    """A slow client gets no message that it no longer wants."""
    async with open_house(retention_bytes=0) as house:
        await house.publish(*["BTC"] * 20, *["ETH"] * 20)
        client = Talker(house, takes=100)
        channels = ["BTC.trade", "ETH.trade"]
        client.say("resume", 1, channels=channels, positions={"odin.trades": {"0": -1}})
        await wait_all_tasks_blocked()
        client.say("unsubscribe", 2, channels=["ETH.trade"])
        client.take()
        await wait_all_tasks_blocked()
        await house.publish("ETH", "BTC")
    after = client.kinds[client.kinds.index("unsubscription_ack") :]
    assert not {"0-20", "0-39", "0-40"} & set(after)
    assert client.kinds[-1] == "0-41"


async def test_offset_without_a_partition_is_rejected(autojump_clock: MockClock) -> None:
    """For a topic with several partitions; the message says what to send."""
    async with open_house() as house:
        client = Talker(house)
        said = await client.ask("reconnect", 9, last_offset={"odin.trades": 3})
        assert (said["type"], said["id"], said["code"]) == ("reconnect_error", 9, "invalid_request")
        assert said["message"].startswith("data.last_offset.odin.trades: ")
        assert len(house.hub.index) == 0


async def test_replayed_messages_are_not_sent_twice(autojump_clock: MockClock) -> None:
    """Neither for the name nor for a pattern that covers it; the end of the replay is reported."""
    async with open_house() as house:
        client = Talker(house)
        await client.ask("subscribe", channels=["BTC.trade"])
        await house.publish("BTC", "ETH")
        await client.ask("resume", channels=["BTC.trade", "*.trade"], positions=NOTHING)
        await house.publish("BTC", "ETH")
    assert client.kinds == [
        *["subscription_ack", "0-0"],
        *["resume_ack", "0-1", "replay_complete"],
        *["0-2", "0-3"],
    ]
    assert client.received[2]["replayed"] == 1


async def test_name_whose_patterns_an_earlier_name_has_ended_is_rejected(
    autojump_clock: MockClock,
) -> None:
    """In one command or in two."""
    async with open_house() as house:
        client = Talker(house)
        await client.ask("subscribe", channels=["BTC.trade"])
        ack = await client.ask(
            "unsubscribe", channels=["BTC.trade"], topics=["odin.trades"], tokens=["BTC"]
        )
        assert ack["unsubscribed"] == ["BTC.trade"]
        assert [one["name"] for one in ack["rejected"]] == ["odin.trades"]
