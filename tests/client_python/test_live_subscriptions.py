"""Subscribing and unsubscribing on a live connection, and the resume after its loss."""

from __future__ import annotations

from typing import Any

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
from odin_ws_client.core.client import BaseClient
from tests.client_python.fake import START, TRADES, FakeServer, Visit, take, take_offsets

BALANCES = {"odin.balances": {"0": 7}}
BTC, ETH = Subscription(["BTC.trade"]), Subscription(["ETH.trade"])


class SentRequest:
    """A command of the application, carried out in a task of its own."""

    def __init__(self) -> None:
        self.result: Any = None
        self.error: Exception | None = None
        self._done = trio.Event()

    async def run(self, command: Any, *names: str, **options: Any) -> None:
        """Wait for the answer."""
        try:
            self.result = await command(*names, **options)
        except (SubscriptionRejected, ClientClosed, QueueFull) as error:
            self.error = error
        self._done.set()

    async def lingering(self) -> Any:
        """Its answer; raises its error."""
        with trio.fail_after(60):
            await self._done.wait()
        if self.error is not None:
            raise self.error
        return self.result


def send_request(nursery: trio.Nursery, command: Any, *names: str, **options: Any) -> SentRequest:
    """Begin a command."""
    asked = SentRequest()
    nursery.start_soon(lambda: asked.run(command, *names, **options))
    return asked


async def begin(server: FakeServer, client: BaseClient) -> Visit:
    """The first subscription is live."""
    attempt = await server.attempt()
    await attempt.accept(START, categories={"trade": "odin.trades"})
    await take(client, Subscribed)
    return attempt


async def next_offsets(client: BaseClient, count: int) -> list[int]:
    """The offsets of the next messages, whatever comes between them."""
    messages = client.messages()
    return [(await anext(messages)).offset for _ in range(count)]


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


@pytest.mark.parametrize("kind", ["subscribe", "unsubscribe"])
async def test_connection_lost_before_a_response_loses_and_repeats_nothing(
    server: FakeServer, nursery: trio.Nursery, kind: str
) -> None:
    """A subscribe is sent again after the resume; a name being unsubscribed is not resumed."""
    async with server.follow([BTC, ETH]) as client:
        attempt = await begin(server, client)
        command = getattr(client, kind)
        asked = send_request(
            nursery, command, "ETH.trade" if kind == "unsubscribe" else "RUNE.trade"
        )
        assert (await attempt.command())["type"] == kind
        await attempt.cut()
        await take(client, Disconnected)
        attempt = await server.attempt()
        resume = (await attempt.accept())["data"]
        left = ["BTC.trade"] if kind == "unsubscribe" else ["BTC.trade", "ETH.trade"]
        assert (resume["channels"], resume["positions"]) == (left, START)
        if kind == "subscribe":
            again = await attempt.accept(START)
            assert again["data"]["channels"] == ["RUNE.trade"]
        assert (await asked.lingering()).names


async def test_interrupted_snapshot_beside_live_messages_is_requested_again(
    server: FakeServer, nursery: trio.Nursery
) -> None:
    """Only for its own names, from their first positions; the others resume from theirs."""
    async with server.follow(BTC) as client:
        attempt = await begin(server, client)
        asked = send_request(nursery, client.subscribe, "ETH.trade", snapshot=True)
        await attempt.accept({"odin.trades": {"0": 9}}, replayed=2)
        assert (await asked.lingering()).replayed == 2
        await attempt.message(1, "0-10")
        await attempt.message(2, "0-3", "ETH.trade", replay=True)
        assert await next_offsets(client, 2) == [10, 3]
        # A restart of the program begins where nothing of either is missing.
        assert client.positions["odin.trades"][0] == 9
        await attempt.cut()
        attempt = await server.attempt()
        first = (await attempt.accept())["data"]
        assert (first["channels"], first["positions"]["odin.trades"]["0"]) == (["BTC.trade"], 10)
        assert "snapshot" not in first
        second = (await attempt.accept(replayed=3, positions={"odin.trades": {"0": 9}}))["data"]
        assert (second["channels"], second["positions"]["odin.trades"]["0"]) == (["ETH.trade"], 9)
        assert second["snapshot"] is True
        for seq, offset in enumerate((3, 4, 10), 1):
            await attempt.message(seq, f"0-{offset}", "ETH.trade", replay=True)
        await attempt.send_item(
            type="replay_complete", id=2, count=3, positions={"odin.trades": {"0": 12}}
        )
        await attempt.message(4, "0-13")
        assert await next_offsets(client, 4) == [3, 4, 10, 13]
        assert client.positions["odin.trades"][0] == 13


async def test_interrupted_since_ms_beside_live_messages_repeats_nothing(
    server: FakeServer, nursery: trio.Nursery
) -> None:
    """Live messages that the replay sends again are duplicates; the rest is delivered."""
    async with server.follow(BTC) as client:
        attempt = await begin(server, client)
        asked = send_request(nursery, client.subscribe, "*.trade", since_ms=1)
        await attempt.accept({"odin.trades": {"0": 1, "1": -1}}, replayed=None)
        await asked.lingering()
        await attempt.message(1, "0-20")
        await attempt.message(2, "0-3", "ETH.trade", replay=True)
        assert await next_offsets(client, 2) == [20, 3]
        assert client.positions["odin.trades"] == {0: 3, 1: -1}
        await attempt.cut()
        attempt = await server.attempt()
        first = (await attempt.accept())["data"]
        assert first["positions"]["odin.trades"]["0"] == 20
        second = (await attempt.accept(replayed=None))["data"]
        assert (second["channels"], second["positions"]["odin.trades"]["0"]) == (["*.trade"], 3)
        await attempt.message(1, "0-20", replay=True)
        await attempt.message(2, "0-21", "ETH.trade", replay=True)
        await attempt.send_item(type="replay_complete", id=2, count=2)
        await attempt.message(3, "0-22")
        assert await next_offsets(client, 2) == [21, 22]
        assert client.positions["odin.trades"][0] == 22
        assert client.duplicates == 1


async def test_only_unsubscribe_is_sent_during_a_replay(
    server: FakeServer, nursery: trio.Nursery
) -> None:
    """The server would defer a subscribe for longer than the client waits for a response."""
    async with server.follow([BTC, ETH], positions={"odin.trades": {0: 4}}) as client:
        attempt = await server.attempt()
        await attempt.accept(replayed=2)
        begun = send_request(nursery, client.subscribe, "*.balances")
        ended = send_request(nursery, client.unsubscribe, "ETH.trade")
        command = await attempt.command()
        assert command["type"] == "unsubscribe"
        await attempt.send_item(
            type="unsubscription_ack",
            id=command["id"],
            unsubscribed=["ETH.trade"],
            rejected=[],
            count=1,
        )
        await ended.lingering()
        await attempt.message(1, "0-5", replay=True)
        await trio.sleep(5)
        assert begun.error is begun.result is None
        await attempt.message(2, "0-6", replay=True)
        assert (await attempt.accept(BALANCES))["data"]["channels"] == ["*.balances"]
        await begun.lingering()
        assert client.connections == 1


async def test_subscriptions_with_different_options_resume_in_turn(
    server: FakeServer,
) -> None:
    """Each from the positions of the lost connection, whatever has come live meanwhile."""
    slow = Subscription(["ETH.trade"], max_rate=2)
    positions = {"odin.trades": {0: 4}}
    async with server.follow([BTC, slow], positions=positions) as client:
        attempt = await server.attempt()
        first = (await attempt.accept())["data"]
        assert (first["channels"], "max_rate" in first) == (["BTC.trade"], False)
        await attempt.message(1, "0-9")
        second = await attempt.command()
        assert (second["data"]["channels"], second["data"]["max_rate"]) == (["ETH.trade"], 2)
        assert second["data"]["positions"] == {"odin.trades": {"0": 4}}
        await take(client, Resumed)
        assert await take_offsets(client, 1) == [9]
        assert client.checkpoint()["positions"] == positions
        await attempt.cut()
        await take(client, Disconnected)
        attempt = await server.attempt()
        resumes = [(await attempt.accept())["data"]["positions"] for _ in range(2)]
        assert resumes == [{"odin.trades": {"0": 9}}, {"odin.trades": {"0": 4}}]
        await take(client, Resumed)
        await take(client, Resumed)
        assert client.checkpoint()["positions"] == {"odin.trades": {0: 9}}


async def test_rejected_names_of_a_resume_are_reported(server: FakeServer) -> None:
    """The client continues with the others."""
    slow = Subscription(["ETH.trade"], max_rate=2)
    async with server.follow([BTC, slow], positions={"odin.trades": {0: 4}}) as client:
        attempt = await server.attempt()
        await attempt.accept()
        rejected = [{"name": "ETH.trade", "code": "FORBIDDEN", "message": "no"}]
        await attempt.accept(subscribed=[], rejected=rejected)
        await attempt.message(1, "0-9")
        await take(client, Resumed)
        ended = Unsubscribed(
            ("ETH.trade",), (RejectedName("ETH.trade", "FORBIDDEN", "no"),), forced=True
        )
        assert await take(client, Unsubscribed) == ended
        assert await take_offsets(client, 1) == [9]
        assert client.positions == {"odin.trades": {0: 9}}


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
