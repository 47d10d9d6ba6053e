"""Signed tokens with invalid claims are rejected; each connected user can be listed and revoked."""

from __future__ import annotations

import json
from typing import Any

import jwt
import orjson
import pytest

from odin_ws.auth.faults import JwtFault
from odin_ws.settings import Secret
from odin_ws.testing.scenario import Scenario
from tests.jwt_issuer import SECRET
from tests.scenarios.auth.handshakes import bearer, connect, handshake
from tests.scenarios.ops import get, post

OPS = "the operators' own token"

pytestmark = pytest.mark.odin_settings(
    ws_auth="jwt", ws_jwt_secret=Secret(SECRET), ws_ops_token=Secret(OPS)
)

ODD: dict[str, dict[str, Any]] = {
    "a lone surrogate in sub": {"sub": "ann\ud800"},
    "a lone surrogate in channels": {"channels": ["\udfff.trade"]},
    "a line feed in sub": {"sub": "ann\n"},
    "exp beyond every clock": {"exp": 10**400},
    "exp that is NaN": {"exp": float("nan")},
    "exp that is infinite": {"exp": float("inf")},
    "exp that is a string": {"exp": "4102444800"},
    "more channels than a command may have": {"channels": ["a"] * 1025},
    "a limit that is no number": {"max_subscriptions": "all"},
}


def signed(**claims: Any) -> str:
    """Return a token with these claims, written by Python's JSON encoder."""
    payload = json.dumps({"sub": "ann", "exp": 4102444800, **claims})
    return jwt.PyJWS().encode(payload.encode(), SECRET, "HS256")


@pytest.mark.parametrize("case", ODD)
async def test_invalid_claims_are_rejected_with_401(odin_scenario: Scenario, case: str) -> None:
    """They count as `claims`; `/clients` and the `auth` of a connected client still work."""
    live = await connect(odin_scenario)
    token = signed(**ODD[case])
    assert (await handshake(odin_scenario, headers=bearer(token))).status == 401
    assert (await live.command("auth", token=token))["data"]["code"] == "invalid_token"
    assert (await live.command("heartbeat"))["type"] == "pong"
    clients = await get(odin_scenario, "/clients", headers=bearer(OPS))
    assert [client["user"] for client in clients.json()["clients"]] == ["ann"]
    jwt_verifier = odin_scenario.service.server.authenticator.jwt_verifier
    assert jwt_verifier is not None
    assert jwt_verifier.rejections == {JwtFault.CLAIMS: 2}
    assert odin_scenario.service.server.stats.errors == 0


@pytest.mark.parametrize(
    "user",
    ["\U0001f600" * 256, '"\\', "\u202eann", "Z\u00fcrich", " ", "<script>", "%00", "\u00e9" * 256],
)
@pytest.mark.parametrize("ascii_only", [False, True])
async def test_each_connected_user_is_listed_and_can_be_revoked(
    odin_scenario: Scenario, user: str, *, ascii_only: bool
) -> None:
    """The revocation's JSON may have the name in ASCII or in UTF-8."""
    client = await odin_scenario.connect(token=signed(sub=user))
    clients = await get(odin_scenario, "/clients", headers=bearer(OPS))
    assert [client["user"] for client in clients.json()["clients"]] == [user]
    revocation = {"user": user}
    body = json.dumps(revocation).encode() if ascii_only else orjson.dumps(revocation)
    response = await post(odin_scenario, "/revocations", content=body, headers=bearer(OPS))
    assert (response.json()["user"], response.json()["closed"]) == (user, 1)
    assert (await client.closed()).code == 4403
    assert (await handshake(odin_scenario, headers=bearer(signed(sub=user)))).status == 403


@pytest.mark.parametrize("until", ["1e300", "-1e300", "1" + "0" * 400, "9007199254740994"])
async def test_revocation_until_impossible_time_is_rejected(
    odin_scenario: Scenario, until: str
) -> None:
    """The answer is 400; a number that is too large raises no exception."""
    body = f'{{"user":"ann","until":{until}}}'.encode()
    response = await post(odin_scenario, "/revocations", content=body, headers=bearer(OPS))
    assert response.status_code == 400
