"""Handshakes with tokens, and the server's answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from odin_ws.testing.scenario import Scenario, ScenarioClient
from tests.jwt_issuer import issuer
from tests.scenarios.wire import RawClient, request

__all__ = ["RejectedHandshake", "bearer", "connect", "handshake", "token"]


@attrs.frozen
class RejectedHandshake:
    """The server's answer to a handshake."""

    status: int
    headers: Mapping[str, str]
    body: str


def token(seconds: float = 3600, **claims: Any) -> str:
    """Return a valid token of the user `ann`, with further claims of tests.jwt_issuer."""
    return issuer("HS256").token(seconds, **claims)


def bearer(text: str) -> dict[str, str]:
    """Return the Authorization header with this token."""
    return {"Authorization": f"Bearer {text}"}


async def handshake(
    scenario: Scenario, target: str = "/ws", headers: Mapping[str, str] | None = None
) -> RejectedHandshake:
    """Send an upgrade request, disconnect, and return the answer."""
    client = await RawClient.dial(scenario, request(target, headers))
    head = (await client.head()).decode("ascii")
    first, *lines = head.split("\r\n")
    pairs = (line.partition(": ") for line in lines)
    status = int(first.split()[1])
    body = "" if status == 101 else (await client.rest_bytes()).decode("ascii")
    client.stream.break_off()
    return RejectedHandshake(status, {name.lower(): value for name, _, value in pairs}, body)


async def connect(scenario: Scenario, seconds: float = 3600, **claims: Any) -> ScenarioClient:
    """Connect as the user `ann`."""
    return await scenario.connect(token=token(seconds, **claims))
