"""A scripted server for the tests of the client, all of which run in virtual time."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.client_python.fake import FakeServer
from tests.client_python.shells import SHELLS, Open


def pytest_itemcollected(item: pytest.Item) -> None:
    """Nobody has to remember the clock."""
    if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.function):
        item.add_marker(pytest.mark.trio(run=_run_in_virtual_time), append=False)


def _run_in_virtual_time(main: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> Any:
    """What pytest-trio calls instead of trio.run."""
    return trio.run(main, *args, **options | {"clock": MockClock(autojump_threshold=0)})


@pytest.fixture(params=SHELLS)
def open_client(request: pytest.FixtureRequest) -> Open:
    """That of each shell in turn."""
    return SHELLS[request.param]


@pytest.fixture
def server(nursery: trio.Nursery, open_client: Open) -> FakeServer:
    """One that waits for connections of a shell's clients."""
    return FakeServer(nursery, open_client)
