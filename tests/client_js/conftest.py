"""Fixtures: Node, and a scripted server for the client that runs in it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from odin_ws.testing.ports import LOOPBACK
from tests.client_js.fake import FakeServer
from tests.client_js.follower import node_command


@pytest.fixture(scope="session")
def node() -> list[str]:
    """How to run a module in Node, with a WebSocket."""
    return node_command()


@pytest.fixture
async def server(nursery: trio.Nursery, node: list[str]) -> AsyncIterator[FakeServer]:
    """One that waits for connections."""
    (listener,) = await trio.open_tcp_listeners(0, host=LOOPBACK)
    server = FakeServer(nursery, listener, node)
    yield server
    await server.aclose()
