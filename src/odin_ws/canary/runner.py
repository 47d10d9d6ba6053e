"""The canary of a running service: tries it at an interval and keeps the results."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import structlog
import trio

from odin_ws.canary.probe import Target, try_service
from odin_ws.canary.steps import CanaryStats, Step, StepFailed, TryResult

__all__ = ["TRY_SECONDS", "run_canary"]

log = structlog.get_logger("odin_ws.canary")

# A try takes some milliseconds, and 1 s while thousands of clients reconnect. Most clients have
# a timeout of 10 s.
TRY_SECONDS: Final = 10.0

# Interval after a failure: short, so that `/health` recovers soon after the service.
_RETRY_SECONDS: Final = 5.0


async def run_canary(
    target: Callable[[], Target],
    interval: float,
    stats: CanaryStats,
    now: Callable[[], float] = time.monotonic,
) -> None:
    """Try the service every `interval` seconds until cancelled; calls `target` before each.

    A failed try is repeated if `target` has another TLS context by then.
    """
    while True:
        begun = trio.current_time()
        tried = target()
        failure = await _failure(tried, stats.seconds, now)
        if failure is not None and (current := target()).tls is not tried.tls:
            # The certificate was reloaded during the try.
            failure = await _failure(current, stats.seconds, now)
        if failure is not None:
            stats.failures[failure.step] += 1
        _log_change(stats.failure, failure)
        stats.failure = failure
        stats.tries += 1
        wait = interval if failure is None else min(interval, _RETRY_SECONDS)
        # `interval` is from start to start; a pause follows even a slow try.
        await trio.sleep_until(max(begun + wait, trio.current_time() + min(wait, 1.0)))


async def _failure(
    target: Target, seconds: dict[Step, float], now: Callable[[], float]
) -> StepFailed | None:
    result = TryResult()
    try:
        await try_service(target, result, TRY_SECONDS, now)
    except StepFailed as error:
        return error
    finally:
        seconds |= result.times
    return None


def _log_change(before: StepFailed | None, failure: StepFailed | None) -> None:
    """Log a failure that differs from the one before, and the first success after one."""
    if failure is None:
        if before is not None:
            log.info("canary succeeds again")
    elif before is None or before.step is not failure.step:
        log.warning("canary failed", step=str(failure.step), reason=failure.reason)
