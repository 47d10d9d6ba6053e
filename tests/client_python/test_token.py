"""How a client comes to its tokens, when it sends them, and that it shows none."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from odin_ws_client import (
    ClosedByServer,
    ConnectFailed,
    Disconnected,
    HandshakeRejected,
    InvalidCredential,
    Message,
    Resumed,
    Subscribed,
)
from odin_ws_client.trio import open_client
from tests.client_python.fake import (
    TRADES,
    FakeServer,
    Visit,
    begin,
    ending,
    take,
)
from tests.client_python.tokens import Given, calm, expire, visit_with

# ---- connecting


async def test_it_stands_in_the_header(server: FakeServer) -> None:
    """As RFC 6750 has it, on every connection; without a token there is no such header."""
    async with server.follow(token="a.b-c_d") as client:  # noqa: S106 -- a test's
        for _ in range(2):
            given, attempt = await visit_with(server)
            assert given == "Bearer a.b-c_d"
            await attempt.cut()
        await take(client, Subscribed)
    async with server.follow():
        assert (await visit_with(server))[0] is None


async def test_each_connection_has_a_fresh_one(server: FakeServer) -> None:
    """It is asked for when it is needed, so a client that comes back has none that ended."""
    tokens = Given(["one", "two", "three"])
    async with server.follow(token=tokens):
        for count, name in enumerate(("one", "two", "three"), 1):
            given, attempt = await visit_with(server)
            assert (given, tokens.calls) == (f"Bearer {name}", count)
            await attempt.cut()


@pytest.mark.parametrize("why", [OSError("away"), ConnectFailed("away")], ids=["OSError", "other"])
async def test_where_none_is_to_be_had_it_tries_again(server: FakeServer, why: Exception) -> None:
    """The one who issues them may be away for a while, as a server may; nobody dials meanwhile."""
    async with calm(server, token=Given([why, "two"])) as client:
        lost = await take(client, Disconnected)
        assert lost.reason.endswith("away")
        assert lost.retry_in == 0.2
        assert not server.times
        assert (await visit_with(server))[0] == "Bearer two"
        await take(client, Subscribed)


async def test_whoever_makes_tokens_can_end_it(server: FakeServer) -> None:
    """With an error that says that there will never be one."""
    why = ConnectFailed("no such user", permanent=True)
    async with calm(server, token=Given([why])) as client:
        assert await ending(client) is why


async def test_it_does_not_wait_for_a_token_for_ever(server: FakeServer) -> None:
    """It has as long as connecting has."""

    async def never() -> str:
        await trio.sleep_forever()
        raise AssertionError

    async with server.follow(token=never, connect_seconds=7) as client:
        assert (await take(client, Disconnected)).reason == "no token within 7 s"
        assert trio.current_time() == pytest.approx(7)


# ---- rejected, closed


async def test_a_fixed_one_that_is_rejected_ends_it(server: FakeServer) -> None:
    """It would be the same again: the error has the server's words."""
    async with server.follow(token="old") as client:  # noqa: S106 -- a test's
        await server.reject(401, b"the token has expired")
        error = await ending(client)
    assert isinstance(error, HandshakeRejected)
    assert str(error) == "rejected with 401: the token has expired"
    assert len(server.times) == 1


async def test_after_a_rejection_it_comes_with_a_new_one(server: FakeServer) -> None:
    """As often as it has to, with the usual waits, and says so each time."""
    async with calm(server, token=Given(["one", "two", "three"])) as client:
        for wait in (0.2, 0.4):
            await server.reject(401, b"the token has expired")
            rejected = await take(client, Disconnected)
            assert (rejected.reason, rejected.retry_in) == (
                "rejected with 401: the token has expired",
                wait,
            )
        assert (await visit_with(server))[0] == "Bearer three"
        await take(client, Subscribed)


async def test_a_fixed_one_that_has_ended_ends_it(server: FakeServer) -> None:
    """Nothing is sent at the notice, and the close is the last word."""
    async with server.follow(token="old") as client:  # noqa: S106 -- a test's
        attempt = await begin(server)
        await expire(attempt)
        await trio.sleep(9)
        await attempt.close(4401, "the token has expired")
        error = await ending(client)
    assert isinstance(error, ClosedByServer)
    assert (error.code, error.reason) == (4401, "the token has expired")
    assert len(server.times) == 1


async def test_after_its_end_it_resumes_with_a_new_one(server: FakeServer) -> None:
    """Nothing is lost by that."""
    async with calm(server, token=Given(["one", "two"])) as client:
        attempt = await begin(server)
        await attempt.message(1, "0-5")
        await attempt.close(4401, "the token has expired")
        await take(client, Subscribed)
        await take(client, Message)
        assert (await take(client, Disconnected)).retry_in == 0.2
        request, stream = await server.request()
        assert (b"authorization", b"Bearer two") in request.headers
        command = await Visit(await request.accept(), stream).accept()
        assert command["data"]["positions"]["odin.trades"] == {"0": 5, "1": -1}
        await take(client, Resumed)


@pytest.mark.parametrize("code", [4403, 1002])
async def test_other_closes_are_the_last_word(server: FakeServer, code: int) -> None:
    """A new token does not help who was put out."""
    async with calm(server, token=Given(["one", "two"])) as client:
        await (await begin(server)).close(code, "access was revoked")
        assert isinstance(await ending(client), ClosedByServer)


@pytest.mark.parametrize("status", [403, 404])
async def test_other_rejections_are_the_last_word(server: FakeServer, status: int) -> None:
    """A new token does not help there either."""
    async with calm(server, token=Given(["one", "two"])) as client:
        await server.reject(status)
        assert isinstance(await ending(client), HandshakeRejected)


# ---- shown to nobody

BAD: list[Any] = ["", "sesame\r\nX: y", "sesame open", "sésame", "Bearer sesame", None, b"sesame"]


@pytest.mark.parametrize("bad", [one for one in BAD if isinstance(one, str)])
def test_what_cannot_be_one_is_said_at_once(bad: str) -> None:
    """With what is allowed, and without what was given."""
    with pytest.raises(InvalidCredential, match="letters, digits") as caught:
        open_client("ws://odin.test/ws", TRADES, token=bad)
    assert "sesame" not in repr(caught.value)


@pytest.mark.parametrize("bad", BAD)
async def test_what_is_returned_and_cannot_be_one(server: FakeServer, bad: Any) -> None:
    """No request is made with it, and the next may be good: a file that is being written, say."""
    async with calm(server, token=Given([bad, "two"])) as client:
        lost = await take(client, Disconnected)
        assert "letters, digits" in lost.reason
        assert "sesame" not in lost.reason
        assert lost.retry_in == 0.2
        assert not server.times
        assert (await visit_with(server))[0] == "Bearer two"
        await take(client, Subscribed)


async def test_without_coming_back_it_is_an_error(server: FakeServer) -> None:
    """Of its own kind, which does not show it either."""
    async with calm(server, token=Given(["open sesame"]), reconnect=False) as client:
        error = await ending(client)
    assert isinstance(error, InvalidCredential)
    assert "sesame" not in f"{error!r} {error}"
    assert not server.times


async def test_it_is_not_shown(server: FakeServer) -> None:
    """By no repr of a client, an item or an error."""
    shown: list[str] = []
    manager = server.follow(token="sesame")  # noqa: S106 -- a test's
    async with manager as client:
        attempt = await begin(server)
        shown.append(repr((vars(manager), vars(client))))
        await expire(attempt)
        await attempt.cut()
        await server.reject(401, b"the token is not valid")
        shown += [repr(await take(client, kind)) for kind in (Subscribed, Disconnected)]
        shown.append(repr(await ending(client)))
    assert "sesame" not in "".join(shown)
    assert len(shown) == 4
