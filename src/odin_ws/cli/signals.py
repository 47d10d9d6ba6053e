"""SIGTERM and SIGINT of a running command: the first one drains or cancels, a second one stops."""

from __future__ import annotations

import signal
from typing import Final

import structlog
import trio

from odin_ws.early_exit import early_exit

__all__ = ["cancel_on_signal", "drain_on_signals"]

log = structlog.get_logger("odin_ws.cli")

# Exit status of a command that a signal interrupted.
_INTERRUPTED: Final = 1


async def drain_on_signals(
    stop: trio.Event,
    scope: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Drain on SIGINT or SIGTERM: the first signal sets `stop`, the second cancels `scope`.

    The task reports that it has started once it receives signals: an earlier signal would end the
    command at once.
    """
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            log.info("signal", name=signal.Signals(number).name)
            early_exit.status = _INTERRUPTED
            if stop.is_set():
                scope.cancel()
            stop.set()


async def cancel_on_signal(scope: trio.CancelScope) -> None:
    """Cancel `scope` on SIGINT or SIGTERM, for commands with nothing to drain."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            early_exit.status = _INTERRUPTED
            scope.cancel()
