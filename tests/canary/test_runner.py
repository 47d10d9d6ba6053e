"""The canary keeps the results of its tries, and the log has each change."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import ssl

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


async def test_certificate_reloaded_during_a_try_is_no_failure(autojump_clock: MockClock) -> None:
    """The failed try is repeated with the new certificate; the second failure counts."""
    contexts = [ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) for _ in range(2)]
    used: list[int] = []
    stats = CanaryStats()

    def target() -> Target:
        # The second context is served from the end of the first try on.
        return Target(
            connection_refused_after_reload, "ANY.trade", "localhost", tls=contexts[bool(used)]
        )

    async def connection_refused_after_reload() -> trio.abc.Stream:
        used.append(len(used))
        return await refused()

    with trio.move_on_after(0.5):
        await run_canary(target, 30, stats, trio.current_time)
    assert len(used) == 2
    assert stats.tries == stats.failures[Step.CONNECT] == 1


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
