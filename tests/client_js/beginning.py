"""Begins most tests of the JavaScript client: a subscription and its ack."""

from __future__ import annotations

from typing import Any

from tests.client_js.fake import FakeServer, Visit
from tests.client_js.follower import Follower

__all__ = ["begun"]


async def begun(server: FakeServer, follower: Follower, **more: Any) -> Visit:
    """A connection whose subscription has taken effect."""
    visit = await server.visit()
    command = await visit.accept(**more)
    await follower.notice(f"{'subscription' if command['type'] == 'subscribe' else 'resume'}_ack")
    return visit
