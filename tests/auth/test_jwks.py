"""Keys change without a restart; if they cannot be fetched, the old ones stay."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final

import orjson
import pytest
import structlog
import trio
from trio.testing import MockClock

from odin_ws.auth.faults import InvalidJwt, JwtFault, KeysUnavailable
from odin_ws.auth.jwks import JwksCache, fetch_keys, read_keys
from odin_ws.auth.jwt import JwtRules
from odin_ws.auth.jwt_verifier import JwtVerifier
from odin_ws.auth.policy import load_policy
from odin_ws.catalogue import default_catalogue
from odin_ws.http_client import Unreachable
from odin_ws.testing.ports import LOOPBACK, free_ports
from tests.jwt_issuer import Issuer, issuer, raw_token

OLD: Final = issuer("ES256", "old")
NEW: Final = issuer("ES256", "new")
OTHER: Final = issuer("ES256", "other")

INTERVAL: Final = 300.0
FLOOR: Final = 10.0

# The interval is varied by a tenth, so that instances do not ask together.
LONGEST: Final = 1.1 * INTERVAL


class Publisher:
    """Where the keys are published. `takes`: seconds for an answer."""

    def __init__(self, *issuers: Issuer) -> None:
        self.requested_at: list[float] = []
        self.takes = 0.0
        self.broken = False
        self.publish(*issuers)

    def publish(self, *issuers: Issuer) -> None:
        """Have these keys from now on."""
        self.text = orjson.dumps({"keys": [issuer.jwk for issuer in issuers]})

    async def fetch(self) -> bytes:
        """Answer."""
        self.requested_at.append(trio.current_time())
        await trio.sleep(self.takes)
        if self.broken:
            raise Unreachable("status 500")
        return self.text


@asynccontextmanager
async def jwt_verifier(publisher: Publisher) -> AsyncIterator[JwtVerifier]:
    """One that reads its keys there, for the length of the block."""
    one = JwtVerifier(
        JwtRules(None, None, 0),
        load_policy("", default_catalogue(), ()),
        jwks=JwksCache(publisher.fetch, INTERVAL),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        yield one
        nursery.cancel_scope.cancel()


async def accepts(one: JwtVerifier, by: Issuer) -> bool:
    """Whether a token of an issuer finds its key."""
    try:
        await one.verify_or_refresh(by.token())
    except InvalidJwt as error:
        return error.fault is not JwtFault.UNKNOWN_KEY
    return True


async def test_keys_are_rotated_without_a_restart(autojump_clock: MockClock) -> None:
    """A new key is known after the interval; an old one is valid until it is removed."""
    publisher = Publisher(OLD)
    async with jwt_verifier(publisher) as one:
        assert await accepts(one, OLD)
        publisher.publish(OLD, NEW)
        await trio.sleep(LONGEST)
        one.verify(OLD.token())
        one.verify(NEW.token())
        publisher.publish(NEW)
        await trio.sleep(LONGEST)
        assert not await accepts(one, OLD)
        assert await accepts(one, NEW)


async def test_unknown_key_id_is_fetched_at_once(autojump_clock: MockClock) -> None:
    """The first client with a new key waits for the fetch and is accepted."""
    publisher = Publisher(OLD)
    async with jwt_verifier(publisher) as one:
        assert await accepts(one, OLD)
        await trio.sleep(FLOOR)
        publisher.publish(NEW)
        publisher.takes = 2
        before = trio.current_time()
        assert await accepts(one, NEW)
        assert trio.current_time() - before == pytest.approx(2)


def gaps(publisher: Publisher) -> list[float]:
    """The seconds between readings."""
    return [b - a for a, b in pairwise(publisher.requested_at)]


@pytest.mark.parametrize("takes", [0, 0.03, 0.5, 4])
async def test_forged_key_ids_cause_one_fetch_in_ten_seconds(
    autojump_clock: MockClock, takes: float
) -> None:
    """Also those that arrive during a fetch: 5 clients, a token each 200 ms."""
    publisher = Publisher(OLD)
    publisher.takes = takes
    numbers = itertools.count()

    async def check_rate(one: JwtVerifier) -> None:
        while True:
            with contextlib.suppress(InvalidJwt, KeysUnavailable):
                header = {"alg": "ES256", "kid": f"x{next(numbers)}"}
                await one.verify_or_refresh(raw_token(header, {}))
            await trio.sleep(0.2)

    async with jwt_verifier(publisher) as one, trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(check_rate, one)
        await trio.sleep(6)
        assert len(publisher.requested_at) == 1
        await trio.sleep(30)
        nursery.cancel_scope.cancel()
    assert min(gaps(publisher)) >= FLOOR
    assert len(gaps(publisher)) >= 2


async def test_failed_fetch_is_retried_after_the_minimum_time(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jitter does not shorten it."""
    monkeypatch.setattr("random.uniform", lambda low, _high: low)
    publisher = Publisher(OLD)
    publisher.broken = True
    async with jwt_verifier(publisher):
        await trio.sleep(100)
    assert min(gaps(publisher)) == pytest.approx(FLOOR)


async def test_unknown_key_id_after_a_fetch_is_rejected_at_once(autojump_clock: MockClock) -> None:
    """The client may retry later."""
    publisher = Publisher(OLD)
    async with jwt_verifier(publisher) as one:
        await trio.sleep(1)
        before = trio.current_time()
        assert not await accepts(one, NEW)
        assert trio.current_time() == before


async def test_key_id_without_a_key_causes_fewer_and_fewer_fetches(
    autojump_clock: MockClock,
) -> None:
    """Its clients do not wait for them."""
    publisher = Publisher(OLD)
    publisher.takes = 1
    async with jwt_verifier(publisher) as one:
        await trio.sleep(FLOOR)
        for _ in range(150):
            assert not await accepts(one, NEW)
            await trio.sleep(1)
    assert gaps(publisher) == pytest.approx([10, 10, 20, 40, 80], abs=4)


async def test_remembered_key_ids_are_limited(autojump_clock: MockClock) -> None:
    """Ids that are too long cause no fetch."""
    publisher = Publisher(OLD)
    async with jwt_verifier(publisher) as one:
        assert one.jwks is not None
        for number in range(3000):
            await trio.sleep(FLOOR)
            one.jwks.request_refresh(f"x{number}")
        before = len(publisher.requested_at)
        assert len(one.jwks.unknown) == 1024
        await trio.sleep(FLOOR)
        one.jwks.request_refresh("x" * 257)
        await trio.sleep(FLOOR)
        assert len(publisher.requested_at) == before + 1


async def test_new_keys_reset_remembered_key_ids(autojump_clock: MockClock) -> None:
    """An issuer that rotates gets a fetch for each new key at once."""
    publisher = Publisher(OLD)
    async with jwt_verifier(publisher) as one:
        await trio.sleep(FLOOR)
        # After 70 s of them the next reading for this key is 80 s away.
        for _ in range(100):
            assert not await accepts(one, NEW)
            await trio.sleep(1)
        publisher.publish(OTHER)
        await trio.sleep(FLOOR)
        assert await accepts(one, OTHER)
        publisher.publish(NEW)
        await trio.sleep(FLOOR)
        assert await accepts(one, NEW)


async def test_waiting_clients_share_one_fetch(autojump_clock: MockClock) -> None:
    """A thousand clients with the new key cause one request."""
    publisher = Publisher(OLD)
    async with jwt_verifier(publisher) as one:
        await trio.sleep(FLOOR)
        publisher.publish(NEW)
        publisher.takes = 1
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(one.verify_or_refresh, NEW.token())
        assert len(publisher.requested_at) == 2


async def test_auth_command_requests_a_fetch_without_waiting(autojump_clock: MockClock) -> None:
    """The new token is rejected now and valid a moment later."""
    publisher = Publisher(OLD)
    async with jwt_verifier(publisher) as one:
        await trio.sleep(FLOOR)
        publisher.publish(NEW)
        with pytest.raises(InvalidJwt):
            one.verify(NEW.token())
        await trio.sleep(0.1)
        one.verify(NEW.token())


async def test_failed_fetch_keeps_the_old_keys(autojump_clock: MockClock) -> None:
    """Logged once, counted each time, retried about every ten seconds; the end is logged."""
    publisher = Publisher(OLD)
    async with jwt_verifier(publisher) as one:
        assert await accepts(one, OLD)
        await trio.sleep(1)
        with structlog.testing.capture_logs() as lines:
            publisher.broken = True
            await trio.sleep(LONGEST + 100)
            assert await accepts(one, OLD)
            publisher.broken = False
            publisher.publish(OLD)
            await trio.sleep(2 * FLOOR)
    reported = [(line["log_level"], line["event"]) for line in lines]
    assert reported == [("error", "JWKS unavailable"), ("info", "JWKS loaded")]
    assert (lines[0]["reason"], lines[0]["kept"]) == ("status 500", 1)
    assert one.jwks is not None
    assert one.jwks.results["failed"] >= 8


@pytest.mark.parametrize("text", [b"<html>", b'{"keys":[]}', b"{}"])
async def test_response_without_keys_is_a_failure(autojump_clock: MockClock, text: bytes) -> None:
    """A login page with status 200 does not remove the keys."""
    publisher = Publisher(OLD)
    async with jwt_verifier(publisher) as one:
        assert await accepts(one, OLD)
        publisher.text = text
        await trio.sleep(LONGEST)
        assert await accepts(one, OLD)


async def test_without_keys_verification_is_unavailable(autojump_clock: MockClock) -> None:
    """The client has waited for a fetch, and may retry."""
    publisher = Publisher(OLD)
    publisher.broken = True
    publisher.takes = 3
    async with jwt_verifier(publisher) as one:
        with pytest.raises(KeysUnavailable):
            await one.verify_or_refresh(OLD.token())
        assert trio.current_time() >= 3
        publisher.broken = False
        await trio.sleep(2 * FLOOR)
        assert await accepts(one, OLD)


async def test_changed_keys_are_logged_once(autojump_clock: MockClock) -> None:
    """Not each fetch."""
    publisher = Publisher(OLD)
    with structlog.testing.capture_logs() as lines:
        async with jwt_verifier(publisher):
            await trio.sleep(3 * LONGEST)
            publisher.publish(OLD, NEW)
            await trio.sleep(3 * LONGEST)
    assert [(line["event"], line["keys"]) for line in lines] == [
        ("JWKS loaded", 1),
        ("JWKS loaded", 2),
    ]


def test_key_file_is_read_by_name(tmp_path: Path) -> None:
    """A replaced file is found."""
    file = tmp_path / "jwks.json"
    file.write_bytes(b"first")
    assert read_keys(file) == b"first"
    file.write_bytes(b"second")
    assert read_keys(file) == b"second"


def test_missing_or_large_key_file_is_reported(tmp_path: Path) -> None:
    """With the system's reason or the limit."""
    file = tmp_path / "jwks.json"
    with pytest.raises(Unreachable, match="No such file"):
        read_keys(file)
    file.write_bytes(b" " * ((128 << 10) + 1))
    with pytest.raises(Unreachable, match="more than 131072 bytes"):
        read_keys(file)


@pytest.mark.parametrize(
    ("response", "problem"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", None),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "status 404"),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
            "status 302",
        ),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (200 << 10), "more than 131072 bytes"),
        (b"nonsense\r\n\r\n", "RemoteProtocolError"),
        (b"", "RemoteProtocolError"),
    ],
    ids=["good", "missing", "elsewhere", "large", "nonsense", "nothing"],
)
async def test_fetch_has_limits(response: bytes, problem: str | None) -> None:
    """Other statuses and large responses are failures; redirects are not followed."""
    requests: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            requests.append(await stream.receive_some())
            with contextlib.suppress(trio.BrokenResourceError):  # where it has had enough
                await stream.send_all(response)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host=LOOPBACK))
        port = listeners[0].socket.getsockname()[1]
        fetch = fetch_keys(f"http://{LOOPBACK}:{port}/jwks.json")
        if problem is None:
            assert await fetch() == b"{}"
        else:
            with pytest.raises(Unreachable, match=problem):
                await fetch()
        nursery.cancel_scope.cancel()
    assert requests[0].startswith(b"GET /jwks.json HTTP/1.1\r\n")
    assert len(requests) == 1


async def test_endless_response_is_not_read() -> None:
    """A few megabytes may be in flight; the rest is not read."""
    sent = 0

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal sent
        async with stream:
            await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
            with contextlib.suppress(trio.BrokenResourceError):  # where it has had enough
                while True:
                    await stream.send_all(b" " * (64 << 10))
                    sent += 64 << 10

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host=LOOPBACK))
        port = listeners[0].socket.getsockname()[1]
        with pytest.raises(Unreachable, match="more than 131072 bytes"):
            await fetch_keys(f"http://{LOOPBACK}:{port}/")()
        nursery.cancel_scope.cancel()
    assert sent < 8 << 20


async def test_refused_connection_is_a_failure() -> None:
    """A short text without a traceback."""
    (port,) = free_ports(1)
    with pytest.raises(Unreachable, match="ConnectError"):
        await fetch_keys(f"http://{LOOPBACK}:{port}/")()
