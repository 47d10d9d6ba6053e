"""With WS_OPS_TOKEN the ops port wants it, on all pages but the two that probes ask."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from odin_ws.settings import Secret
from odin_ws.testing.scenario import Scenario
from tests.scenarios.ops import ask, get

TOKEN = "of the operators"  # noqa: S105 -- of this test

OPEN = ("/health/live", "/health/ready")
PAGES = ("/health", "/metrics", "/clients")

asked = pytest.mark.odin_settings(ws_ops_token=Secret(TOKEN))


async def status(scenario: Scenario, path: str, authorization: str | bytes | None = None) -> int:
    """The status of a page, asked with such a header."""
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
async def test_without_the_token_nothing_is_told(
    odin_scenario: Scenario, path: str, authorization: str | bytes | None
) -> None:
    """401 with a challenge and a line that names the setting."""
    headers: Any = {} if authorization is None else {"Authorization": authorization}
    answer = await get(odin_scenario, path, headers=headers)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.text == "a bearer token is needed: WS_OPS_TOKEN\n"


@asked
async def test_the_token_opens_every_page(odin_scenario: Scenario) -> None:
    """The scheme in whatever case, as HTTP wants it; a page that is not there is 404 then."""
    await trio.sleep(1)
    for path in PAGES:
        assert await status(odin_scenario, path) == 401
        for scheme in ("Bearer", "bearer"):
            assert await status(odin_scenario, path, f"{scheme} {TOKEN}") == 200
    assert await status(odin_scenario, "/elsewhere") == 401
    assert await status(odin_scenario, "/elsewhere", f"Bearer {TOKEN}") == 404


@asked
@pytest.mark.parametrize("path", OPEN)
async def test_probes_need_none(odin_scenario: Scenario, path: str) -> None:
    """Orchestrators and load balancers ask without secrets, and learn one word."""
    await trio.sleep(1)
    assert await status(odin_scenario, path) == 200


@asked
@pytest.mark.parametrize("path", ["/health/live/../clients", "//health/live", "/health/live/x"])
async def test_no_other_path_passes_for_a_probes(odin_scenario: Scenario, path: str) -> None:
    """Only those two, letter by letter."""
    assert await status(odin_scenario, path) in {401, 404}
    assert (await get(odin_scenario, path)).text != "live\n"


async def test_without_the_setting_nothing_is_asked(odin_scenario: Scenario) -> None:
    """As on a port that only the inside reaches."""
    await trio.sleep(1)
    for path in (*PAGES, *OPEN):
        assert (await ask(odin_scenario, path)).status_code == 200
