"""Fixtures for the console's page: a browser and a broker."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from odin_ws.testing.brokers import BrokerUnavailable, embedded_broker
from tests.console.browser import Browser, open_browser
from tests.integration import kafka


@pytest.fixture
async def broker() -> AsyncIterator[str]:
    """Return the address of a broker that has Odin's topics."""
    try:
        async with embedded_broker() as running:
            await kafka.create_topics(running.bootstrap)
            yield running.bootstrap
    except BrokerUnavailable as error:
        kafka.missing(str(error))


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Return a headless browser; skips the test without Chromium."""
    async with open_browser() as browser:
        yield browser
