"""The responses that the docs show for curl are those of a server."""

from __future__ import annotations

import json
import re
import shlex
from itertools import pairwise
from typing import Any

import pytest

from odin_ws.canary.steps import Step
from odin_ws.settings import Secret
from odin_ws.testing.scenario import Scenario
from tests.docs.test_examples import transcripts
from tests.jwt_issuer import SECRET, TOKENS_ARE_ASKED_FOR, issuer
from tests.scenarios.ops import ops_request, post
from tests.scenarios.wire import RawClient, request

OPS = [
    pytest.param(shlex.split(command.partition(" | ")[0])[-1], output, id=command)
    for command, output in transcripts("docs/monitoring.md")
    if command.startswith("curl ") and "localhost:3003" in command
]


def fields(value: Any, path: str = "") -> set[str]:
    """The path of every field in a JSON value; of a list, only the first item counts."""
    if isinstance(value, list):
        return fields(value[0], f"{path}[]") if value else set()
    if not isinstance(value, dict):
        return set()
    found = set()
    for name, inner in value.items():
        found |= {f"{path}.{name}"} | fields(inner, f"{path}.{name}")
    return found


@pytest.mark.parametrize(("url", "shown"), OPS)
async def test_ops_pages_have_the_fields_shown(
    odin_scenario: Scenario, url: str, shown: str
) -> None:
    """The response has every field shown, and no other, except where the page says `…`."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["BTC.trade", "ETH.trade"])
    # The in-memory log has no ends to ask for.
    odin_scenario.service.source_status.lag = {"odin.trades": 0}
    # Nor is there a canary.
    seconds = odin_scenario.service.canary.seconds
    seconds |= {step: 0.001 for step in Step if step is not Step.TLS}
    host, slash, path = url.partition("/")
    assert (host, slash) == ("localhost:3003", "/")
    there = fields((await ops_request(odin_scenario, f"/{path}")).json())
    expected = fields(json.loads(re.sub(r",?\s*…", "", shown)))
    assert expected
    assert expected <= there
    if "…" not in shown:
        assert expected == there


async def test_rejection_is_as_shown(odin_scenario: Scenario) -> None:
    """docs/protocol.md shows it byte for byte."""
    shown = dict(transcripts("docs/protocol.md"))["curl -i localhost:3002/ws"]
    head = request(headers={"Connection": None, "Upgrade": None})
    client = await RawClient.dial(odin_scenario, head)
    assert (await client.rest_bytes()).decode().replace("\r\n", "\n") == shown


async def test_probe_is_as_shown(odin_scenario: Scenario) -> None:
    """docs/monitoring.md shows it byte for byte."""
    shown = dict(transcripts("docs/monitoring.md"))["curl -i localhost:3002/healthz"]
    client = await RawClient.dial(odin_scenario, b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n")
    assert (await client.rest_bytes()).decode().replace("\r\n", "\n") == shown


def test_health_and_clients_are_shown() -> None:
    """Health and clients are shown."""
    assert len(OPS) == 2


@TOKENS_ARE_ASKED_FOR
async def test_rejection_of_a_token_is_as_shown(odin_scenario: Scenario) -> None:
    """docs/auth.md shows it byte for byte."""
    command, shown = next(
        transcript
        for transcript in transcripts("docs/auth.md")
        if transcript[0].startswith("curl -i ")
    )
    words = shlex.split(command)
    headers = dict(value.split(": ", 1) for flag, value in pairwise(words) if flag == "-H")
    client = await RawClient.dial(odin_scenario, request(headers=headers))
    assert (await client.rest_bytes()).decode().replace("\r\n", "\n") == shown


@pytest.mark.odin_settings(
    ws_auth="jwt", ws_jwt_secret=Secret(SECRET), ws_ops_token=Secret("of the operators")
)
async def test_revocation_is_as_shown(odin_scenario: Scenario) -> None:
    """The server accepts what docs/auth.md posts, and responds with the fields shown."""
    command, shown = next(
        transcript for transcript in transcripts("docs/auth.md") if "revocations" in transcript[0]
    )
    words = shlex.split(command)
    for _ in range(2):
        await odin_scenario.connect(token=issuer("HS256").token())
    response = await post(
        odin_scenario,
        "/" + words[-1].partition("/")[2],
        content=words[words.index("-d") + 1],
        headers={"Authorization": "Bearer of the operators"},
    )
    expected = json.loads(shown)
    found = response.json()
    assert list(found) == list(expected)
    assert (found["user"], found["closed"]) == (expected["user"], expected["closed"])
