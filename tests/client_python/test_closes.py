"""The reaction of the client to each close code of docs/protocol.md, and its back-off."""

from __future__ import annotations

import pytest
import trio

from odin_ws_client import ClosedByServer, Disconnected, Message, Resumed, Subscribed
from odin_ws_client.core.close_codes import is_permanent_close
from tests.client_python.fake import FakeServer, begin, ending, take
from tests.docs.closes import ABNORMAL, CLOSES, Close


@pytest.mark.parametrize("row", CLOSES, ids=lambda row: row.label)
async def test_client_follows_the_table_of_close_codes(server: FakeServer, row: Close) -> None:
    """Each row of the table, also with a token that is a string."""
    async with server.follow(token="a") as client:  # noqa: S106 -- of a test
        attempt = await begin(server)
        await take(client, Subscribed)
        if row.advised:
            await attempt.send_item(type="reconnect", data={"after_ms": 700, "reason": row.label})
        if row.code == ABNORMAL:
            await attempt.cut()
        else:
            await attempt.close(row.code, row.reason)
        left = await take(client, Disconnected)
        assert left.code == row.code
        assert left.retry_in == (None if row.final else 0.7 if row.advised else 0.2)
        if row.final:
            error = await ending(client)
            assert isinstance(error, ClosedByServer) == (row.by == "server")
        else:
            await (await server.attempt()).accept()
            assert (await take(client, Resumed)).recovered
    assert len(server.times) == 1 + (not row.final)


@pytest.mark.parametrize("row", [row for row in CLOSES if row.renewable], ids=lambda row: row.label)
async def test_token_close_is_followed_by_new_token(server: FakeServer, row: Close) -> None:
    """The client gets a new token, and reconnects with back-off."""
    tokens = iter(["a", "b"])

    async def token() -> str:
        return next(tokens)

    async with server.follow(token=token) as client:
        await (await begin(server)).close(row.code, row.reason)
        await take(client, Subscribed)
        assert (await take(client, Disconnected)).retry_in == 0.2
        request, _ = await server.request()
        assert (b"authorization", b"Bearer b") in request.headers


@pytest.mark.parametrize("code", [1002, 1003, 1007, 1009, 1010])
def test_close_caused_by_the_protocol_is_permanent(code: int) -> None:
    """Also 1010 (a missing extension), which has no row: the next connection would get it too."""
    assert is_permanent_close(code, "")


# ---- back-off


async def visits(server: FakeServer, seconds: float, code: int) -> int:
    """How many connections there are in so many seconds of a server that closes each at once.

    It acks, sends one message, and closes.
    """
    offset, until = 4, trio.current_time() + seconds

    async def serve() -> None:
        nonlocal offset
        while True:
            attempt = await server.attempt()
            await attempt.accept({"odin.trades": {"0": offset}})
            offset += 1
            await attempt.message(1, f"0-{offset}")
            await attempt.close(code, "slow: messages waited too long to be taken")

    async with server.follow() as client, trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        with trio.move_on_at(until):
            async for _ in client:
                pass
        nursery.cancel_scope.cancel()
    return len(server.times)


@pytest.mark.parametrize("code", [1001, 1008, 1011, 1012, 1013, 4408])
async def test_one_message_does_not_reset_the_back_off(server: FakeServer, code: int) -> None:
    """With 0.2 s that double up to 15 there are 7 connections in 25 s."""
    assert await visits(server, 25, code) == 7


async def hold(server: FakeServer, seconds: float, code: int) -> None:
    """A connection that holds for so long, with one message, and then its close."""
    attempt = await server.attempt()
    await attempt.accept({"odin.trades": {"0": 4}})
    await attempt.message(1, "0-5")
    await trio.sleep(seconds)
    await attempt.close(code, "slow: messages waited too long to be taken")


async def left(client: object) -> float | None:
    """When the client comes back after this connection."""
    while not isinstance(item := await anext(client), Disconnected):  # type: ignore[call-overload]
        assert isinstance(item, Subscribed | Resumed | Message)
    return item.retry_in


@pytest.mark.parametrize(
    ("seconds", "code", "wait"),
    [
        (14.9, 1011, 0.8),
        (15.1, 1011, 0.2),
        (15.1, 1012, 0.2),
        (15.1, 4408, 0.2),
        # The server is dissatisfied with this client, and would be again.
        (15.1, 1008, 0.8),
        (3600, 1008, 0.8),
    ],
)
async def test_connection_longer_than_the_longest_wait_resets_the_back_off(
    server: FakeServer, seconds: float, code: int, wait: float
) -> None:
    """The next wait is short again; after a policy violation the back-off continues."""
    async with server.follow(silence_seconds=10_000) as client:
        for expected in (0.2, 0.4):
            await hold(server, 0, 1011)
            assert await left(client) == pytest.approx(expected)
        await hold(server, seconds, code)
        assert await left(client) == pytest.approx(wait)


async def test_repeated_advice_does_not_shorten_the_back_off(
    server: FakeServer,
) -> None:
    """A server that always sends 1 ms is not contacted every millisecond."""
    waits = []
    async with server.follow() as client:
        for after_ms in (1, 1, 1, 5000, 1):
            attempt = await server.attempt()
            await attempt.accept({"odin.trades": {"0": 4}})
            await attempt.send_item(
                type="reconnect", data={"after_ms": after_ms, "reason": "draining"}
            )
            await attempt.close(1012)
            waits.append(await left(client))
    assert waits == pytest.approx([0.001, 0.2, 0.4, 5, 1.6])
