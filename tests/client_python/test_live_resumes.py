"""Lost connections whose subscriptions began or ended while they were live, and their resumes."""

from __future__ import annotations

import pytest
import trio

from odin_ws_client import (
    Disconnected,
    RejectedName,
    Resumed,
    Subscription,
    Unsubscribed,
)
from odin_ws_client.core.client import BaseClient
from tests.client_python.fake import START, FakeServer, take, take_offsets
from tests.client_python.live_requests import BALANCES, begin, send_request

BTC, ETH = Subscription(["BTC.trade"]), Subscription(["ETH.trade"])


async def next_offsets(client: BaseClient, count: int) -> list[int]:
    """The offsets of the next messages, whatever comes between them."""
    messages = client.messages()
    return [(await anext(messages)).offset for _ in range(count)]


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
