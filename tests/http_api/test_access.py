"""Who may read /sse, and which web pages: tokens, revocation, origins, CORS."""

from __future__ import annotations

from collections import Counter

import pytest
import trio

from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.settings import Secret
from odin_ws.testing.scenario import Scenario
from tests.http_api.event_source import EventSource, sse_request
from tests.jwt_issuer import SECRET, TOKENS_ARE_ASKED_FOR, issuer
from tests.scenarios.ops import post
from tests.scenarios.wire import RawClient

PAGE = "https://app.example.com"
OTHER = "https://evil.example.net"

ISSUER = issuer("HS256")

IN_QUERY = pytest.mark.odin_settings(
    ws_auth="jwt", ws_jwt_secret=Secret(SECRET), ws_token_in_query=True
)
OF_A_PAGE = pytest.mark.odin_settings(ws_allowed_origins=(PAGE,))


def bearer(**claims: object) -> dict[str, str]:
    """The header with a token."""
    return {"Authorization": f"Bearer {ISSUER.token(**claims)}"}  # type: ignore[arg-type]


async def response(
    scenario: Scenario, query: str, headers: dict[str, str], method: str = "GET"
) -> tuple[int, dict[str, str]]:
    """Status and headers of an answer."""
    client = await RawClient.dial(scenario, sse_request(query, headers, method=method))
    status, *fields = (await client.head()).decode("ascii").split("\r\n")
    return int(status.split()[1]), dict(field.split(": ", 1) for field in fields)


@TOKENS_ARE_ASKED_FOR
async def test_stream_needs_a_token(odin_scenario: Scenario) -> None:
    """In the header; not in the URL by default."""
    status, headers = await response(odin_scenario, "channels=*.trade", {})
    assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
    token = ISSUER.token()
    status, _ = await response(odin_scenario, f"channels=*.trade&token={token}", {})
    assert status == 401
    source = await EventSource.open(odin_scenario, "channels=*.trade", headers=bearer())
    assert source.status == 200
    (connection,) = odin_scenario.service.server.connections
    assert connection.grant.user == "ann"


@IN_QUERY
async def test_native_event_source_sends_its_token_in_the_query(odin_scenario: Scenario) -> None:
    """It can set no header; WS_TOKEN_IN_QUERY allows it."""
    token = ISSUER.token()
    source = await EventSource.open(odin_scenario, f"channels=*.trade&token={token}")
    assert source.status == 200
    status, _ = await response(odin_scenario, f"channels=*.trade&token={token}", bearer())
    assert status == 400


@TOKENS_ARE_ASKED_FOR
async def test_token_grants_what_it_grants_a_websocket(odin_scenario: Scenario) -> None:
    """What is not granted is rejected by name; where that is everything, there is no stream."""
    headers = bearer(channels=["*.trade"])
    source = await EventSource.open(odin_scenario, "channels=*.trade,*.social", headers=headers)
    ack = (await source.event()).json
    assert ack["subscribed"] == ["*.trade"]
    assert [rejection["code"] for rejection in ack["rejected"]] == ["FORBIDDEN"]
    source = await EventSource.open(odin_scenario, "channels=*.social", headers=headers)
    await source.rest()
    assert (source.status, source.content) == (403, "not granted: *.social\n")
    assert odin_scenario.service.server.admission.rejections == Counter({"forbidden": 1})


@TOKENS_ARE_ASKED_FOR
async def test_token_limits_the_subscriptions(odin_scenario: Scenario) -> None:
    """By its own claim."""
    headers = bearer(max_subscriptions=1)
    source = await EventSource.open(odin_scenario, "channels=*.trade,*.social", headers=headers)
    ack = (await source.event()).json
    assert [rejection["code"] for rejection in ack["rejected"]] == ["TOO_MANY_SUBSCRIPTIONS"]


@TOKENS_ARE_ASKED_FOR
async def test_stream_ends_with_its_token(odin_scenario: Scenario) -> None:
    """After a notice; a program then comes with another token and its last id."""
    headers = bearer(seconds=60)
    source = await EventSource.open(odin_scenario, "channels=*.trade", headers=headers)
    notice, close = [one for one in await source.rest() if one.name in {"auth", "close"}]
    assert notice.json["status"] == "expiring"
    assert (close.json["code"], close.json["label"]) == (4401, "token_expired")
    odin_scenario.publish("BTC", "trade", 1)
    again = await EventSource.open(
        odin_scenario, "channels=*.trade", last_event_id=close.last_event_id, headers=bearer()
    )
    assert [message.json["data"]["data"] for message in await again.messages(1)] == [1]


@pytest.mark.odin_settings(
    ws_auth="jwt", ws_jwt_secret=Secret(SECRET), ws_ops_token=Secret("of operators")
)
async def test_revoked_user_is_sent_away(odin_scenario: Scenario) -> None:
    """At once, and does not come in again."""
    source = await EventSource.open(odin_scenario, "channels=*.trade", headers=bearer())
    await source.event()
    operator = {"Authorization": "Bearer of operators"}
    answer_to_post = await post(
        odin_scenario, "/revocations", json={"user": "ann"}, headers=operator
    )
    assert answer_to_post.json()["closed"] == 1
    close = (await source.rest())[-1]
    assert close.json["code"] == 4403
    await trio.sleep(5)
    assert odin_scenario.service.server.stats.closed == {DisconnectReason.REVOKED: 1}
    assert (await response(odin_scenario, "channels=*.trade", bearer()))[0] == 403


@pytest.mark.odin_settings(
    ws_auth="jwt", ws_jwt_secret=Secret(SECRET), ws_max_connections_per_user=1
)
async def test_stream_counts_for_its_user(odin_scenario: Scenario) -> None:
    """With the user's WebSockets."""
    await EventSource.open(odin_scenario, "channels=*.trade", headers=bearer())
    assert (await response(odin_scenario, "channels=*.trade", bearer()))[0] == 429


# ---- web pages


@OF_A_PAGE
async def test_page_of_an_allowed_origin_may_read(odin_scenario: Scenario) -> None:
    """The response names it, and no other; a program sends no origin."""
    source = await EventSource.open(odin_scenario, "channels=*.trade", headers={"Origin": PAGE})
    assert source.status == 200
    assert source.headers["access-control-allow-origin"] == PAGE
    assert source.headers["vary"] == "Origin"
    program = await EventSource.open(odin_scenario, "channels=*.trade")
    assert "access-control-allow-origin" not in program.headers


@OF_A_PAGE
async def test_page_of_another_origin_gets_nothing(odin_scenario: Scenario) -> None:
    """Neither a stream nor the permission to read why."""
    status, headers = await response(odin_scenario, "channels=*.trade", {"Origin": OTHER})
    assert status == 403
    assert "Access-Control-Allow-Origin" not in headers
    assert odin_scenario.service.server.admission.rejections == Counter({"bad_origin": 1})


@OF_A_PAGE
async def test_page_may_read_why_it_gets_no_stream(odin_scenario: Scenario) -> None:
    """Else it could not tell a bad request from a server that is away."""
    status, headers = await response(odin_scenario, "channels=nope", {"Origin": PAGE})
    assert (status, headers["Access-Control-Allow-Origin"]) == (400, PAGE)


PREFLIGHT = {
    "Access-Control-Request-Method": "GET",
    "Access-Control-Request-Headers": "authorization,last-event-id",
}


@pytest.mark.odin_settings(
    ws_auth="jwt", ws_jwt_secret=Secret(SECRET), ws_allowed_origins=(PAGE,), ws_max_connections=1
)
async def test_preflight_of_an_allowed_origin_is_answered(odin_scenario: Scenario) -> None:
    """Without a token, which a browser does not send then; it takes no place."""
    headers = {"Origin": PAGE, **PREFLIGHT}
    for _ in range(3):
        status, found = await response(odin_scenario, "channels=*.trade", headers, "OPTIONS")
        assert status == 204
        assert found == {
            "Connection": "close",
            "Allow": "GET, OPTIONS",
            "Access-Control-Allow-Origin": PAGE,
            "Vary": "Origin",
            "Access-Control-Allow-Methods": "GET",
            "Access-Control-Allow-Headers": "Authorization, Last-Event-ID",
            "Access-Control-Max-Age": "7200",
        }
    assert odin_scenario.service.server.http.requests == Counter({"preflight": 3})


@OF_A_PAGE
async def test_preflight_of_another_origin_allows_nothing(odin_scenario: Scenario) -> None:
    """The browser then sends no request."""
    headers = {"Origin": OTHER, **PREFLIGHT}
    status, found = await response(odin_scenario, "channels=*.trade", headers, "OPTIONS")
    assert status == 204
    assert not [name for name in found if name.startswith("Access-Control-")]
