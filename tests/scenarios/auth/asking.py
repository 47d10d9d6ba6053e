"""Callers who are asked for a token, and what they are answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from odin_ws.testing.scenario import Scenario, ScenarioClient
from tests.jwt_issuer import issuer
from tests.scenarios.wire import RawClient, request

__all__ = ["Answer", "ask", "bearer", "come", "token"]


@attrs.frozen
class Answer:
    """The server's answer to a handshake."""

    status: int
    headers: Mapping[str, str]
    body: str


def token(seconds: float = 3600, **claims: Any) -> str:
    """A good one of Ann's, as of tests.jwt_issuer."""
    return issuer("HS256").token(seconds, **claims)


def bearer(text: str) -> dict[str, str]:
    """The header that has it."""
    return {"Authorization": f"Bearer {text}"}


async def ask(
    scenario: Scenario, target: str = "/ws", headers: Mapping[str, str] | None = None
) -> Answer:
    """Ask for an upgrade, and leave."""
    client = await RawClient.dial(scenario, request(target, headers))
    head = (await client.head()).decode("ascii")
    first, *lines = head.split("\r\n")
    pairs = (line.partition(": ") for line in lines)
    status = int(first.split()[1])
    body = "" if status == 101 else (await client.rest_bytes()).decode("ascii")
    client.stream.break_off()
    return Answer(status, {name.lower(): value for name, _, value in pairs}, body)


async def come(scenario: Scenario, seconds: float = 3600, **claims: Any) -> ScenarioClient:
    """A client of Ann's that is let in."""
    return await scenario.connect(token=token(seconds, **claims))
