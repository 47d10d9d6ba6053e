"""Who has no good token, comes from elsewhere, or too often, is told so before the upgrade."""

from __future__ import annotations

import time
from typing import Any

import pytest
import structlog
import trio

from odin_ws.settings import Secret
from odin_ws.testing.scenario import Scenario
from tests.jwt_issuer import SECRET, TOKENS_ARE_ASKED_FOR, Issuer, issuer
from tests.scenarios.auth.asking import ask, bearer, come, token
from tests.scenarios.ops import metric

pytestmark = TOKENS_ARE_ASKED_FOR

OTHER = Issuer("HS256", "another secret of thirty-two bytes")

JWT: dict[str, Any] = {"ws_auth": "jwt", "ws_jwt_secret": Secret(SECRET)}


async def test_a_good_token_lets_in(odin_scenario: Scenario) -> None:
    """In the header, or as a subprotocol beside ours, which is selected."""
    assert (await ask(odin_scenario, headers=bearer(token()))).status == 101
    answer = await ask(
        odin_scenario, headers={"Sec-WebSocket-Protocol": f"bearer.{token()}, odin.v1"}
    )
    assert (answer.status, answer.headers["sec-websocket-protocol"]) == (101, "odin.v1")
    assert odin_scenario.service.server.stats.opened == 2


async def test_without_a_token_nobody_gets_in(odin_scenario: Scenario) -> None:
    """401 with a challenge that says only which scheme (RFC 6750, 3.1), and no error."""
    answer = await ask(odin_scenario)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.body.startswith("a token is needed: ")
    assert answer.body.count("\n") == 1
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
        # Well beyond the length of a run of all tests.
        (token(nbf=time.time() + 3000), "the token is not valid yet"),
    ],
    ids=range(9),
)
async def test_a_bad_token_is_rejected(odin_scenario: Scenario, bad: str, text: str) -> None:
    """The client learns what it can mend; a forger learns nothing, not even that it is too old."""
    with structlog.testing.capture_logs() as lines:
        answer = await ask(odin_scenario, headers=bearer(bad))
    assert (answer.status, answer.body) == (401, f"{text}\n")
    assert answer.headers["www-authenticate"] == (
        f'Bearer error="invalid_token", error_description="{text}"'
    )
    assert lines
    assert bad not in str(lines)


async def test_a_token_in_the_query_is_not_taken(odin_scenario: Scenario) -> None:
    """URLs end up in the logs of whatever is between."""
    assert (await ask(odin_scenario, f"/ws?token={token()}")).status == 401


@pytest.mark.odin_settings(ws_token_in_query=True, **JWT)
async def test_a_token_in_the_query_is_taken_where_that_is_set(odin_scenario: Scenario) -> None:
    """For clients that can do nothing else."""
    assert (await ask(odin_scenario, f"/ws?token={token()}")).status == 101
    assert (await ask(odin_scenario, "/ws?token=x")).status == 401


async def test_two_tokens_are_a_bad_request(odin_scenario: Scenario) -> None:
    """Also where both are good."""
    headers = bearer(token()) | {"Sec-WebSocket-Protocol": f"odin.v1, bearer.{token()}"}
    assert (await ask(odin_scenario, headers=headers)).status == 400


@pytest.mark.odin_settings(ws_jwt_audience="odin", ws_jwt_issuer="https://id", **JWT)
async def test_audience_and_issuer_have_to_be_right(odin_scenario: Scenario) -> None:
    """Where they are set, a token without them is rejected too."""

    async def status(**claims: Any) -> int:
        return (await ask(odin_scenario, headers=bearer(token(**claims)))).status

    assert await status(aud=["x", "odin"], iss="https://id") == 101
    assert await status(aud="x", iss="https://id") == 401
    assert await status(aud="odin", iss="https://other") == 401
    assert await status(iss="https://id") == 401
    assert await status(aud="odin") == 401


@pytest.mark.odin_settings(ws_jwt_leeway_seconds=60, **JWT)
async def test_leeway_is_a_setting(odin_scenario: Scenario) -> None:
    """With a minute of it, half a minute too late is in time."""
    assert (await ask(odin_scenario, headers=bearer(token(-30)))).status == 101
    assert (await ask(odin_scenario, headers=bearer(token(-90)))).status == 401


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
async def test_only_listed_pages_may_connect(
    odin_scenario: Scenario, origin: str | None, status: int
) -> None:
    """With or without tokens; who is no browser says no origin, and passes."""
    headers = {} if origin is None else {"Origin": origin}
    answer = await ask(odin_scenario, headers=headers)
    assert answer.status == status
    if status == 403:
        assert answer.body == "web pages of this origin may not connect\n"


@pytest.mark.odin_settings(ws_max_connections_per_user=2, **JWT)
async def test_a_user_has_so_many_connections(odin_scenario: Scenario) -> None:
    """More are 429, whatever token; others have their own, and who leaves makes room."""
    first = await come(odin_scenario)
    await come(odin_scenario, jti="another")
    answer = await ask(odin_scenario, headers=bearer(token()))
    assert answer.status == 429
    assert 2 <= int(answer.headers["retry-after"]) <= 10
    assert (await ask(odin_scenario, headers=bearer(token(sub="bob")))).status == 101
    first.stream.break_off()
    await trio.sleep(1)
    assert (await ask(odin_scenario, headers=bearer(token()))).status == 101


@pytest.mark.odin_settings(ws_max_connections_per_user=0, **JWT)
async def test_a_user_may_have_any_number(odin_scenario: Scenario) -> None:
    """Where 0 is set."""
    for _ in range(150):
        await come(odin_scenario)
    assert odin_scenario.service.server.admission.active == 150


async def test_who_is_rejected_takes_no_place(odin_scenario: Scenario) -> None:
    """Neither among all connections nor among its user's."""
    for headers in ({}, bearer("x"), bearer(token(-100))):
        await ask(odin_scenario, headers=headers)
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
async def test_rejections_are_counted_by_reason(
    odin_scenario: Scenario, headers: dict[str, str], reason: str
) -> None:
    """And none of them is for want of room."""
    await ask(odin_scenario, headers=headers)
    assert await metric(odin_scenario, "ws_connections_failed_total", reason=reason) == 1
    assert await metric(odin_scenario, "ws_capacity_rejections_total") == 0


@pytest.mark.odin_settings(ws_max_connections=1, **JWT)
async def test_who_finds_no_room_is_not_asked(odin_scenario: Scenario) -> None:
    """A full server spends nothing on signatures."""
    await come(odin_scenario)
    assert (await ask(odin_scenario, headers=bearer("x"))).status == 503
    assert await metric(odin_scenario, "ws_jwt_rejected_total") == 0


async def test_what_is_no_upgrade_is_judged_first(odin_scenario: Scenario) -> None:
    """A wrong path is 404 without a token too."""
    assert (await ask(odin_scenario, "/elsewhere")).status == 404
