"""How the JavaScript client gets its tokens, and when it sends them."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.client_js.beginning import begun
from tests.client_js.fake import TRADES, FakeServer, Visit
from tests.client_js.follower import follow

# As short as a token may have and still be followed by another in time, and the longest wait.
LEFT_MS = 4000
WAIT = 2.0


async def expire(visit: Visit, left_ms: int = LEFT_MS) -> None:
    """Say that the token is about to end."""
    await visit.send_item("auth", status="expiring", expires_in_ms=left_ms)


def auth(token: str) -> dict[str, Any]:
    """The command that goes on with it."""
    return {"type": "auth", "data": {"token": token}}


async def test_token_is_offered_as_a_subprotocol(server: FakeServer) -> None:
    """It follows the protocol's own name, on every connection."""
    async with server.follow(token="a.b-c_d") as follower:  # noqa: S106 -- a test's
        for _ in range(2):
            visit = await begun(server, follower)
            assert visit.offered == ("odin.v1", "bearer.a.b-c_d")
            await visit.cut()
            await follower.notice("disconnected")


async def test_no_subprotocol_is_offered_without_a_token(server: FakeServer) -> None:
    """Other servers may support no subprotocol."""
    async with server.follow() as follower:
        assert (await begun(server, follower)).offered == ()


async def test_each_connection_requests_a_new_token(server: FakeServer) -> None:
    """Also after an attempt without a token, and after a close for its expiry."""
    async with server.follow(tokens=["one", None, "two", "three"]) as follower:
        visit = await begun(server, follower)
        assert visit.offered[1] == "bearer.one"
        await visit.cut()
        await follower.notice("disconnected")
        failed = await follower.notice("disconnected")
        assert (failed.item["code"], failed.item["reason"]) == (1006, "no token: Error: away")
        visit = await begun(server, follower)
        assert visit.offered[1] == "bearer.two"
        await visit.close(4401)
        assert (await follower.notice("disconnected")).item["retry_ms"] is not None
        assert (await begun(server, follower)).offered[1] == "bearer.three"


async def test_expiry_of_a_fixed_token_ends_the_feed(server: FakeServer) -> None:
    """Nothing is sent at the notice; after 4401 the client does not reconnect."""
    async with server.follow(token="one", random=0) as follower:  # noqa: S106 -- a test's
        visit = await begun(server, follower)
        await expire(visit)
        await follower.notice("auth")
        await trio.sleep(1.5)
        await visit.close(4401)
        assert (await follower.notice("disconnected")).item["retry_ms"] is None
        assert await follower.ended() == []


async def test_revocation_ends_the_feed(server: FakeServer) -> None:
    """Another token would not help."""
    async with server.follow(tokens=["one", "two"]) as follower:
        await (await begun(server, follower)).close(4403)
        assert (await follower.notice("disconnected")).item["retry_ms"] is None
        assert await follower.ended() == []


async def test_notice_before_expiry_renews_the_token(server: FakeServer) -> None:
    """On the same connection, within half of the time left; messages continue."""
    async with server.follow(tokens=["one", "two"], random=1) as follower:
        visit = await begun(server, follower)
        reported_at = trio.current_time()
        await expire(visit)
        await follower.notice("auth")
        assert await visit.command() == auth("two")
        assert trio.current_time() - reported_at > WAIT - 0.1
        await visit.send_item("auth_ack", data={"exp": 1})
        await follower.notice("auth_ack")
        await visit.message(1, "0-0")
        await follower.message()


@pytest.mark.parametrize("nothing", ["one", None, "no token"], ids=["same", "none", "no good one"])
async def test_token_is_requested_until_it_differs(server: FakeServer, nothing: str | None) -> None:
    """The same token would expire at the same time; an invalid one is not sent."""
    async with server.follow(tokens=["one", nothing, "two"], random=0) as follower:
        visit = await begun(server, follower)
        await expire(visit, 60_000)
        assert await visit.command() == auth("two")


async def test_rejected_token_is_followed_by_another(server: FakeServer) -> None:
    """Within the time that is left."""
    async with server.follow(tokens=["one", "two", "three"], random=0) as follower:
        visit = await begun(server, follower)
        await expire(visit, 60_000)
        assert await visit.command() == auth("two")
        await visit.send_item("auth_error", data={"code": "not_available", "message": "later"})
        assert await visit.command() == auth("three")


async def test_rejected_token_is_offered_again(server: FakeServer) -> None:
    """The server may accept it a little later; an accepted token is not sent again."""
    tokens = ["one", *["two"] * 4, "three"]
    async with server.follow(tokens=tokens, random=0) as follower:
        visit = await begun(server, follower)
        await expire(visit, 60_000)
        assert await visit.command() == auth("two")
        await visit.send_item("auth_error", data={"code": "not_available", "message": "later"})
        assert await visit.command() == auth("two")
        # Nothing in it says that it is about a token.
        await visit.send_item("error", code="RATE_LIMIT_EXCEEDED", message="slower", retry=True)
        assert await visit.command() == auth("two")
        await visit.send_item("auth_ack", data={"exp": 1})
        await expire(visit, 60_000)
        assert await visit.command() == auth("three")


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("auth_error", {"data": {"code": "not_available", "message": "", "retry_ms": 1600}}),
        ("error", {"code": "RATE_LIMIT_EXCEEDED", "message": "", "retry_ms": 1600}),
    ],
)
async def test_rejected_token_is_sent_again_after_retry_ms(
    server: FakeServer, kind: str, fields: dict[str, Any]
) -> None:
    """After `retry_ms`, not at the client's own time."""
    async with server.follow(tokens=["one", "two"], random=0) as follower:
        visit = await begun(server, follower)
        await expire(visit, 60_000)
        assert await visit.command() == auth("two")
        rejected = trio.current_time()
        await visit.send_item(kind, **fields)
        assert await visit.command() == auth("two")
        assert trio.current_time() - rejected > 1.5


async def test_invalid_url_ends_the_feed_with_its_error(node: list[str]) -> None:
    """An error that nobody catches would be lost, or end the process."""
    async with follow(node, "ftp://localhost/ws", TRADES, tokens=["sesame"]) as follower:
        left = (await follower.notice("disconnected")).item
        assert (left["code"], left["retry_ms"]) == (1000, None)
        assert left["reason"].startswith("SyntaxError")
        assert "sesame" not in left["reason"]
        assert await follower.ended() == []


async def test_invalid_token_is_not_shown(server: FakeServer) -> None:
    """It is neither sent nor part of the error, which names the allowed characters."""
    async with server.follow(tokens=["open sesame"], random=1) as follower:
        reason = (await follower.notice("disconnected")).item["reason"]
    assert reason == "no token: TypeError: token: must consist of letters, digits and -._~+"


async def test_feed_closed_while_waiting_for_a_token_opens_no_connection(
    server: FakeServer,
) -> None:
    """A token that arrives afterwards connects nothing."""
    async with server.follow(tokens=["late"]) as follower:
        await follower.close()
        assert [event.kind for event in await follower.ended()] == ["token"]
