"""Acks of commands that replay records."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from trio.testing import MockClock, wait_all_tasks_blocked

from tests.session.conversation import FakeClient, open_harness

NOTHING_RECEIVED = {"odin.trades": {"0": -1}}


async def test_resume_ack_omits_channel_unsubscribed_meanwhile(
    autojump_clock: MockClock,
) -> None:
    """The ack names only the channels that will be live after the replay."""
    async with open_harness(retention_bytes=0) as harness:
        client = FakeClient(harness)
        await harness.publish("BTC", "ETH")
        harness.log_reader.hold()
        client.send("resume", 1, channels=["BTC.trade", "ETH.trade"], positions=NOTHING_RECEIVED)
        await wait_all_tasks_blocked()
        client.send("unsubscribe", 3, channels=["ETH.trade"])
        harness.log_reader.release()
        await wait_all_tasks_blocked()
        assert client.received[1]["subscribed"] == ["BTC.trade"]


async def test_snapshot_ack_has_positions_of_live_channel(autojump_clock: MockClock) -> None:
    """A subscription with a snapshot acknowledges the positions of all its names."""
    async with open_harness() as harness:
        client = FakeClient(harness)
        await harness.publish("BTC", "ETH")
        live = await client.request("subscribe", channels=["BTC.trade"], positions=True)
        again = await client.request(
            "subscribe", channels=["BTC.trade"], positions=True, snapshot=True
        )
        assert live["positions"] == again["positions"]
