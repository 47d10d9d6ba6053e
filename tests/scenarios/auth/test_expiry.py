"""A connection ends when its token expires, after a notice to the client."""

from __future__ import annotations

import time
from typing import Any

import pytest
import trio

from odin_ws.connection.token_expiry import Expiry
from odin_ws.settings import Secret
from odin_ws.testing.scenario import Closed, Scenario
from tests.jwt_issuer import SECRET, TOKENS_ARE_ASKED_FOR
from tests.scenarios.auth.handshakes import connect, token

pytestmark = TOKENS_ARE_ASKED_FOR

JWT: dict[str, Any] = {"ws_auth": "jwt", "ws_jwt_secret": Secret(SECRET)}

# Expiry times are whole seconds and checked once a second; the leeway is 10 s.
SLACK = 2.5
LEEWAY = 10


def about(seconds: float) -> Any:
    """Return an approximation within the rounding to seconds."""
    return pytest.approx(seconds, abs=SLACK)


async def test_expiring_token_gives_notice_and_then_closes_4401(odin_scenario: Scenario) -> None:
    """The notice is sent 30 s before the end, which is the token's expiry plus the leeway."""
    started = trio.current_time()
    client = await connect(odin_scenario, 60)
    notice = await client.response()
    assert (notice["type"], notice["status"]) == ("auth", "expiring")
    assert notice["expires_in_ms"] == pytest.approx(30_000, abs=1000 * SLACK)
    assert trio.current_time() - started == about(60 + LEEWAY - 30)
    closed = await client.closed()
    assert (closed.code, closed.reason) == (4401, "the token has expired")
    assert trio.current_time() - started == about(60 + LEEWAY)


async def test_new_token_postpones_notice_and_close(odin_scenario: Scenario) -> None:
    """The next notice is sent before the end of the new token."""
    client = await connect(odin_scenario, 60)
    assert (await client.response())["status"] == "expiring"
    # Virtual time does not advance the wall clock, from which tokens get their expiry.
    renewed = trio.current_time()
    assert (await client.command("auth", token=token(90)))["type"] == "auth_ack"
    await trio.sleep(30)
    assert (await client.response())["status"] == "expiring"
    assert trio.current_time() - renewed == about(90 + LEEWAY - 30)
    assert (await client.closed()).code == 4401


async def test_new_token_may_expire_earlier(odin_scenario: Scenario) -> None:
    """The last token decides."""
    started = trio.current_time()
    client = await connect(odin_scenario, 6000)
    await client.command("auth", token=token(60))
    assert (await client.closed()).code == 4401
    assert trio.current_time() - started == about(60 + LEEWAY)


async def test_token_shorter_than_notice_gives_notice_at_once(odin_scenario: Scenario) -> None:
    """The notice has the time that is left."""
    client = await connect(odin_scenario, 5)
    notice = await client.response()
    assert notice["expires_in_ms"] == pytest.approx(1000 * (5 + LEEWAY - 1), abs=1000 * SLACK)


@pytest.mark.odin_settings(ws_token_expiry_notice_seconds=5, **JWT)
async def test_expiry_notice_time_is_a_setting(odin_scenario: Scenario) -> None:
    """Here 5 s before the end."""
    started = trio.current_time()
    client = await connect(odin_scenario, 50)
    assert (await client.response())["status"] == "expiring"
    assert trio.current_time() - started == about(50 + LEEWAY - 5)


async def test_messages_are_delivered_until_expiry(odin_scenario: Scenario) -> None:
    """The notice is sent among them; nothing follows the close frame."""
    client = await connect(odin_scenario, 20)
    await client.subscribe(channels=["*.trade"])
    received: list[int] = []

    async def publish() -> None:
        for _ in range(60):
            odin_scenario.publish("BTC", "trade")
            await trio.sleep(1)

    async def read() -> None:
        while True:
            received.append((await client.message())["seq"])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish)
        # It reads all along: a client that does not read may miss the close frame.
        with pytest.raises(Closed, match="4401"):
            await read()
    assert len(received) == about(20 + LEEWAY)
    assert received == list(range(1, len(received) + 1))
    assert (await client.response())["status"] == "expiring"
    assert len(odin_scenario.service.hub.index) == 0


async def test_250_tokens_that_expire_together_all_get_notice_and_close(
    odin_scenario: Scenario,
) -> None:
    """No connection is forgotten."""
    clients = [await connect(odin_scenario, 60, sub=f"u{number}") for number in range(250)]
    for client in clients:
        assert (await client.response())["status"] == "expiring"
    for client in clients:
        assert (await client.closed()).code == 4401


async def test_closed_connection_is_removed_from_expiry(odin_scenario: Scenario) -> None:
    """Its token would be valid for a day."""
    client = await connect(odin_scenario, 86_400)
    client.stream.break_off()
    await trio.sleep(5)
    assert len(odin_scenario.service.server.authenticator.expiry) == 0


@pytest.mark.parametrize("ago", [0, 600])
async def test_wall_clock_step_forward_expires_token(
    odin_scenario: Scenario, monkeypatch: pytest.MonkeyPatch, ago: int
) -> None:
    """The clock steps an hour forward, at once or after 10 minutes; 4401 follows within seconds."""
    client = await connect(odin_scenario, 1800)
    await trio.sleep(ago)
    step_wall_clock(monkeypatch, 3600)
    started = trio.current_time()
    assert (await client.closed()).code == 4401
    assert trio.current_time() - started <= SLACK


async def test_wall_clock_step_back_postpones_notice_and_close(
    odin_scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock steps an hour back, and the issuer's clock too: the token ends an hour later."""
    client = await connect(odin_scenario, 1800)
    step_wall_clock(monkeypatch, -3600)
    await trio.sleep(1800 + LEEWAY + 60)
    assert (await client.command("heartbeat"))["type"] == "pong"
    await trio.sleep(3600 - 60 - 20)
    assert (await client.response())["status"] == "expiring"
    await trio.sleep(20)
    assert (await client.closed()).code == 4401


def test_expiry_uses_the_wall_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Trio's clock does not follow when the wall clock is set."""
    monkeypatch.setattr(time, "time", lambda: 1234.5)
    assert Expiry(0).now() == 1234.5


def step_wall_clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Set the wall clock forward or back."""
    system = time.time
    monkeypatch.setattr(time, "time", lambda: system() + seconds)
