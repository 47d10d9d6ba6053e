"""Fixtures for every test."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from typing import Any, Final

import pytest
import structlog
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

# structlog's default draws a traceback with the source around each line, which takes 0.5 s.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.KeyValueRenderer(key_order=["level", "event"]),
    ]
)

# Events of `sys.addaudithook` when a process starts.
STARTS: Final = ("subprocess.Popen", "os.posix_spawn", "os.fork", "os.exec")

without_processes = False
"""Whether the running test must not start a process."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long; otherwise keep the order."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


def pytest_collection_finish() -> None:
    """Exclude the modules and the collected tests from garbage collections.

    Without this, full collections take a tenth of the CPU of `make quick`.
    """
    gc.collect()
    gc.freeze()


def _check_audit_event(event: str, arguments: tuple[Any, ...]) -> None:
    if without_processes and event in STARTS:
        raise RuntimeError(f"{arguments[0]!r} is started by a test without the mark `processes`")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Fail a test of `make quick` that starts a process."""
    global without_processes  # noqa: PLW0603 -- an audit hook cannot be removed
    without_processes = "not processes" in item.config.option.markexpr
    yield
    without_processes = False


sys.addaudithook(_check_audit_event)
