"""When the JavaScript client reconnects after a close, and when it ends."""

from __future__ import annotations

import pytest
import trio

from tests.client_js.beginning import begun
from tests.client_js.fake import START, FakeServer
from tests.docs.closes import ABNORMAL, CLOSES, Close

# Milliseconds: long enough to be told from nothing, short enough to be waited for.
AFTER_MS = 300

# More than any test may take.
NEVER_MS = 600_000


async def test_client_waits_for_after_ms_of_reconnect_notice(server: FakeServer) -> None:
    """After a `reconnect` notice it waits for `after_ms`, whatever the back-off is."""
    async with server.follow() as follower:
        visit = await begun(server, follower, positions=START)
        await visit.send_item("reconnect", data={"after_ms": AFTER_MS, "reason": "draining"})
        await follower.notice("reconnect")
        closed_at = trio.current_time()
        await visit.close(1012)
        left = await follower.notice("disconnected")
        visit = await server.visit()
        assert trio.current_time() - closed_at >= AFTER_MS / 1000
        assert (await visit.command())["type"] == "resume"
    assert left.item == {
        "type": "disconnected",
        "code": 1012,
        "reason": "because",
        "retry_ms": AFTER_MS,
    }


async def test_reconnect_advice_applies_to_one_connection(server: FakeServer) -> None:
    """Advice applies only to the end of the connection on which it came."""
    async with server.follow(random=1) as follower:
        visit = await begun(server, follower, positions=START)
        await visit.send_item("reconnect", data={"after_ms": 7, "reason": "draining"})
        await follower.notice("reconnect")
        await visit.close(1012)
        assert (await follower.notice("disconnected")).item["retry_ms"] == 7
        await (await server.visit()).cut()
        assert (await follower.notice("disconnected")).item["retry_ms"] == 2


@pytest.mark.parametrize("random", [1, 0.5])
async def test_back_off_is_random_below_a_doubling_limit(server: FakeServer, random: float) -> None:
    """The wait is a random part of a limit that doubles up to the longest wait."""
    await server.aclose()
    async with server.follow(random=random, backoff=[2, 10]) as follower:
        left = [(await follower.notice("disconnected")).item for _ in range(5)]
    assert [one["retry_ms"] for one in left] == [random * maximum for maximum in (2, 4, 8, 10, 10)]
    assert {(one["code"], one["reason"]) for one in left} == {(1006, "the connection failed")}


async def test_message_and_pong_do_not_reset_the_back_off(server: FakeServer) -> None:
    """A server that acks, sends one message and closes is not contacted more often each time."""
    async with server.follow(random=1, backoff=[2, NEVER_MS]) as follower:
        waits = []
        for number, code in enumerate((1008, 1008, 1011, 1012, 4408)):
            visit = await begun(server, follower, positions=START)
            await visit.message(1, f"2-{number}")
            await follower.message()
            await visit.send_item("pong", ts=1)
            await visit.close(code)
            waits.append((await follower.notice("disconnected")).item["retry_ms"])
    assert waits == [2, 4, 8, 16, 32]


async def test_repeated_advice_does_not_shorten_the_back_off(
    server: FakeServer,
) -> None:
    """A server that always sends 1 ms is not contacted every millisecond."""
    async with server.follow(random=1, backoff=[2, NEVER_MS]) as follower:
        waits = []
        for _ in range(4):
            visit = await begun(server, follower)
            await visit.send_item("reconnect", data={"after_ms": 1, "reason": "draining"})
            await follower.notice("reconnect")
            await visit.close(1012)
            waits.append((await follower.notice("disconnected")).item["retry_ms"])
    assert waits == [1, 4, 8, 16]


async def test_resume_is_retried_if_the_server_allows_it(server: FakeServer) -> None:
    """A resume that may succeed later is retried with back-off and the same positions."""
    async with server.follow(random=1, backoff=[2, 100], positions=START) as follower:
        for wait in (2, 4):
            visit = await server.visit()
            await visit.command()
            await visit.send_item("error", code="NOT_AVAILABLE", message="too many ask", retry=True)
            left = await follower.notice("disconnected")
            assert left.item["reason"] == "NOT_AVAILABLE: too many ask"
            assert left.item["retry_ms"] == wait
        command = await (await server.visit()).accept()
        assert command["data"]["positions"] == START
        await follower.notice("resume_ack")


@pytest.mark.parametrize("row", CLOSES, ids=lambda row: row.label)
async def test_client_follows_the_table_of_close_codes(server: FakeServer, row: Close) -> None:
    """Each row of docs/protocol.md's table, also with a token that is a string."""
    async with server.follow(random=1, backoff=[2, 100]) as follower:
        visit = await begun(server, follower)
        if row.advised:
            await visit.send_item("reconnect", data={"after_ms": 7, "reason": row.label})
            await follower.notice("reconnect")
        if row.code == ABNORMAL:
            await visit.cut()
        else:
            await visit.close(row.code, row.reason)
        left = (await follower.notice("disconnected")).item
        assert left["code"] == row.code
        assert left["retry_ms"] == (None if row.final else 7 if row.advised else 2)
        if row.final:
            assert await follower.ended() == []
        else:
            await server.visit()


@pytest.mark.parametrize("row", [row for row in CLOSES if row.renewable], ids=lambda row: row.label)
async def test_token_close_is_followed_by_new_token(server: FakeServer, row: Close) -> None:
    """The client gets a new token, and reconnects with back-off."""
    async with server.follow(random=1, backoff=[2, 100], tokens=["a", "b"]) as follower:
        await (await begun(server, follower)).close(row.code, row.reason)
        assert (await follower.notice("disconnected")).item["retry_ms"] == 2
        assert "bearer.b" in (await server.visit()).offered


@pytest.mark.parametrize("code", [1001, 1013, 1014, 3000, 4999])
async def test_unknown_close_code_is_resumed(server: FakeServer, code: int) -> None:
    """Proxies and newer servers send such codes."""
    async with server.follow() as follower:
        await (await begun(server, follower)).close(code)
        assert (await follower.notice("disconnected")).item["code"] == code
        await server.visit()


async def test_permanently_rejected_command_ends_the_feed(server: FakeServer) -> None:
    """A command that can never succeed is not sent again."""
    async with server.follow() as follower:
        visit = await server.visit()
        await visit.command()
        await visit.send_item("error", code="INVALID_MESSAGE", message="no such field", retry=False)
        left = await follower.notice("disconnected")
        assert left.item["reason"] == "INVALID_MESSAGE: no such field"
        assert left.item["retry_ms"] is None
        assert await follower.ended() == []


async def test_feed_ends_if_every_name_is_rejected(server: FakeServer) -> None:
    """A feed without subscriptions is closed."""
    rejected = [{"name": "*.trade", "code": "INVALID_CHANNEL", "message": "no such category"}]
    async with server.follow() as follower:
        await (await server.visit()).accept(subscribed=[], rejected=rejected, categories={})
        left = await follower.notice("disconnected")
        assert left.item["reason"] == "INVALID_CHANNEL: no such category"
        assert await follower.ended() == []


async def test_error_after_the_ack_is_delivered(server: FakeServer) -> None:
    """An error after the subscription took effect is delivered, and changes nothing."""
    async with server.follow() as follower:
        visit = await begun(server, follower)
        await visit.send_item("error", code="RATE_LIMIT_EXCEEDED", message="slower", retry=True)
        await follower.notice("error")
        await visit.message(1, "0-0")
        await follower.message()


async def test_closed_feed_closes_its_connection(server: FakeServer) -> None:
    """A closed feed calls nothing afterwards, and leaves nothing running."""
    async with server.follow() as follower:
        visit = await begun(server, follower)
        await follower.close()
        await visit.closed()
        assert await follower.ended() == []


async def test_feed_closed_between_connections_does_not_reconnect(server: FakeServer) -> None:
    """A feed that is closed between two connections does not come back."""
    async with server.follow(random=1, backoff=[NEVER_MS, NEVER_MS]) as follower:
        await (await begun(server, follower)).cut()
        await follower.notice("disconnected")
        await follower.close()
        assert await follower.ended() == []
