"""The ops port checks token, Host and site; the two probe pages are open."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import trio

from odin_ws.address import Address
from odin_ws.ops.app import ops_app
from odin_ws.ops.stats import OpsStats
from odin_ws.settings import Secret
from odin_ws.testing.scenario import Scenario
from tests.scenarios.ops import get, ops_request, post

TOKEN = "of the operators"  # noqa: S105 -- of this test

OPEN = ("/health/live", "/health/ready")
PAGES = ("/health", "/metrics", "/clients")

asked = pytest.mark.odin_settings(ws_ops_token=Secret(TOKEN))


async def status(scenario: Scenario, path: str, authorization: str | bytes | None = None) -> int:
    """Return the status of a request with a header."""
    headers: Any = {} if authorization is None else {"Authorization": authorization}
    return (await get(scenario, path, headers=headers)).status_code


@asked
@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        TOKEN,
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN.upper()}",
        b"Bearer \xff\xfe",
    ],
)
async def test_request_without_the_token_is_401(
    odin_scenario: Scenario, path: str, authorization: str | bytes | None
) -> None:
    """The response has a challenge and a line that names the setting."""
    headers: Any = {} if authorization is None else {"Authorization": authorization}
    response = await get(odin_scenario, path, headers=headers)
    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
    assert response.text == "a bearer token is required: WS_OPS_TOKEN\n"


@asked
async def test_the_token_opens_every_page(odin_scenario: Scenario) -> None:
    """The scheme is case-insensitive (RFC 9110); an unknown page is 404 then."""
    await trio.sleep(1)
    for path in PAGES:
        assert await status(odin_scenario, path) == 401
        for scheme in ("Bearer", "bearer"):
            assert await status(odin_scenario, path, f"{scheme} {TOKEN}") == 200
    assert await status(odin_scenario, "/elsewhere") == 401
    assert await status(odin_scenario, "/elsewhere", f"Bearer {TOKEN}") == 404


@asked
@pytest.mark.parametrize("path", OPEN)
async def test_probes_need_no_token(odin_scenario: Scenario, path: str) -> None:
    """Orchestrators and load balancers have no secret, and the response is one word."""
    await trio.sleep(1)
    assert await status(odin_scenario, path) == 200


@asked
@pytest.mark.parametrize("path", ["/health/live/../clients", "//health/live", "/health/live/x"])
async def test_paths_similar_to_a_probes_need_the_token(odin_scenario: Scenario, path: str) -> None:
    """The paths of probes are compared exactly."""
    assert await status(odin_scenario, path) in {401, 404}
    assert (await get(odin_scenario, path)).text != "live\n"


async def test_without_the_setting_no_token_is_needed(odin_scenario: Scenario) -> None:
    """For an ops port that only the internal network reaches."""
    await trio.sleep(1)
    for path in (*PAGES, *OPEN):
        assert (await ops_request(odin_scenario, path)).status_code == 200


# ---- other names and other sites

REBOUND = "evil.example:3003"

REJECTED_HOSTS = [
    REBOUND,
    "localhost.evil.example",
    "evil.localhost",
    "127.0.0.1.evil.example",
    "notlocalhost",
    "192.0.2.7",
    "[2001:db8::1]:3003",
    "",
]

LOOPBACK_HOSTS = [
    "localhost",
    "LOCALHOST:3003",
    "localhost.",
    "127.0.0.1:3003",
    "127.8.8.8",
    "[::1]",
    "[::1]:3003",
    "[::ffff:127.0.0.1]:3003",
]


@pytest.mark.parametrize("path", ["/", *PAGES, "/elsewhere"])
@pytest.mark.parametrize("host", REJECTED_HOSTS)
async def test_unknown_host_is_403_on_every_page_but_the_probes(
    odin_scenario: Scenario, path: str, host: str
) -> None:
    """DNS rebinding reads nothing; the line names the setting."""
    stats = OpsStats()
    response = await get(odin_scenario, path, stats, headers={"Host": host})
    assert response.status_code == 403
    assert (
        response.text
        == "this Host is not allowed; allowed: loopback, this address, and WS_OPS_HOSTS\n"
    )
    assert stats.rejected == {"bad_host": 1}


@pytest.mark.parametrize("host", LOOPBACK_HOSTS)
async def test_loopback_host_is_accepted(odin_scenario: Scenario, host: str) -> None:
    """With any port, because a tunnel has another port."""
    assert (await get(odin_scenario, "/metrics", headers={"Host": host})).status_code == 200


@pytest.mark.odin_settings(ws_ops_hosts=("odin-ws", "odin.internal.", "192.0.2.7", "[2001:db8::7]"))
async def test_hosts_of_the_setting_are_accepted(odin_scenario: Scenario) -> None:
    """Names and addresses; other hosts are rejected."""
    for host in ("odin-ws:3003", "ODIN.internal", "192.0.2.7:80", "[2001:DB8:0::7]:3003"):
        assert (await get(odin_scenario, "/clients", headers={"Host": host})).status_code == 200
    for host in (REBOUND, "odin-ws.evil.example", "192.0.2.8"):
        assert (await get(odin_scenario, "/clients", headers={"Host": host})).status_code == 403


@pytest.mark.odin_settings(ws_ops_hosts=("*",))
async def test_star_accepts_every_host(odin_scenario: Scenario) -> None:
    """For operators whose browsers cannot reach the port."""
    assert (await get(odin_scenario, "/health", headers={"Host": REBOUND})).status_code != 403


@pytest.mark.parametrize(
    ("arrived", "host", "status"),
    [
        ("10.1.2.3", "10.1.2.3:3003", 200),
        ("::ffff:10.1.2.3", "10.1.2.3:3003", 200),
        ("2001:db8::7", "[2001:db8::7]:3003", 200),
        ("10.1.2.3", "10.1.2.4:3003", 403),
        ("10.1.2.3", "10.1.2.3.evil.example", 403),
    ],
)
async def test_local_address_of_the_connection_is_accepted(
    odin_scenario: Scenario, arrived: str, host: str, status: int
) -> None:
    """Prometheus requests pods by address, which needs no setting."""
    app = ops_app(odin_scenario.service)

    async def arriving(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "server": (arrived, 3003)}, receive, send)

    transport = httpx.ASGITransport(arriving)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert (await client.get("/metrics", headers={"Host": host})).status_code == status


@pytest.mark.odin_settings(ws_ops_addr=Address("ops.internal", 3003))
async def test_host_of_the_ops_address_is_accepted(odin_scenario: Scenario) -> None:
    """The name in WS_OPS_ADDR is accepted in requests."""
    headers = {"Host": "ops.internal:3003"}
    assert (await get(odin_scenario, "/metrics", headers=headers)).status_code == 200


@asked
async def test_token_replaces_the_host_check(odin_scenario: Scenario) -> None:
    """A rebound page has no token; without the token the status is 401 for every host."""
    headers = {"Host": REBOUND, "Authorization": f"Bearer {TOKEN}"}
    assert (await get(odin_scenario, "/metrics", headers=headers)).status_code == 200
    stats = OpsStats()
    response = await get(odin_scenario, "/metrics", stats, headers={"Host": REBOUND})
    assert response.status_code == 401
    assert stats.rejected == {"unauthorized": 1}


CROSS_SITE = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "anything else"},
    {"Origin": "https://evil.example"},
    {"Origin": "http://localhost:8000"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
]


@pytest.mark.parametrize("headers", CROSS_SITE)
@pytest.mark.parametrize("path", ["/", *PAGES])
async def test_request_of_another_sites_page_is_403(
    odin_scenario: Scenario, path: str, headers: dict[str, str]
) -> None:
    """By Sec-Fetch-Site or by Origin."""
    stats = OpsStats()
    response = await get(odin_scenario, path, stats, headers=headers)
    assert (response.status_code, response.text) == (
        403,
        "cross-site requests are rejected\n",
    )
    assert stats.rejected == {"cross_site": 1}


@asked
@pytest.mark.parametrize("headers", CROSS_SITE)
async def test_request_of_another_sites_page_is_403_with_the_token_too(
    odin_scenario: Scenario, headers: dict[str, str]
) -> None:
    """A revocation by such a page is rejected too."""
    given = {"Authorization": f"Bearer {TOKEN}", **headers}
    assert (await get(odin_scenario, "/clients", headers=given)).status_code == 403
    posted = await post(odin_scenario, "/revocations", json={"user": "ann"}, headers=given)
    assert posted.status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "https://localhost"},  # TLS ends at a proxy
    ],
)
async def test_request_of_the_own_page_is_accepted(
    odin_scenario: Scenario, headers: dict[str, str]
) -> None:
    """A typed address, or a page of the same port."""
    assert (await get(odin_scenario, "/metrics", headers=headers)).status_code == 200


@pytest.mark.parametrize("path", OPEN)
async def test_probes_accept_every_host_and_site(odin_scenario: Scenario, path: str) -> None:
    """Also HTTP/1.0 without a Host header."""
    await trio.sleep(1)
    for headers in ({"Host": REBOUND}, {"Host": ""}, *CROSS_SITE):
        assert (await get(odin_scenario, path, headers=headers)).status_code == 200
