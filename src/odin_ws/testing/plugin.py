"""A pytest plugin: a server in memory, in virtual time, and a server on a port as fixtures.

    @pytest.mark.odin_settings(ws_max_subscriptions=2)
    async def test_a_trade_arrives(odin_scenario):
        client = await odin_scenario.connect()
        await client.subscribe(channels=["BTC.trade"])
        odin_scenario.publish("BTC", "trade", {"price": 1})
        assert (await client.message())["channel"] == "BTC.trade"

pytest finds it by its entry point. It needs the extra `testing`. Settings are given by the names of
odin_ws.settings.Settings. It imports the server only for tests that use a fixture: every run of
pytest in an environment with odin-ws loads this module.
"""

# ruff: noqa: PLC0415 -- the server is imported where it is used

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from trio.abc import Clock

    from odin_ws.catalogue import Catalogue
    from odin_ws.settings import Settings
    from odin_ws.testing.local_server import LocalServer
    from odin_ws.testing.scenario import Scenario

__all__ = [
    "odin_catalogue",
    "odin_scenario",
    "odin_server",
    "odin_settings",
    "pytest_configure",
    "pytest_itemcollected",
]


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers", "odin_settings(**settings): what odin_scenario and odin_server run with"
    )


def pytest_itemcollected(item: pytest.Item) -> None:
    """Run each test with a scenario in virtual time, without a clock fixture."""
    if isinstance(item, pytest.Function) and "odin_scenario" in item.fixturenames:
        item.add_marker(pytest.mark.trio(run=_run_in_virtual_time), append=False)


def _run_in_virtual_time(
    main: Callable[..., Awaitable[Any]], *args: Any, clock: Clock | None = None, **options: Any
) -> Any:
    """Run a test; pytest-trio calls this instead of trio.run.

    `clock`: the test's own clock fixture, if any.
    """
    import trio
    from trio.testing import MockClock

    return trio.run(main, *args, clock=clock or MockClock(autojump_threshold=0), **options)


@pytest.fixture
def odin_settings(request: pytest.FixtureRequest) -> Settings:
    """Return the settings of the nearest marker `odin_settings`, over the defaults."""
    from odin_ws.settings import Settings

    marker = request.node.get_closest_marker("odin_settings")
    return Settings(**marker.kwargs) if marker else Settings()


@pytest.fixture
def odin_catalogue() -> Catalogue:
    """Return the servers' catalogue: Odin's. A conftest.py overrides it for another domain."""
    from odin_ws.catalogue import default_catalogue

    return default_catalogue()


@pytest.fixture
async def odin_scenario(
    odin_settings: Settings, odin_catalogue: Catalogue
) -> AsyncIterator[Scenario]:
    """Yield a running server in memory, in virtual time; the server drains after the test."""
    from odin_ws.testing.scenario import open_scenario

    async with open_scenario(odin_settings, catalogue=odin_catalogue) as scenario:
        yield scenario


@pytest.fixture
async def odin_server(
    odin_settings: Settings, odin_catalogue: Catalogue
) -> AsyncIterator[LocalServer]:
    """Yield a running server on a loopback port, in real time."""
    from odin_ws.testing.local_server import open_local_server

    async with open_local_server(odin_settings, catalogue=odin_catalogue) as server:
        yield server
