"""Subscribing and unsubscribing on a live connection."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from odin_ws_client import (
    ClientClosed,
    Disconnected,
    Message,
    QueueFull,
    RejectedName,
    Resumed,
    Subscribed,
    Subscription,
    SubscriptionRejected,
    Unsubscribed,
)
from tests.client_python.fake import START, TRADES, FakeServer, take, take_offsets
from tests.client_python.live_requests import BALANCES, begin, send_request


async def test_later_subscription_is_acked_and_resumed(
    server: FakeServer, nursery: trio.Nursery
) -> None:
    """The resume has both names, and the positions of both acks."""
    async with server.follow() as client:
        attempt = await begin(server, client)
        asked = send_request(nursery, client.subscribe, "*.balances")
        command = await attempt.accept(BALANCES, categories={"balances": "odin.balances"})
        assert (command["type"], command["data"]) == (
            "subscribe",
            {"channels": ["*.balances"], "frames": "batch", "positions": True},
        )
        positions = {"odin.balances": {0: 7}}
        response = Subscribed(("*.balances",), (), positions)
        assert await asked.lingering() == response == await take(client, Subscribed)
        await attempt.message(1, "0-8", "BTC.balances")
        await take(client, Message)
        await attempt.cut()
        await take(client, Disconnected)
        resume = (await (await server.attempt()).accept())["data"]
        assert resume["channels"] == ["*.trade", "*.balances"]
        assert resume["positions"] == START | {"odin.balances": {"0": 8}}
        assert client.subscriptions == (TRADES, Subscription(["*.balances"]))


async def test_iterating_task_can_subscribe(server: FakeServer) -> None:
    """It does not iterate meanwhile, and the client reads more than its usual limit."""
    async with server.follow() as client, trio.open_nursery() as nursery:
        attempt = await begin(server, client)

        async def response() -> None:
            command = await attempt.command()
            for number in range(1, 41):
                await attempt.message(number, f"1-{number}")
                await wait_all_tasks_blocked()
            await attempt.send_item(
                type="subscription_ack",
                id=command["id"],
                subscribed=["*.balances"],
                count=2,
                categories={"balances": "odin.balances"},
            )

        nursery.start_soon(response)
        with trio.fail_after(60):
            assert (await client.subscribe("*.balances")).names == ("*.balances",)
        assert await take_offsets(client, 40) == list(range(1, 41))


async def test_rejected_names_are_returned_or_raised(
    server: FakeServer, nursery: trio.Nursery
) -> None:
    """If some are rejected, they are in the response; if all are, it is an error."""
    why = {"name": "BTC.foo", "code": "INVALID_CHANNEL", "message": "unknown category"}
    rejected = RejectedName("BTC.foo", "INVALID_CHANNEL", "unknown category")
    async with server.follow() as client:
        attempt = await begin(server, client)
        asked = send_request(nursery, client.subscribe, "BTC.foo", "BTC.balances")
        await attempt.accept(BALANCES, subscribed=["BTC.balances"], rejected=[why])
        response = await asked.lingering()
        assert (response.names, response.rejected) == (("BTC.balances",), (rejected,))
        asked = send_request(nursery, client.subscribe, "BTC.foo")
        await attempt.accept(subscribed=[], rejected=[why])
        with pytest.raises(SubscriptionRejected) as raised:
            await asked.lingering()
        assert raised.value.rejected == (rejected,)
        asked = send_request(nursery, client.subscribe, "BTC.trade", where={"field": "a", "eq": 1})
        number = (await attempt.command())["id"]
        await attempt.send_item(
            type="error", id=number, code="TOO_MANY_FILTERS", message="no", retry=False
        )
        with pytest.raises(SubscriptionRejected, match="TOO_MANY_FILTERS"):
            await asked.lingering()
        assert client.subscriptions == (TRADES, Subscription(["BTC.balances"]))


async def test_command_with_retry_ms_is_repeated(server: FakeServer, nursery: trio.Nursery) -> None:
    """After `retry_ms`; an error for the rate limit has no id."""
    async with server.follow() as client:
        attempt = await begin(server, client)
        asked = send_request(nursery, client.subscribe, "*.balances")
        await attempt.command()
        began = trio.current_time()
        await attempt.send_item(
            type="error", code="RATE_LIMIT_EXCEEDED", message="slower", retry=True, retry_ms=2500
        )
        assert (await attempt.accept(BALANCES))["data"]["channels"] == ["*.balances"]
        assert trio.current_time() - began == pytest.approx(2.5)
        await asked.lingering()


async def test_unsubscribed_names_are_not_resumed(
    server: FakeServer, nursery: trio.Nursery
) -> None:
    """Nor are positions of topics without names; the item is in order with the messages."""
    async with server.follow([TRADES, Subscription(["*.balances"])]) as client:
        attempt = await server.attempt()
        await attempt.accept(
            START | BALANCES,
            categories={"trade": "odin.trades", "balances": "odin.balances"},
            ids={"odin.trades": "a", "odin.balances": "b"},
        )
        await take(client, Subscribed)
        asked = send_request(nursery, client.unsubscribe, "*.balances", "BTC.trade")
        command = await attempt.command()
        assert (command["type"], command["data"]) == ("unsubscribe", {"channels": ["*.balances"]})
        await attempt.send_item(
            type="unsubscription_ack",
            id=command["id"],
            unsubscribed=["*.balances"],
            rejected=[],
            count=1,
        )
        unknown = RejectedName("BTC.trade", "NOT_SUBSCRIBED", "not subscribed under this name")
        response = Unsubscribed(("*.balances",), (unknown,))
        assert await asked.lingering() == response == await take(client, Unsubscribed)
        await attempt.cut()
        await take(client, Disconnected)
        attempt = await server.attempt()
        resume = (await attempt.accept())["data"]
        assert resume["channels"] == ["*.trade"]
        # Both were begun by one command, so which of its topics is whose is known from now on.
        await take(client, Resumed)
        with pytest.raises(SubscriptionRejected, match="NOT_SUBSCRIBED"):
            await client.unsubscribe("*.balances")


async def test_client_without_subscriptions_stays_connected(
    server: FakeServer, nursery: trio.Nursery
) -> None:
    """Also after the last one has ended, and after a lost connection."""
    async with server.follow([]) as client:
        attempt = await server.attempt()
        asked = send_request(nursery, client.subscribe, "*.trade")
        await attempt.accept(START)
        await asked.lingering()
        asked = send_request(nursery, client.unsubscribe, "*.trade")
        number = (await attempt.command())["id"]
        await attempt.send_item(
            type="unsubscription_ack", id=number, unsubscribed=["*.trade"], rejected=[], count=0
        )
        await asked.lingering()
        await take(client, Subscribed)
        await take(client, Unsubscribed)
        assert client.checkpoint() == {"positions": {}, "ids": {}}
        await attempt.cut()
        await take(client, Disconnected)
        attempt = await server.attempt()
        asked = send_request(nursery, client.subscribe, "BTC.trade")
        assert (await attempt.accept(START))["type"] == "subscribe"
        await asked.lingering()


async def test_command_of_an_ended_client_is_an_error(
    server: FakeServer, nursery: trio.Nursery
) -> None:
    """A waiting command, and a later one."""
    async with server.follow() as client:
        attempt = await begin(server, client)
        asked = send_request(nursery, client.subscribe, "*.balances")
        await attempt.command()
        await attempt.close(1000)
        with pytest.raises(ClientClosed):
            await asked.lingering()
        with pytest.raises(ClientClosed):
            await client.unsubscribe("*.trade")


async def test_response_behind_a_full_queue_is_an_error(server: FakeServer) -> None:
    """The client's memory does not grow without limit."""
    async with server.follow() as client, trio.open_nursery() as nursery:
        attempt = await begin(server, client)

        async def flood() -> None:
            for number in range(1, 300):
                await attempt.message(number, f"1-{number}")
                await wait_all_tasks_blocked()

        nursery.start_soon(flood)
        with trio.fail_after(60), pytest.raises(QueueFull):
            await client.subscribe("*.balances")
        assert await take_offsets(client, 299) == list(range(1, 300))
