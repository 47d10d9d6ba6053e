"""At the notice that its token ends, a client goes on with another."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from odin_ws_client import Subscribed, SubscriptionRejected, Unsubscribed
from tests.client_python.fake import (
    FakeServer,
    begin,
    ending,
    take,
    take_offsets,
)
from tests.client_python.tokens import Given, calm, expire, renewed

# What the server may answer to a good token. The second does not say that it is about one.
REJECTIONS: list[dict[str, Any]] = [
    {"type": "auth_error", "data": {"code": "not_available", "message": "later"}},
    {"type": "error", "code": "RATE_LIMIT_EXCEEDED", "message": "later", "retry": True},
]


async def test_at_the_notice_it_goes_on_with_a_new_one(server: FakeServer) -> None:
    """Within half of the time that is left, each time; the connection stays."""
    async with calm(server, token=Given(["one", "two", "three"])) as client:
        attempt = await begin(server)
        for name in ("two", "three"):
            told = trio.current_time()
            await expire(attempt)
            assert await renewed(attempt) == name
            assert trio.current_time() - told == pytest.approx(15)
            await attempt.send_item(type="auth_ack", data={"exp": 1})
        await attempt.message(1, "0-5")
        await take(client, Subscribed)
        assert await take_offsets(client, 1) == [5]
        assert client.connections == 1


async def test_messages_come_meanwhile(server: FakeServer) -> None:
    """A token that takes long to make holds up nothing, a sign of life neither."""
    ready = trio.Event()

    async def slow() -> str:
        if server.times:
            await ready.wait()
        return "two" if server.times else "one"

    async with server.follow(token=slow, connect_seconds=100) as client:
        attempt = await begin(server)
        await take(client, Subscribed)
        await expire(attempt, 4)
        await trio.sleep(5)
        await attempt.message(1, "0-5")
        assert await take_offsets(client, 1) == [5]
        assert await attempt.command() == {"type": "heartbeat"}
        ready.set()
        assert await renewed(attempt) == "two"


async def test_before_the_ack_too(server: FakeServer) -> None:
    """A server that takes long over the subscription may say it first."""
    async with calm(server, token=Given(["one", "two"])) as client:
        attempt = await server.attempt()
        command = await attempt.command()
        await expire(attempt, 20)
        assert await renewed(attempt) == "two"
        await attempt.send_item(
            type="subscription_ack",
            id=command["id"],
            subscribed=["*.trade"],
            categories={"trade": "odin.trades"},
        )
        await take(client, Subscribed)


async def test_while_nobody_takes_items_it_waits(server: FakeServer) -> None:
    """It is sent when there is room again, and once."""
    tokens = Given(["one", "two"])
    async with server.follow(token=tokens, silence_seconds=100) as client:
        attempt = await begin(server)
        await expire(attempt)
        for seq in range(1, 20):
            await attempt.message(seq, f"0-{4 + seq}")
            await wait_all_tasks_blocked()
        await trio.sleep(20)
        assert tokens.calls == 2
        await take(client, Subscribed)
        assert await take_offsets(client, 19) == list(range(5, 24))
        assert await renewed(attempt) == "two"
        await attempt.message(20, "0-24")
        assert await take_offsets(client, 1) == [24]
        assert (await attempt.command())["type"] == "heartbeat"


@pytest.mark.parametrize(
    "nothing", ["one", OSError("away"), "not a token"], ids=["the same", "none", "no good one"]
)
async def test_it_asks_until_there_is_another(server: FakeServer, nothing: str | Exception) -> None:
    """The same one would not help: a file, say, that is written a little later."""
    async with calm(server, token=Given(["one", nothing, nothing, "two"])) as client:
        attempt = await begin(server)
        told = trio.current_time()
        await expire(attempt, 40)
        assert await renewed(attempt) == "two"
        assert trio.current_time() - told == pytest.approx(20 + 10 + 5)
        await take(client, Subscribed)


async def test_one_that_is_rejected_is_followed_by_another(server: FakeServer) -> None:
    """In what is left of the time."""
    async with calm(server, token=Given(["one", "two", "three"])):
        attempt = await begin(server)
        await expire(attempt, 40)
        assert await renewed(attempt) == "two"
        rejected = trio.current_time()
        await attempt.send_item(
            type="auth_error", data={"code": "not_available", "message": "later"}
        )
        assert await renewed(attempt) == "three"
        assert trio.current_time() - rejected == pytest.approx(10)


@pytest.mark.parametrize("rejection", REJECTIONS, ids=["the key", "a flood"])
async def test_one_that_is_rejected_is_offered_again(
    server: FakeServer, rejection: dict[str, Any]
) -> None:
    """It may be taken a little later; then it is the same one, which is not sent."""
    tokens = Given(["one", "two", "two", "two", "three"])
    async with calm(server, token=tokens) as client:
        attempt = await begin(server)
        await take(client, Subscribed)
        await expire(attempt, 40)
        assert await renewed(attempt) == "two"
        rejected = trio.current_time()
        await attempt.send_item(**rejection)
        assert await renewed(attempt) == "two"
        assert trio.current_time() - rejected == pytest.approx(10)
        await attempt.send_item(type="auth_ack", data={"exp": 1})
        await expire(attempt, 40)
        assert await renewed(attempt) == "three"
        assert tokens.calls == 5


@pytest.mark.parametrize(
    "rejection",
    [
        {"type": "auth_error", "data": {"code": "not_available", "message": "", "retry_ms": 4321}},
        {"type": "error", "code": "RATE_LIMIT_EXCEEDED", "message": "", "retry_ms": 4321},
    ],
    ids=["the key", "a flood"],
)
async def test_rejected_token_is_sent_again_when_the_server_asks_for_it(
    server: FakeServer, rejection: dict[str, Any]
) -> None:
    """After `retry_ms`; the notice of the next end says nothing of the kind any more."""
    tokens = Given(["one", "two", "two", "three"])
    async with calm(server, token=tokens):
        attempt = await begin(server)
        await expire(attempt, 40)
        assert await renewed(attempt) == "two"
        rejected = trio.current_time()
        await attempt.send_item(**rejection)
        assert await renewed(attempt) == "two"
        assert trio.current_time() - rejected == pytest.approx(4.321)
        await attempt.send_item(type="auth_ack", data={"exp": 1})
        told = trio.current_time()
        await expire(attempt, 40)
        assert await renewed(attempt) == "three"
        assert trio.current_time() - told == pytest.approx(20)


async def test_token_that_ends_before_retry_ms_is_sent_again_before_that(
    server: FakeServer,
) -> None:
    """Later the server would have closed the connection."""
    async with calm(server, token=Given(["one", "two"])):
        attempt = await begin(server)
        await expire(attempt, 40)
        assert await renewed(attempt) == "two"
        rejected = trio.current_time()
        data = {"code": "not_available", "message": "later", "retry_ms": 20_000}
        await attempt.send_item(type="auth_error", data=data)
        assert await renewed(attempt) == "two"
        assert trio.current_time() - rejected == pytest.approx(10)


async def test_one_that_is_never_taken_is_no_storm(server: FakeServer) -> None:
    """It is offered a few times, the last of them before the old one ends."""
    async with calm(server, token=Given(["one", "two"])):
        attempt = await begin(server)
        told = trio.current_time()
        await expire(attempt, 30)
        for _ in range(4):
            assert await renewed(attempt) == "two"
            await attempt.send_item(**REJECTIONS[0])
        assert trio.current_time() - told < 30
        with trio.move_on_after(60) as scope:
            await attempt.command()
        assert scope.cancelled_caught


async def test_a_flood_is_no_reason_for_another(server: FakeServer) -> None:
    """Nobody is asked where the token that the connection stands on is not about to end."""
    tokens = Given(["one", "two", "three"])
    async with calm(server, token=tokens) as client:
        attempt = await begin(server)
        await take(client, Subscribed)
        await attempt.send_item(**REJECTIONS[1])
        await trio.sleep(40)
        assert tokens.calls == 1
        await expire(attempt, 40)
        assert await renewed(attempt) == "two"
        await attempt.send_item(type="auth_ack", data={"exp": 1})
        await attempt.send_item(**REJECTIONS[1])
        await trio.sleep(40)
        assert tokens.calls == 2


async def test_near_the_end_it_gives_up(server: FakeServer) -> None:
    """However often it fails, the issuer is not stormed; the close comes soon."""
    tokens = Given(["one"])
    async with calm(server, token=tokens) as client:
        attempt = await begin(server)
        await take(client, Subscribed)
        await expire(attempt, 40)
        await trio.sleep(60)
        assert tokens.calls <= 7
        await expire(attempt, 1)
        await trio.sleep(60)
        assert tokens.calls <= 7


async def test_attempts_end_with_their_connection(server: FakeServer) -> None:
    """A connection that is cut meanwhile is followed by another at once."""
    tokens = Given(["one", "two"])
    async with calm(server, token=tokens) as client:
        attempt = await begin(server)
        await expire(attempt, 60)
        await wait_all_tasks_blocked()
        cut = trio.current_time()
        await attempt.cut()
        await take(client, Subscribed)
        await (await server.attempt()).accept()
        assert trio.current_time() - cut == pytest.approx(0.2)
        await trio.sleep(60)
        assert tokens.calls == 2


async def test_what_is_not_granted_any_more_is_told(server: FakeServer) -> None:
    """Nothing ends in silence."""
    async with calm(server, token=Given(["one", "two"])) as client:
        attempt = await begin(server)
        await take(client, Subscribed)
        await attempt.send_item(
            type="unsubscription_ack", unsubscribed=["*.trade"], rejected=[], count=1, forced=True
        )
        assert await take(client, Unsubscribed) == Unsubscribed(("*.trade",), forced=True)


async def test_a_token_that_grants_nothing_ends_it(server: FakeServer) -> None:
    """As a subscription of which every name is rejected."""
    async with calm(server, token=Given(["one", "two"])) as client:
        attempt = await begin(server)
        await take(client, Subscribed)
        await attempt.send_item(
            type="unsubscription_ack", unsubscribed=["*.trade"], rejected=[], count=0, forced=True
        )
        error = await ending(client)
    assert isinstance(error, SubscriptionRejected)
    assert [(one.name, one.code) for one in error.rejected] == [("*.trade", "FORBIDDEN")]
