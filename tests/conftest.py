"""Fixtures for every test."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import settings

# Tests of real processes. Their files take up to two minutes each: if one of them began as the
# last, the other cores would wait for it.
LONG: Final = ("tests/integration/", "tests/console/", "tests/stack/", "tests/autobahn/")

# Hypothesis tries the same examples each time, so what passes here passes in CI, and it has no
# deadline, which a busy machine would exceed. To try other examples:
# make test ARGS="--hypothesis-profile explore"
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("quick", settings.get_profile("same"), max_examples=20)
settings.register_profile("explore", derandomize=False, deadline=None)
settings.load_profile("same")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long; otherwise keep the order."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))
