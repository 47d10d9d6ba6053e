"""What a command that begins in the past is told."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from trio.testing import MockClock, wait_all_tasks_blocked

from tests.session.conversation import Talker, open_house

NOTHING = {"odin.trades": {"0": -1}}


async def test_what_was_unsubscribed_meanwhile_is_not_acknowledged(
    autojump_clock: MockClock,
) -> None:
    """A resume_ack names only what is still on its way to be live."""
    async with open_house(retention_bytes=0) as house:
        client = Talker(house)
        await house.publish("BTC", "ETH")
        house.log_reader.hold()
        client.say("resume", 1, channels=["BTC.trade", "ETH.trade"], positions=NOTHING)
        await wait_all_tasks_blocked()
        client.say("unsubscribe", 3, channels=["ETH.trade"])
        house.log_reader.release()
        await wait_all_tasks_blocked()
        assert client.received[1]["subscribed"] == ["BTC.trade"]


async def test_positions_are_told_of_what_is_live_already(autojump_clock: MockClock) -> None:
    """A subscription that begins with a snapshot tells the positions of all its names."""
    async with open_house() as house:
        client = Talker(house)
        await house.publish("BTC", "ETH")
        live = await client.ask("subscribe", channels=["BTC.trade"], positions=True)
        again = await client.ask("subscribe", channels=["BTC.trade"], positions=True, snapshot=True)
        assert live["positions"] == again["positions"]
