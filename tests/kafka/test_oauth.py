"""Tokens for Kafka from an authorization server: requested per RFC 6749, and cached."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import parse_qs

import orjson
import pytest
import trio
from trio.testing import MockClock

from odin_ws.http_client import Page, Unreachable, WebAddress
from odin_ws.kafka.asyncio_bridge import open_asyncio
from odin_ws.kafka.errors import AuthenticationFailed
from odin_ws.kafka.oauth import OAuthTokenEndpoint
from odin_ws.kafka.trio_asyncio_compat import aio_as_trio
from odin_ws.settings import Secret
from odin_ws.testing.ports import LOOPBACK, free_ports
from tests.authorization_server import halves, response, server_with

SECRET: Final = "correct horse/+%é"  # noqa: S105 -- of a server in this test
TOKEN: Final = "eyJ.first-_~+/="  # noqa: S105 -- the same

# What a server answers when all is well.
GRANT: Final[dict[str, Any]] = {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600}


class Authorization:
    """What an authorization server answers with, and when it was asked. It stands for its address.

    `takes`: seconds for an answer.
    """

    url = "https://id.example.com/token"

    def __init__(self, **changes: Any) -> None:
        self.grant = {**GRANT, **changes}
        self.asked: list[float] = []
        self.takes = 0.0
        self.broken = False

    async def post(self, _form: dict[str, str], _auth: Any) -> Page:
        """Answer; each token is another one."""
        self.asked.append(trio.current_time())
        await trio.sleep(self.takes)
        if self.broken:
            raise Unreachable("no response within 1 s")
        return Page(200, orjson.dumps({**self.grant, "access_token": f"token-{len(self.asked)}"}))


@asynccontextmanager
async def open_token_requests(address: Any) -> AsyncIterator[Callable[[], Any]]:
    """A function that asks as aiokafka does."""
    async with open_asyncio():
        yield aio_as_trio(endpoint(address).token)


def endpoint(address: Any, scope: str = "") -> OAuthTokenEndpoint:
    """Where tokens come from, for a client whose name and secret are odd."""
    return OAuthTokenEndpoint(address, "odin:ws", Secret(SECRET), scope)


@pytest.mark.parametrize(
    ("expires", "kept"), [(3600, 3570), (100, 75), ("7200", 7170), (0.5, 0.375)]
)
async def test_token_is_reused_until_shortly_before_expiry(
    expires: Any, kept: float, autojump_clock: MockClock
) -> None:
    """Later connections get a new one."""
    server = Authorization(expires_in=expires)
    async with open_token_requests(server) as request_token:
        assert await request_token() == "token-1"
        await trio.sleep(0.99 * kept)
        assert await request_token() == "token-1"
        await trio.sleep(0.02 * kept)
        assert await request_token() == "token-2"
    assert len(server.asked) == 2


@pytest.mark.parametrize("expires", [None, 0])
async def test_token_without_expiry_is_used_once(expires: Any) -> None:
    """It may already be invalid."""
    async with open_token_requests(Authorization(expires_in=expires)) as request_token:
        assert await request_token() == "token-1"
        assert await request_token() == "token-2"


async def test_concurrent_connections_share_one_token(autojump_clock: MockClock) -> None:
    """A start opens several connections: one request is enough."""
    server = Authorization()
    server.takes = 0.5
    got: list[str] = []

    async def ask_and_keep(request_token: Callable[[], Any]) -> None:
        got.append(await request_token())

    async with open_token_requests(server) as request_token, trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask_and_keep, request_token)
    assert got == ["token-1"] * 5


async def test_failure_is_reused_for_a_second(autojump_clock: MockClock) -> None:
    """Otherwise each broker in turn would wait for the server."""
    server = Authorization()
    server.broken = True
    reason = f"KAFKA_SASL_TOKEN_URL={server.url}: no response within 1 s"
    async with open_token_requests(server) as request_token:
        for _ in range(3):
            with pytest.raises(AuthenticationFailed) as caught:
                await request_token()
            assert str(caught.value) == reason
        assert len(server.asked) == 1
        server.broken = False
        await trio.sleep(1.1)
        assert await request_token() == "token-2"


async def test_rejected_token_is_dropped() -> None:
    """The server may have new keys, or have revoked it."""
    tokens = endpoint(Authorization())
    async with open_asyncio():
        assert await aio_as_trio(tokens.token)() == "token-1"
        tokens.forget()
        assert await aio_as_trio(tokens.token)() == "token-2"


# ---- over a wire


def address_of(url: str, seconds: float = 5.0) -> WebAddress:
    """The address as KafkaSecurity makes it."""
    return WebAddress(url, seconds=seconds, maximum=64 << 10)


async def test_unusable_proxy_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment may be for other programs."""
    monkeypatch.setenv("HTTPS_PROXY", "gopher://10.0.0.1")
    with pytest.raises(Unreachable, match="proxy"):
        await address_of("https://login.invalid/token").get()


async def test_request_follows_the_grant() -> None:
    """The credentials are encoded in the header, not in the form; the scope only if set."""
    async with server_with(response("200 OK", GRANT)) as (url, requests), open_asyncio():
        assert await aio_as_trio(endpoint(address_of(url), "kafka read").token)() == TOKEN
        assert await aio_as_trio(endpoint(address_of(url)).token)() == TOKEN
    scoped, plain = ((head, parse_qs(form.decode())) for head, form in map(halves, requests))
    for head, _ in (scoped, plain):
        assert head.startswith(b"POST /token HTTP/1.1\r\n")
        assert b"\r\nContent-Type: application/x-www-form-urlencoded\r\n" in head
        (basic,) = (line for line in head.split(b"\r\n") if line.startswith(b"Authorization: "))
        sent = base64.b64decode(basic.removeprefix(b"Authorization: Basic "))
        assert sent == b"odin%3Aws:correct+horse%2F%2B%25%C3%A9"
    assert scoped[1] == {"grant_type": ["client_credentials"], "scope": ["kafka read"]}
    assert plain[1] == {"grant_type": ["client_credentials"]}


LEAK: Final = {"error_description": SECRET, "access_token": TOKEN}


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (response("401 Unauthorized", {"error": "invalid_client"} | LEAK), "401, invalid_client"),
        (response("400 Bad Request", {"error": SECRET} | LEAK), "status 400"),
        (response("400 Bad Request", {"error": 7}), "status 400"),
        (response("403 Forbidden", b"<html>"), "status 403"),
        (response("500 Oh", []), "status 500"),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", "status 302"),
        (response("200 OK", {"error": "invalid_scope"}), "status 200, invalid_scope"),
        (response("200 OK", b"<html>"), "the response is not JSON"),
        (response("200 OK", b""), "the response is not JSON"),
        (response("200 OK", b"\xff"), "the response is not JSON"),
        (response("200 OK", {}), "the response has no access_token"),
        (response("200 OK", [TOKEN]), "the response has no access_token"),
        (response("200 OK", GRANT | {"access_token": None}), "the response has no access_token"),
        (response("200 OK", GRANT | {"access_token": ""}), "the response has no access_token"),
        (response("200 OK", GRANT | {"access_token": "a\x01b"}), "the access_token has invalid"),
        (response("200 OK", GRANT | {"access_token": "a b"}), "the access_token has invalid"),
        (response("200 OK", GRANT | {"token_type": "mac"}), "the token_type is not Bearer"),
        (response("200 OK", GRANT | {"token_type": None}), "the token_type is not Bearer"),
        (response("200 OK", GRANT | {"expires_in": "soon"}), "the expires_in is not a number"),
        (response("200 OK", GRANT | {"expires_in": "inf"}), "the expires_in is not a number"),
        (response("200 OK", GRANT | {"expires_in": "nan"}), "the expires_in is not a number"),
        (response("200 OK", GRANT | {"expires_in": True}), "the expires_in is not a number"),
        (response("200 OK", GRANT | {"expires_in": [1]}), "the expires_in is not a number"),
        (response("200 OK", GRANT | {"expires_in": -1}), "the expires_in is not a number"),
        (response("200 OK", b" " * (65 << 10)), "more than 65536 bytes"),
        (b"nonsense\r\n\r\n", "RemoteProtocolError"),
        (b"", "RemoteProtocolError"),
    ],
)
async def test_invalid_response_is_reported(sent: bytes, reason: str) -> None:
    """One line with the setting, without the server's text."""
    async with server_with(sent) as (url, _), open_asyncio():
        with pytest.raises(AuthenticationFailed) as caught:
            await aio_as_trio(endpoint(address_of(url)).token)()
    assert str(caught.value).startswith(f"KAFKA_SASL_TOKEN_URL={url}: ")
    assert reason in str(caught.value)
    assert SECRET not in str(caught.value)
    assert TOKEN not in str(caught.value)


async def test_token_type_is_case_insensitive() -> None:
    """A missing type is a bearer token too."""
    for grant in (GRANT | {"token_type": "bearer"}, {"access_token": TOKEN}):
        async with server_with(response("200 OK", grant)) as (url, _), open_asyncio():
            assert await aio_as_trio(endpoint(address_of(url)).token)() == TOKEN


async def test_unreachable_server_is_reported() -> None:
    """Within the timeout, and without a traceback."""
    listener, *_ = await trio.open_tcp_listeners(0, host=LOOPBACK)
    (nobody,) = free_ports(1)
    async with listener, open_asyncio():
        port = listener.socket.getsockname()[1]
        for there, seconds, reason in (
            (port, 0.1, r"no response within 0\.1 s"),
            (nobody, 30, "ConnectError"),
        ):
            address = address_of(f"http://{LOOPBACK}:{there}/", seconds=seconds)
            with pytest.raises(AuthenticationFailed, match=reason):
                await aio_as_trio(endpoint(address).token)()
