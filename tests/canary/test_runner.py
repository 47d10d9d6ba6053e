"""The canary keeps the results of its tries, and the log has each change."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import pytest
import structlog
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from odin_ws.canary.probe import Target
from odin_ws.canary.runner import run_canary
from odin_ws.canary.steps import CanaryStats, Step


async def refused() -> trio.abc.Stream:
    """Nobody listens."""
    await trio.lowlevel.checkpoint()
    raise ConnectionRefusedError(111, "Connection refused")


@pytest.mark.parametrize(("interval", "tries"), [(1, 11), (30, 3), (3600, 3)])
async def test_failures_are_counted_by_step_and_logged_once(
    autojump_clock: MockClock, interval: float, tries: int
) -> None:
    """After a failure the next try comes within 5 s; the log tells that it began."""
    stats = CanaryStats()
    structlog.reset_defaults()
    with capture_logs() as lines, trio.move_on_after(10.5):
        await run_canary(
            lambda: Target(refused, "ANY.trade", "localhost"), interval, stats, trio.current_time
        )
    assert stats.tries == tries
    assert stats.failures == {Step.CONNECT: tries}
    assert str(stats.failure) == "connect: Connection refused"
    assert [(line["event"], line["step"], line["reason"]) for line in lines] == [
        ("canary failed", "connect", "Connection refused")
    ]


async def test_tries_that_take_long_have_a_pause_between(autojump_clock: MockClock) -> None:
    """A service that is slow is not tried without end."""
    begun: list[float] = []

    async def silent() -> trio.abc.Stream:
        begun.append(trio.current_time())
        await trio.sleep_forever()
        raise AssertionError

    with trio.move_on_after(30):
        await run_canary(
            lambda: Target(silent, "ANY.trade", "localhost"), 1, CanaryStats(), trio.current_time
        )
    assert begun == [0, 11, 22]
