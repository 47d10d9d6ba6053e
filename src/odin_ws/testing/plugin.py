"""A pytest plugin: a server in memory as a fixture, in virtual time.

    pytest_plugins = ["odin_ws.testing.plugin"]

    @pytest.mark.odin_settings(ws_max_subscriptions=2)
    async def test_a_trade_arrives(odin_scenario):
        client = await odin_scenario.connect()
        await client.subscribe(channels=["BTC.trade"])
        odin_scenario.publish("BTC", "trade", {"price": 1})
        assert (await client.message())["channel"] == "BTC.trade"

It needs the extra `testing`. Settings are given by the names of odin_ws.settings.Settings.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.abc import Clock
from trio.testing import MockClock

from odin_ws.settings import Settings
from odin_ws.testing.scenario import Scenario, open_scenario

__all__ = ["odin_scenario", "odin_settings", "pytest_configure", "pytest_itemcollected"]


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "odin_settings(**settings): what odin_scenario runs with")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Run every test with a scenario in virtual time: nobody has to remember the clock."""
    if isinstance(item, pytest.Function) and "odin_scenario" in item.fixturenames:
        item.add_marker(pytest.mark.trio(run=_run_in_virtual_time), append=False)


def _run_in_virtual_time(
    main: Callable[..., Awaitable[Any]], *args: Any, clock: Clock | None = None, **options: Any
) -> Any:
    """What pytest-trio calls instead of trio.run; `clock`: where the test asked for one itself."""
    return trio.run(main, *args, clock=clock or MockClock(autojump_threshold=0), **options)


@pytest.fixture
def odin_settings(request: pytest.FixtureRequest) -> Settings:
    """The settings of the nearest marker `odin_settings`, over the defaults."""
    marker = request.node.get_closest_marker("odin_settings")
    return Settings(**marker.kwargs) if marker else Settings()


@pytest.fixture
async def odin_scenario(odin_settings: Settings) -> AsyncIterator[Scenario]:
    """A running server; it drains after the test."""
    async with open_scenario(odin_settings) as scenario:
        yield scenario
