"""Handshakes with invalid tokens, wrong origins, or too many connections get HTTP errors."""

from __future__ import annotations

import time
from typing import Any

import pytest
import structlog
import trio

from odin_ws.settings import Secret
from odin_ws.testing.scenario import Scenario
from tests.jwt_issuer import SECRET, TOKENS_ARE_ASKED_FOR, Issuer, issuer
from tests.scenarios.auth.handshakes import bearer, connect, handshake, token
from tests.scenarios.ops import metric

pytestmark = TOKENS_ARE_ASKED_FOR

OTHER = Issuer("HS256", "another secret of thirty-two bytes")

JWT: dict[str, Any] = {"ws_auth": "jwt", "ws_jwt_secret": Secret(SECRET)}


async def test_valid_token_is_accepted(odin_scenario: Scenario) -> None:
    """It is in the Authorization header, or in a subprotocol beside ours, which is selected."""
    assert (await handshake(odin_scenario, headers=bearer(token()))).status == 101
    response = await handshake(
        odin_scenario, headers={"Sec-WebSocket-Protocol": f"bearer.{token()}, odin.v1"}
    )
    assert (response.status, response.headers["sec-websocket-protocol"]) == (101, "odin.v1")
    assert odin_scenario.service.server.stats.opened == 2


async def test_missing_token_is_rejected_with_401(odin_scenario: Scenario) -> None:
    """The challenge has only the scheme (RFC 6750, 3.1)."""
    response = await handshake(odin_scenario)
    assert (response.status, response.headers["www-authenticate"]) == (401, "Bearer")
    assert response.body.startswith("a token is required: ")
    assert response.body.count("\n") == 1
    assert odin_scenario.service.server.stats.opened == 0


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        ("nonsense", "the token is not valid"),
        (OTHER.token(), "the token is not valid"),
        (issuer("ES256").token(), "the token is not valid"),
        (OTHER.token(-100), "the token is not valid"),
        (token(aud="another"), "the token is not valid"),
        (token(sub=None), "the token is not valid"),
        (token(channels="*.*"), "the token is not valid"),
        (token(-100), "the token has expired"),
        # Longer than a run of all tests.
        (token(nbf=time.time() + 3000), "the token is not valid yet"),
    ],
    ids=range(9),
)
async def test_invalid_token_is_rejected_with_401(
    odin_scenario: Scenario, bad: str, text: str
) -> None:
    """Only a validly signed token is told that it has expired; the token is not logged."""
    with structlog.testing.capture_logs() as lines:
        response = await handshake(odin_scenario, headers=bearer(bad))
    assert (response.status, response.body) == (401, f"{text}\n")
    assert response.headers["www-authenticate"] == (
        f'Bearer error="invalid_token", error_description="{text}"'
    )
    assert lines
    assert bad not in str(lines)


async def test_token_in_query_is_rejected_by_default(odin_scenario: Scenario) -> None:
    """Proxies write URLs to their logs."""
    assert (await handshake(odin_scenario, f"/ws?token={token()}")).status == 401


@pytest.mark.odin_settings(ws_token_in_query=True, **JWT)
async def test_token_in_query_is_accepted_with_ws_token_in_query(odin_scenario: Scenario) -> None:
    """For clients that can set no header."""
    assert (await handshake(odin_scenario, f"/ws?token={token()}")).status == 101
    assert (await handshake(odin_scenario, "/ws?token=x")).status == 401


async def test_two_tokens_are_rejected_with_400(odin_scenario: Scenario) -> None:
    """Also if both are valid."""
    headers = bearer(token()) | {"Sec-WebSocket-Protocol": f"odin.v1, bearer.{token()}"}
    assert (await handshake(odin_scenario, headers=headers)).status == 400


@pytest.mark.odin_settings(ws_jwt_audience="odin", ws_jwt_issuer="https://id", **JWT)
async def test_wrong_or_missing_audience_or_issuer_is_rejected(odin_scenario: Scenario) -> None:
    """If the settings are set, a token without these claims is rejected too."""

    async def status(**claims: Any) -> int:
        return (await handshake(odin_scenario, headers=bearer(token(**claims)))).status

    assert await status(aud=["x", "odin"], iss="https://id") == 101
    assert await status(aud="x", iss="https://id") == 401
    assert await status(aud="odin", iss="https://other") == 401
    assert await status(iss="https://id") == 401
    assert await status(aud="odin") == 401


@pytest.mark.odin_settings(ws_jwt_leeway_seconds=60, **JWT)
async def test_jwt_leeway_is_a_setting(odin_scenario: Scenario) -> None:
    """With 60 s a token that expired 30 s ago is accepted."""
    assert (await handshake(odin_scenario, headers=bearer(token(-30)))).status == 101
    assert (await handshake(odin_scenario, headers=bearer(token(-90)))).status == 401


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://example.com", 101),
        ("https://a.example.org", 101),
        ("https://evil.net", 403),
        ("https://example.org", 403),
        ("null", 403),
        (None, 101),
    ],
)
@pytest.mark.odin_settings(ws_allowed_origins=("https://example.com", "https://*.example.org"))
async def test_origin_outside_allowed_origins_is_rejected(
    odin_scenario: Scenario, origin: str | None, status: int
) -> None:
    """Clients other than browsers send no Origin, and are accepted."""
    headers = {} if origin is None else {"Origin": origin}
    response = await handshake(odin_scenario, headers=headers)
    assert response.status == status
    if status == 403:
        assert response.body == "web pages of this origin may not connect\n"


@pytest.mark.odin_settings(ws_max_connections_per_user=2, **JWT)
async def test_connections_over_max_connections_per_user_are_rejected(
    odin_scenario: Scenario,
) -> None:
    """All tokens of the user count; other users are not affected, and a close makes room."""
    first = await connect(odin_scenario)
    await connect(odin_scenario, jti="another")
    response = await handshake(odin_scenario, headers=bearer(token()))
    assert response.status == 429
    assert 2 <= int(response.headers["retry-after"]) <= 10
    assert (await handshake(odin_scenario, headers=bearer(token(sub="bob")))).status == 101
    first.stream.break_off()
    await trio.sleep(1)
    assert (await handshake(odin_scenario, headers=bearer(token()))).status == 101


@pytest.mark.odin_settings(ws_max_connections_per_user=0, **JWT)
async def test_max_connections_per_user_of_0_is_no_limit(odin_scenario: Scenario) -> None:
    """150 connections of one user are accepted."""
    for _ in range(150):
        await connect(odin_scenario)
    assert odin_scenario.service.server.admission.active == 150


async def test_rejected_handshake_takes_no_place(odin_scenario: Scenario) -> None:
    """Neither among all connections nor among its user's."""
    for headers in ({}, bearer("x"), bearer(token(-100))):
        await handshake(odin_scenario, headers=headers)
    await trio.sleep(5)
    assert odin_scenario.service.server.admission.active == 0


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "no_token"),
        (bearer("x"), "bad_token"),
        ({"Sec-WebSocket-Protocol": "bearer.x"}, "bad_request"),
    ],
    ids=["none", "bad", "alone"],
)
async def test_rejected_handshakes_are_counted_by_reason(
    odin_scenario: Scenario, headers: dict[str, str], reason: str
) -> None:
    """They do not count as rejections for lack of capacity."""
    await handshake(odin_scenario, headers=headers)
    assert await metric(odin_scenario, "ws_connections_failed_total", reason=reason) == 1
    assert await metric(odin_scenario, "ws_capacity_rejections_total") == 0


@pytest.mark.odin_settings(ws_max_connections=1, **JWT)
async def test_full_server_does_not_verify_tokens(odin_scenario: Scenario) -> None:
    """It answers 503 before it verifies a signature."""
    await connect(odin_scenario)
    assert (await handshake(odin_scenario, headers=bearer("x"))).status == 503
    assert await metric(odin_scenario, "ws_jwt_rejected_total") == 0


async def test_wrong_path_is_404_before_authentication(odin_scenario: Scenario) -> None:
    """It is 404 with and without a token."""
    assert (await handshake(odin_scenario, "/elsewhere")).status == 404
