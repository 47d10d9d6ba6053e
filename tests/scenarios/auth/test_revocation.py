"""Users and tokens revoked at the ops port are disconnected at once, and rejected afterwards."""

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
from tests.scenarios.auth.handshakes import bearer, connect, handshake, token
from tests.scenarios.ops import post
from tests.scenarios.wire import RawClient

OPS = "the operators' own token"

pytestmark = pytest.mark.odin_settings(
    ws_auth="jwt", ws_jwt_secret=Secret(SECRET), ws_ops_token=Secret(OPS)
)


async def revoke(scenario: Scenario, **revocation: Any) -> httpx.Response:
    """Post a revocation with the ops token."""
    return await post(scenario, "/revocations", json=revocation, headers=bearer(OPS))


async def test_revoked_user_is_closed_and_rejected(odin_scenario: Scenario) -> None:
    """This applies to all its connections and tokens; other users are not affected."""
    clients = [await connect(odin_scenario, jti=f"t-{number}") for number in range(3)]
    bob = await connect(odin_scenario, sub="bob")
    response = (await revoke(odin_scenario, user="ann")).json()
    assert (response["user"], response["closed"]) == ("ann", 3)
    assert response["until"] == pytest.approx(time.time() + LASTS_SECONDS, abs=60)
    for client in clients:
        closed = await client.closed()
        assert (closed.code, closed.reason) == (4403, "access was revoked")
    rejected = await handshake(odin_scenario, headers=bearer(token(jti="new")))
    assert (rejected.status, rejected.body) == (403, "access was revoked\n")
    assert (await handshake(odin_scenario, headers=bearer(token(sub="bob")))).status == 101
    assert (await bob.command("heartbeat"))["type"] == "pong"


async def test_revoked_token_is_closed_and_rejected(odin_scenario: Scenario) -> None:
    """The user's other tokens stay valid."""
    lost, kept = await connect(odin_scenario, jti="lost"), await connect(odin_scenario, jti="kept")
    response = (await revoke(odin_scenario, token_id="lost")).json()  # noqa: S106 -- an id
    assert (response["token_id"], response["closed"]) == ("lost", 1)
    assert (await lost.closed()).code == 4403
    assert (await kept.command("heartbeat"))["type"] == "pong"
    for name, status in (("lost", 403), ("kept", 101)):
        assert (await handshake(odin_scenario, headers=bearer(token(jti=name)))).status == status


async def test_revoked_connection_gets_no_further_message(odin_scenario: Scenario) -> None:
    """Pending messages are dropped, except the frame that is partly written."""
    client = await RawClient.open(odin_scenario, capacity=2000, headers=bearer(token()))
    await client.subscribe("*.trade")
    for _ in range(5):
        odin_scenario.publish("BTC", "trade", "x" * 1500)
        await trio.sleep(0.1)
    await revoke(odin_scenario, user="ann")
    *messages, last = await client.rest()
    assert len(messages) == 2
    assert last.close == (4403, "access was revoked")


async def test_revoked_token_is_rejected_by_auth_command(odin_scenario: Scenario) -> None:
    """The connection has another token, and keeps it."""
    client = await connect(odin_scenario, jti="kept")
    await revoke(odin_scenario, token_id="lost")  # noqa: S106 -- an id
    error = await client.command("auth", token=token(jti="lost"))
    assert error["data"] == {"code": "forbidden", "message": "access was revoked"}


async def test_revocation_ends_when_it_is_withdrawn(odin_scenario: Scenario) -> None:
    """`until: 0` withdraws it."""
    await revoke(odin_scenario, user="ann")
    assert (await handshake(odin_scenario, headers=bearer(token()))).status == 403
    response = (await revoke(odin_scenario, user="ann", until=0)).json()
    assert response["closed"] == 0
    assert (await handshake(odin_scenario, headers=bearer(token()))).status == 101


async def test_revocation_ends_at_its_until(
    odin_scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wall clock decides."""
    now = time.time()
    await revoke(odin_scenario, user="ann", until=now + 60)
    for later, status in ((55, 403), (65, 101)):
        monkeypatch.setattr(time, "time", lambda later=later: now + later)
        assert (await handshake(odin_scenario, headers=bearer(token()))).status == status


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "must be JSON"),
        (b"[]", "must be JSON"),
        (b"{}", "must have either user or token_id"),
        (b'{"user":"a","token_id":"b"}', "must have either user or token_id"),
        (b'{"user":""}', "user, token_id: must be a non-empty string"),
        (b'{"user":7}', "user, token_id: must be a non-empty string"),
        (b'{"token_id":null}', "user, token_id: must be a non-empty string"),
        (b'{"user":"a","until":"tomorrow"}', "until: must be a number of epoch seconds"),
        (b'{"user":"a","until":true}', "until: must be a number of epoch seconds"),
        (b'{"user":"a","for":1}', "unknown field for"),
        (b'{"user":"' + b"x" * 5000 + b'"}', "at most 4096 bytes"),
    ],
    ids=range(11),
)
async def test_invalid_revocation_is_answered_400(
    odin_scenario: Scenario, body: bytes, problem: str
) -> None:
    """One line names the field; no connection is closed."""
    client = await connect(odin_scenario)
    response = await post(odin_scenario, "/revocations", content=body, headers=bearer(OPS))
    assert (response.status_code, response.text.count("\n")) == (400, 1)
    assert response.text.startswith(problem)
    assert (await client.command("heartbeat"))["type"] == "pong"


async def test_revocation_needs_ops_token(odin_scenario: Scenario) -> None:
    """A client's token is rejected."""
    for headers in ({}, bearer(token()), bearer("wrong")):
        response = await post(odin_scenario, "/revocations", json={"user": "ann"}, headers=headers)
        assert response.status_code == 401
    assert (await handshake(odin_scenario, headers=bearer(token()))).status == 101


@pytest.mark.odin_settings(ws_auth="jwt", ws_jwt_secret=Secret(SECRET))
async def test_revocation_is_forbidden_without_ws_ops_token(odin_scenario: Scenario) -> None:
    """Otherwise anybody who reaches the ops port could disconnect all clients."""
    response = await post(odin_scenario, "/revocations", json={"user": "ann"})
    assert (response.status_code, "WS_OPS_TOKEN" in response.text) == (403, True)


@pytest.mark.odin_settings(ws_ops_token=Secret(OPS))
async def test_revocation_is_rejected_without_authentication(odin_scenario: Scenario) -> None:
    """Without tokens there are no users."""
    response = await revoke(odin_scenario, user="ann")
    assert (response.status_code, "WS_AUTH=none" in response.text) == (409, True)
