"""Renewal of a token on a live connection after the notice before its expiry."""

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


async def test_notice_before_expiry_renews_the_token(server: FakeServer) -> None:
    """Within half of the time left, each time; the connection stays."""
    async with calm(server, token=Given(["one", "two", "three"])) as client:
        attempt = await begin(server)
        for name in ("two", "three"):
            reported_at = trio.current_time()
            await expire(attempt)
            assert await renewed(attempt) == name
            assert trio.current_time() - reported_at == pytest.approx(15)
            await attempt.send_item(type="auth_ack", data={"exp": 1})
        await attempt.message(1, "0-5")
        await take(client, Subscribed)
        assert await take_offsets(client, 1) == [5]
        assert client.connections == 1


async def test_slow_token_function_does_not_delay_messages(server: FakeServer) -> None:
    """Nor heartbeats."""
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


async def test_notice_before_the_ack_renews_the_token(server: FakeServer) -> None:
    """A slow server may send it before the ack of the subscription."""
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


async def test_token_is_sent_when_the_queue_has_room(server: FakeServer) -> None:
    """Once, after items were iterated."""
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
async def test_token_is_requested_until_it_differs(
    server: FakeServer, nothing: str | Exception
) -> None:
    """The same token would not help; a file may be written a little later."""
    async with calm(server, token=Given(["one", nothing, nothing, "two"])) as client:
        attempt = await begin(server)
        reported_at = trio.current_time()
        await expire(attempt, 40)
        assert await renewed(attempt) == "two"
        assert trio.current_time() - reported_at == pytest.approx(20 + 10 + 5)
        await take(client, Subscribed)


async def test_rejected_token_is_followed_by_another(server: FakeServer) -> None:
    """Within the time that is left."""
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
async def test_rejected_token_is_offered_again(
    server: FakeServer, rejection: dict[str, Any]
) -> None:
    """The server may accept it a little later; an accepted token is not sent again."""
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
async def test_rejected_token_is_sent_again_after_retry_ms(
    server: FakeServer, rejection: dict[str, Any]
) -> None:
    """The notice of the next expiry does not delay it."""
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
        reported_at = trio.current_time()
        await expire(attempt, 40)
        assert await renewed(attempt) == "three"
        assert trio.current_time() - reported_at == pytest.approx(20)


async def test_token_that_expires_before_retry_ms_is_sent_again_earlier(
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


async def test_token_that_is_never_accepted_is_sent_a_few_times(server: FakeServer) -> None:
    """The last time before the old one expires."""
    async with calm(server, token=Given(["one", "two"])):
        attempt = await begin(server)
        reported_at = trio.current_time()
        await expire(attempt, 30)
        for _ in range(4):
            assert await renewed(attempt) == "two"
            await attempt.send_item(**REJECTIONS[0])
        assert trio.current_time() - reported_at < 30
        with trio.move_on_after(60) as scope:
            await attempt.command()
        assert scope.cancelled_caught


async def test_rate_limit_error_requests_no_new_token(server: FakeServer) -> None:
    """The current token is not about to expire."""
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


async def test_renewal_stops_near_the_expiry(server: FakeServer) -> None:
    """However often it fails, the issuer is not flooded; the close comes soon."""
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


async def test_renewal_ends_with_its_connection(server: FakeServer) -> None:
    """A connection that is lost meanwhile is replaced at once."""
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


async def test_names_that_the_new_token_does_not_grant_are_reported(server: FakeServer) -> None:
    """No subscription ends silently."""
    async with calm(server, token=Given(["one", "two"])) as client:
        attempt = await begin(server)
        await take(client, Subscribed)
        await attempt.send_item(
            type="unsubscription_ack", unsubscribed=["*.trade"], rejected=[], count=1, forced=True
        )
        assert await take(client, Unsubscribed) == Unsubscribed(("*.trade",), forced=True)


async def test_token_that_grants_nothing_ends_the_client(server: FakeServer) -> None:
    """As if every name of the subscription were rejected."""
    async with calm(server, token=Given(["one", "two"])) as client:
        attempt = await begin(server)
        await take(client, Subscribed)
        await attempt.send_item(
            type="unsubscription_ack", unsubscribed=["*.trade"], rejected=[], count=0, forced=True
        )
        error = await ending(client)
    assert isinstance(error, SubscriptionRejected)
    assert [(rejection.name, rejection.code) for rejection in error.rejected] == [
        ("*.trade", "FORBIDDEN")
    ]
