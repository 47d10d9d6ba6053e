"""A connection ends with its token, and its client knows it beforehand."""

from __future__ import annotations

import time
from typing import Any

import pytest
import trio

from odin_ws.connection.token_expiry import Expiry
from odin_ws.settings import Secret
from odin_ws.testing.scenario import Closed, Scenario
from tests.jwt_issuer import SECRET, TOKENS_ARE_ASKED_FOR
from tests.scenarios.auth.asking import come, token

pytestmark = TOKENS_ARE_ASKED_FOR

JWT: dict[str, Any] = {"ws_auth": "jwt", "ws_jwt_secret": Secret(SECRET)}

# Ends are whole seconds and looked at once a second; the server allows 10 seconds of leeway.
SLACK = 2.5
LEEWAY = 10


def about(seconds: float) -> Any:
    """A time within what rounding to seconds may add or take."""
    return pytest.approx(seconds, abs=SLACK)


async def test_who_gets_no_new_token_is_told_and_closed(odin_scenario: Scenario) -> None:
    """30 seconds before, how long it still has; then 4401, at the token's end and some leeway."""
    started = trio.current_time()
    client = await come(odin_scenario, 60)
    notice = await client.answer()
    assert (notice["type"], notice["status"]) == ("auth", "expiring")
    assert notice["expires_in_ms"] == pytest.approx(30_000, abs=1000 * SLACK)
    assert trio.current_time() - started == about(60 + LEEWAY - 30)
    closed = await client.closed()
    assert (closed.code, closed.reason) == (4401, "the token has expired")
    assert trio.current_time() - started == about(60 + LEEWAY)


async def test_a_new_token_moves_the_end(odin_scenario: Scenario) -> None:
    """The notice comes again before that, and not before."""
    client = await come(odin_scenario, 60)
    assert (await client.answer())["status"] == "expiring"
    # Virtual time does not move the clock that tokens are made by.
    renewed = trio.current_time()
    assert (await client.command("auth", token=token(90)))["type"] == "auth_ack"
    await trio.sleep(30)
    assert (await client.answer())["status"] == "expiring"
    assert trio.current_time() - renewed == about(90 + LEEWAY - 30)
    assert (await client.closed()).code == 4401


async def test_a_new_token_may_end_earlier(odin_scenario: Scenario) -> None:
    """It is the last token that counts."""
    started = trio.current_time()
    client = await come(odin_scenario, 6000)
    await client.command("auth", token=token(60))
    assert (await client.closed()).code == 4401
    assert trio.current_time() - started == about(60 + LEEWAY)


async def test_a_short_token_is_told_of_at_once(odin_scenario: Scenario) -> None:
    """Where there are no 30 seconds left, with what there is."""
    client = await come(odin_scenario, 5)
    notice = await client.answer()
    assert notice["expires_in_ms"] == pytest.approx(1000 * (5 + LEEWAY - 1), abs=1000 * SLACK)


@pytest.mark.odin_settings(ws_token_expiry_notice_seconds=5, **JWT)
async def test_the_notice_is_a_setting(odin_scenario: Scenario) -> None:
    """Five seconds before, here."""
    started = trio.current_time()
    client = await come(odin_scenario, 50)
    assert (await client.answer())["status"] == "expiring"
    assert trio.current_time() - started == about(50 + LEEWAY - 5)


async def test_messages_come_until_the_end(odin_scenario: Scenario) -> None:
    """The notice takes its place among them, and none comes after the close."""
    client = await come(odin_scenario, 20)
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
        # As they come: who does not read is cut off, and may miss the close frame.
        with pytest.raises(Closed, match="4401"):
            await read()
    assert len(received) == about(20 + LEEWAY)
    assert received == list(range(1, len(received) + 1))
    assert (await client.answer())["status"] == "expiring"
    assert len(odin_scenario.service.hub.index) == 0


async def test_many_tokens_that_end_together_are_all_told(odin_scenario: Scenario) -> None:
    """Nobody is forgotten in the crowd."""
    clients = [await come(odin_scenario, 60, sub=f"u{number}") for number in range(250)]
    for client in clients:
        assert (await client.answer())["status"] == "expiring"
    for client in clients:
        assert (await client.closed()).code == 4401


async def test_who_has_left_is_forgotten(odin_scenario: Scenario) -> None:
    """A client whose token is good for a day leaves nothing behind."""
    client = await come(odin_scenario, 86_400)
    client.stream.break_off()
    await trio.sleep(5)
    assert len(odin_scenario.service.server.authenticator.expiry) == 0


@pytest.mark.parametrize("ago", [0, 600])
async def test_a_wall_clock_that_steps_forward_ends_the_token(
    odin_scenario: Scenario, monkeypatch: pytest.MonkeyPatch, ago: int
) -> None:
    """An hour forward, at once or after ten minutes: the token has ended, a second later 4401."""
    client = await come(odin_scenario, 1800)
    await trio.sleep(ago)
    step_wall_clock(monkeypatch, 3600)
    started = trio.current_time()
    assert (await client.closed()).code == 4401
    assert trio.current_time() - started <= SLACK


async def test_a_wall_clock_that_steps_back_keeps_the_connection(
    odin_scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour back: the token, made by the same clock, ends an hour later, and so the notice."""
    client = await come(odin_scenario, 1800)
    step_wall_clock(monkeypatch, -3600)
    await trio.sleep(1800 + LEEWAY + 60)
    assert (await client.command("heartbeat"))["type"] == "pong"
    await trio.sleep(3600 - 60 - 20)
    assert (await client.answer())["status"] == "expiring"
    await trio.sleep(20)
    assert (await client.closed()).code == 4401


def test_ends_are_compared_with_the_clock_of_the_system(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Trio's clock does not follow when the wall clock is set."""
    monkeypatch.setattr(time, "time", lambda: 1234.5)
    assert Expiry(0).now() == 1234.5


def step_wall_clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Set the system's clock forward, or back."""
    system = time.time
    monkeypatch.setattr(time, "time", lambda: system() + seconds)
