"""How a client gets its tokens, when it sends them, and that it shows none."""

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


async def test_token_is_sent_in_the_authorization_header(server: FakeServer) -> None:
    """As RFC 6750 says, on every connection; without a token there is no such header."""
    async with server.follow(token="a.b-c_d") as client:  # noqa: S106 -- a test's
        for _ in range(2):
            given, attempt = await visit_with(server)
            assert given == "Bearer a.b-c_d"
            await attempt.cut()
        await take(client, Subscribed)
    async with server.follow():
        assert (await visit_with(server))[0] is None


async def test_each_connection_requests_a_new_token(server: FakeServer) -> None:
    """It is requested when it is needed, so a reconnecting client has no expired one."""
    tokens = Given(["one", "two", "three"])
    async with server.follow(token=tokens):
        for count, name in enumerate(("one", "two", "three"), 1):
            given, attempt = await visit_with(server)
            assert (given, tokens.calls) == (f"Bearer {name}", count)
            await attempt.cut()


@pytest.mark.parametrize("why", [OSError("away"), ConnectFailed("away")], ids=["OSError", "other"])
async def test_failed_token_function_is_called_again(server: FakeServer, why: Exception) -> None:
    """The issuer may be unavailable for a while; the client does not connect meanwhile."""
    async with calm(server, token=Given([why, "two"])) as client:
        lost = await take(client, Disconnected)
        assert lost.reason.endswith("away")
        assert lost.retry_in == 0.2
        assert not server.times
        assert (await visit_with(server))[0] == "Bearer two"
        await take(client, Subscribed)


async def test_token_function_can_end_the_client(server: FakeServer) -> None:
    """With an error that says that there will never be a token."""
    why = ConnectFailed("no such user", permanent=True)
    async with calm(server, token=Given([why])) as client:
        assert await ending(client) is why


async def test_token_function_has_the_connect_timeout(server: FakeServer) -> None:
    """It has as much time as a connect."""

    async def never() -> str:
        await trio.sleep_forever()
        raise AssertionError

    async with server.follow(token=never, connect_seconds=7) as client:
        assert (await take(client, Disconnected)).reason == "no token within 7 s"
        assert trio.current_time() == pytest.approx(7)


# ---- rejected, closed


async def test_rejected_fixed_token_ends_the_client(server: FakeServer) -> None:
    """The next attempt would fail too: the error has the server's reason."""
    async with server.follow(token="old") as client:  # noqa: S106 -- a test's
        await server.reject(401, b"the token has expired")
        error = await ending(client)
    assert isinstance(error, HandshakeRejected)
    assert str(error) == "rejected with 401: the token has expired"
    assert len(server.times) == 1


async def test_rejected_token_is_followed_by_a_new_one(server: FakeServer) -> None:
    """As often as necessary, with the usual waits, each reported."""
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


async def test_expiry_of_a_fixed_token_ends_the_client(server: FakeServer) -> None:
    """Nothing is sent at the notice, and the close is final."""
    async with server.follow(token="old") as client:  # noqa: S106 -- a test's
        attempt = await begin(server)
        await expire(attempt)
        await trio.sleep(9)
        await attempt.close(4401, "the token has expired")
        error = await ending(client)
    assert isinstance(error, ClosedByServer)
    assert (error.code, error.reason) == (4401, "the token has expired")
    assert len(server.times) == 1


async def test_expired_token_is_followed_by_a_resume_with_a_new_one(server: FakeServer) -> None:
    """Nothing is lost."""
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
async def test_revocation_ends_the_client(server: FakeServer, code: int) -> None:
    """A new token does not help a revoked user."""
    async with calm(server, token=Given(["one", "two"])) as client:
        await (await begin(server)).close(code, "access was revoked")
        assert isinstance(await ending(client), ClosedByServer)


@pytest.mark.parametrize("status", [403, 404])
async def test_403_ends_the_client(server: FakeServer, status: int) -> None:
    """A new token does not help."""
    async with calm(server, token=Given(["one", "two"])) as client:
        await server.reject(status)
        assert isinstance(await ending(client), HandshakeRejected)


# ---- not shown

BAD: list[Any] = ["", "sesame\r\nX: y", "sesame open", "sésame", "Bearer sesame", None, b"sesame"]


@pytest.mark.parametrize("bad", [one for one in BAD if isinstance(one, str)])
def test_invalid_fixed_token_is_an_error_at_once(bad: str) -> None:
    """The error has the allowed characters, and not the token."""
    with pytest.raises(InvalidCredential, match="letters, digits") as caught:
        open_client("ws://odin.test/ws", TRADES, token=bad)
    assert "sesame" not in repr(caught.value)


@pytest.mark.parametrize("bad", BAD)
async def test_invalid_token_of_a_function_is_requested_again(server: FakeServer, bad: Any) -> None:
    """No request is made with it; the next may be valid, such as of a file being written."""
    async with calm(server, token=Given([bad, "two"])) as client:
        lost = await take(client, Disconnected)
        assert "letters, digits" in lost.reason
        assert "sesame" not in lost.reason
        assert lost.retry_in == 0.2
        assert not server.times
        assert (await visit_with(server))[0] == "Bearer two"
        await take(client, Subscribed)


async def test_without_reconnect_a_missing_token_is_an_error(server: FakeServer) -> None:
    """It has its own class, and does not show the token."""
    async with calm(server, token=Given(["open sesame"]), reconnect=False) as client:
        error = await ending(client)
    assert isinstance(error, InvalidCredential)
    assert "sesame" not in f"{error!r} {error}"
    assert not server.times


async def test_token_is_in_no_repr(server: FakeServer) -> None:
    """Of a client, an item or an error."""
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
