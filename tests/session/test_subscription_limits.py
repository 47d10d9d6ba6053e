"""A connection's subscriptions and waiting commands are bounded."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from typing import Any

import pytest
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.session.conversation import (
    CATALOGUE,
    FakeClient,
    open_harness,
)
from tests.session.start_positions import BEGINNINGS, begin_long_replay


@pytest.mark.parametrize("start_position", BEGINNINGS)
async def test_number_of_waiting_commands_is_bounded(
    autojump_clock: MockClock, start_position: str
) -> None:
    """100 commands wait for the replay; the next one is rejected with the advice to retry."""
    kind, data, _ = BEGINNINGS[start_position]
    async with open_harness(retention_bytes=0) as harness:
        client = await begin_long_replay(harness)
        for number in range(100):
            client.send("subscribe", number, channels=["ETH.trade"])
        client.send(kind, 100, **data)
        await wait_all_tasks_blocked()
        (rejected,) = client.received
        assert rejected["id"] == 100
        assert (rejected["type"], rejected["code"]) == (
            ("reconnect_error", "rate_limited")
            if kind == "reconnect"
            else ("error", "RATE_LIMIT_EXCEEDED")
        )
        assert rejected.get("retry", True)
        assert 2000 <= rejected["retry_ms"] <= 10_000
        harness.log_reader.release()
        await wait_all_tasks_blocked()
        assert client.kinds[-100:] == ["subscription_ack"] * 100
        assert (await client.request("subscribe", channels=["ETH.trade"]))["count"] == 2


@pytest.mark.parametrize("start_position", ["resume", "snapshot", "since"])
async def test_number_of_patterns_is_bounded(
    autojump_clock: MockClock, start_position: str
) -> None:
    """Names are accepted up to the limit; names that are already live do not count twice."""
    kind, data, response = BEGINNINGS[start_position]
    channels = ["BTC.trade", "ETH.trade", "BTC.PRICE_ONLY", "SOL.trade", "DOGE.trade"]
    async with open_harness(patterns=5) as harness:
        client = FakeClient(harness)
        await client.request("subscribe", channels=["BTC.trade", "OTHER.trade"])
        ack = await client.request(kind, 1, **data | {"channels": channels})
        assert ack["type"] == response
        assert ack["subscribed"] == ["BTC.trade", "ETH.trade", "BTC.PRICE_ONLY", "SOL.trade"]
        assert [(rejection["name"], rejection["code"]) for rejection in ack["rejected"]] == [
            ("DOGE.trade", "TOO_MANY_SUBSCRIPTIONS")
        ]
        assert ack["count"] == len(client.subscriber.patterns) == 5


@pytest.mark.parametrize("count", [3, 4])
async def test_reconnect_over_the_limit_is_rejected_whole(
    autojump_clock: MockClock, count: int
) -> None:
    """The response has no names; the limit is 4 patterns including the live one."""
    async with open_harness(patterns=4) as harness:
        client = FakeClient(harness)
        await harness.publish("BTC")
        await client.request("subscribe", channels=["BTC.trade"])
        last = {f"T{number}.trade": "0-0" for number in range(count)} | {"BTC.trade": "0-0"}
        response = await client.request("reconnect", 7, last_pos=last)
        assert response["id"] == 7
        if count == 3:
            assert response["type"] == "reconnect_ack"
            assert len(client.subscriber.patterns) == 4
        else:
            assert (response["type"], response["code"]) == ("reconnect_error", "invalid_request")
            assert client.subscriber.patterns == {"BTC.trade"}


async def test_single_large_command_may_wait(autojump_clock: MockClock) -> None:
    """A command that waits alone is bounded by the message size only."""
    positions = {topic: {str(n): 0 for n in range(600)} for topic in CATALOGUE.topics}
    async with open_harness() as harness:
        client = FakeClient(harness)
        harness.log_reader.hold()
        client.send("subscribe", 1, channels=["BTC.trade"], since_ms=0)
        client.send("resume", 2, channels=["*.*"], positions=positions)
        client.send("resume", 3, channels=["*.*"], positions=positions)
        assert [message["id"] for message in client.received] == [3]


async def test_equal_patterns_count_once_for_the_limit(autojump_clock: MockClock) -> None:
    """So do patterns that the client has already subscribed to."""
    async with open_harness(patterns=1) as harness:
        client = FakeClient(harness)
        for number in (1, 2):
            ack = await client.request(
                "subscribe", number, channels=["*.trade"], topics=["odin.trades"]
            )
            assert (ack["subscribed"], ack["count"]) == (["*.trade", "odin.trades"], 1)


async def test_patterns_of_waiting_commands_are_bounded(autojump_clock: MockClock) -> None:
    """The patterns of waiting commands have a limit beside the number of commands."""
    async with open_harness(patterns=5000) as harness:
        client = FakeClient(harness)
        harness.log_reader.hold()
        client.send("subscribe", 1, channels=["BTC.trade"], since_ms=0)
        tokens = [f"T{number}" for number in range(1000)]
        for number in range(2, 8):
            client.send("subscribe", number, topics=["odin.trades"], tokens=tokens)
        client.send("subscribe", 9, channels=["BTC.trade"])
        rejected = [
            (message["id"], message["code"], message["retry"]) for message in client.received
        ]
        assert rejected == [(number, "RATE_LIMIT_EXCEEDED", True) for number in (6, 7)]


async def test_filters_of_waiting_commands_are_bounded(autojump_clock: MockClock) -> None:
    """A filter of 50 KB counted as two patterns, so 100 commands could hold 10 MB."""
    listed = [f"{number:0>200}x" for number in range(64)]
    async with open_harness() as harness:
        client = FakeClient(harness)
        harness.log_reader.hold()
        client.send("subscribe", 0, channels=["BTC.trade"], since_ms=0)
        for number in range(1, 31):
            fields = [{"field": f"f{number}.{each}", "in": listed} for each in "ab"]
            await client.send_long(
                "subscribe", number, channels=["ETH.trade"], where={"or": fields}
            )
        rejected = [(one["id"], one["code"]) for one in client.received]
        assert rejected == [(number, "RATE_LIMIT_EXCEEDED") for number in range(7, 31)]


async def test_memory_of_waiting_filters_is_charged(autojump_clock: MockClock) -> None:
    """Without memory for the filter the command is rejected, and a plain one still waits."""
    listed = [f"{number:0>200}x" for number in range(64)]
    async with open_harness() as harness:
        client = FakeClient(harness)
        harness.log_reader.hold()
        client.send("subscribe", 0, channels=["BTC.trade"], since_ms=0)
        harness.limits.budget.measured(0, 10_000)
        where = {"field": "a", "in": listed}
        await client.send_long("subscribe", 1, channels=["ETH.trade"], where=where)
        client.send("subscribe", 2, channels=["ETH.trade"])
        assert [(one["id"], one["code"]) for one in client.received] == [(1, "NOT_AVAILABLE")]


@pytest.mark.parametrize("options", [{"max_rate": 1}, {"where": {"field": "a", "gt": 1}}])
async def test_memory_of_rates_and_filters_is_charged(
    autojump_clock: MockClock, options: dict[str, Any]
) -> None:
    """They take more than a subscription itself; a change of existing ones counts too."""
    channels = [f"T{number}.trade" for number in range(20)]
    async with open_harness() as harness:
        client = FakeClient(harness)
        harness.limits.budget.measured(0, 20_000)
        rejected = await client.request("subscribe", channels=channels, **options)
        assert rejected["code"] == "NOT_AVAILABLE"
        assert (await client.request("subscribe", channels=channels))["count"] == 20
        rejected = await client.request("subscribe", channels=channels, **options)
        assert rejected["code"] == "NOT_AVAILABLE"
        harness.limits.budget.measured(0, 21_000)
        assert (await client.request("subscribe", channels=channels, **options))["count"] == 20
        # The same again takes nothing.
        harness.limits.budget.measured(0, 0)
        assert (await client.request("subscribe", channels=channels, **options))["count"] == 20
