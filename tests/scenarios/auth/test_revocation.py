"""Who is revoked at the ops port is closed at once, and not let in again."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest
import trio

from odin_ws.auth.revocations import LASTS_SECONDS
from odin_ws.settings import Secret
from odin_ws.testing.scenario import Scenario
from tests.jwt_issuer import SECRET
from tests.scenarios.auth.asking import ask, bearer, come, token
from tests.scenarios.ops import post
from tests.scenarios.wire import RawClient

OPS = "the operators' own token"

pytestmark = pytest.mark.odin_settings(
    ws_auth="jwt", ws_jwt_secret=Secret(SECRET), ws_ops_token=Secret(OPS)
)


async def revoke(scenario: Scenario, **order: Any) -> httpx.Response:
    """Post a revocation with the right token."""
    return await post(scenario, "/revocations", json=order, headers=bearer(OPS))


async def test_a_user_is_closed_and_kept_out(odin_scenario: Scenario) -> None:
    """On all connections, with all tokens; others do not notice."""
    clients = [await come(odin_scenario, jti=f"t-{number}") for number in range(3)]
    bob = await come(odin_scenario, sub="bob")
    answer = (await revoke(odin_scenario, user="ann")).json()
    assert (answer["user"], answer["closed"]) == ("ann", 3)
    assert answer["until"] == pytest.approx(time.time() + LASTS_SECONDS, abs=60)
    for client in clients:
        closed = await client.closed()
        assert (closed.code, closed.reason) == (4403, "access was revoked")
    rejected = await ask(odin_scenario, headers=bearer(token(jti="new")))
    assert (rejected.status, rejected.body) == (403, "access was revoked\n")
    assert (await ask(odin_scenario, headers=bearer(token(sub="bob")))).status == 101
    assert (await bob.command("heartbeat"))["type"] == "pong"


async def test_one_token_is_closed_and_kept_out(odin_scenario: Scenario) -> None:
    """The user's others stay good."""
    lost, kept = await come(odin_scenario, jti="lost"), await come(odin_scenario, jti="kept")
    answer = (await revoke(odin_scenario, token_id="lost")).json()  # noqa: S106 -- an id
    assert (answer["token_id"], answer["closed"]) == ("lost", 1)
    assert (await lost.closed()).code == 4403
    assert (await kept.command("heartbeat"))["type"] == "pong"
    for name, status in (("lost", 403), ("kept", 101)):
        assert (await ask(odin_scenario, headers=bearer(token(jti=name)))).status == status


async def test_nothing_more_is_sent_to_who_is_revoked(odin_scenario: Scenario) -> None:
    """What waits for it is thrown away, but for the frame that it has the beginning of."""
    client = await RawClient.open(odin_scenario, capacity=2000, headers=bearer(token()))
    await client.subscribe("*.trade")
    for _ in range(5):
        odin_scenario.publish("BTC", "trade", "x" * 1500)
        await trio.sleep(0.1)
    await revoke(odin_scenario, user="ann")
    *messages, last = await client.rest()
    assert len(messages) == 2
    assert last.close == (4403, "access was revoked")


async def test_a_revoked_token_does_not_renew(odin_scenario: Scenario) -> None:
    """On a connection that has another."""
    client = await come(odin_scenario, jti="kept")
    await revoke(odin_scenario, token_id="lost")  # noqa: S106 -- an id
    said = await client.command("auth", token=token(jti="lost"))
    assert said["data"] == {"code": "forbidden", "message": "access was revoked"}


async def test_a_revocation_ends(odin_scenario: Scenario) -> None:
    """When it was said to, or when it is taken back."""
    for until in (time.time() + 0.2, 0):
        await revoke(odin_scenario, user="ann")
        assert (await ask(odin_scenario, headers=bearer(token()))).status == 403
        answer = (await revoke(odin_scenario, user="ann", until=0)).json()
        assert answer["closed"] == 0, until
        assert (await ask(odin_scenario, headers=bearer(token()))).status == 101


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "must be JSON"),
        (b"[]", "must be JSON"),
        (b"{}", "must have either user or token_id"),
        (b'{"user":"a","token_id":"b"}', "must have either user or token_id"),
        (b'{"user":""}', "user, token_id: a text that is not empty"),
        (b'{"user":7}', "user, token_id: a text that is not empty"),
        (b'{"token_id":null}', "user, token_id: a text that is not empty"),
        (b'{"user":"a","until":"tomorrow"}', "until: a number, epoch seconds"),
        (b'{"user":"a","until":true}', "until: a number, epoch seconds"),
        (b'{"user":"a","for":1}', "unknown field for"),
        (b'{"user":"' + b"x" * 5000 + b'"}', "at most 4096 bytes"),
    ],
    ids=range(11),
)
async def test_what_is_no_revocation_is_told(
    odin_scenario: Scenario, body: bytes, problem: str
) -> None:
    """400 with a line that names the field, and nobody is closed."""
    client = await come(odin_scenario)
    answer = await post(odin_scenario, "/revocations", content=body, headers=bearer(OPS))
    assert (answer.status_code, answer.text.count("\n")) == (400, 1)
    assert answer.text.startswith(problem)
    assert (await client.command("heartbeat"))["type"] == "pong"


async def test_the_operators_token_is_needed(odin_scenario: Scenario) -> None:
    """A subscriber's does not do."""
    for headers in ({}, bearer(token()), bearer("wrong")):
        answer = await post(odin_scenario, "/revocations", json={"user": "ann"}, headers=headers)
        assert answer.status_code == 401
    assert (await ask(odin_scenario, headers=bearer(token()))).status == 101


@pytest.mark.odin_settings(ws_auth="jwt", ws_jwt_secret=Secret(SECRET))
async def test_without_an_operators_token_nobody_may_revoke(odin_scenario: Scenario) -> None:
    """Or whoever reaches the port could send everybody away."""
    answer = await post(odin_scenario, "/revocations", json={"user": "ann"})
    assert (answer.status_code, "WS_OPS_TOKEN" in answer.text) == (403, True)


@pytest.mark.odin_settings(ws_ops_token=Secret(OPS))
async def test_where_nobody_is_asked_nobody_is_revoked(odin_scenario: Scenario) -> None:
    """There are no users to name."""
    answer = await revoke(odin_scenario, user="ann")
    assert (answer.status_code, "WS_AUTH=none" in answer.text) == (409, True)
