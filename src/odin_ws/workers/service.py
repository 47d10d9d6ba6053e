"""Runs the supervisor, the shared port, and the ops pages of all workers."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import structlog
import trio

from odin_ws.listener.accept_loop import bound_address, open_listening_socket, reserve_port
from odin_ws.ops.console.events import SubscribersPort
from odin_ws.ops.request_checks import OpsAuth
from odin_ws.ops.server import serve_ops
from odin_ws.ops.stats import OpsStats
from odin_ws.settings import Secret, Settings
from odin_ws.workers.child import open_child
from odin_ws.workers.console import WorkersConsole
from odin_ws.workers.ops_app import workers_app
from odin_ws.workers.supervisor import Supervisor

__all__ = ["serve_with_workers"]

log = structlog.get_logger("odin_ws.workers")

# Seconds in addition to the drain: a Kafka consumer leaves its group within 5 s, and Python exits.
_DRAIN_GRACE: Final = 15.0


async def serve_with_workers(settings: Settings, command: Sequence[str], stop: trio.Event) -> bool:
    """Run `settings.ws_workers` processes of `command` on one port until `stop`, then drain all.

    Returns whether all workers drained in time. Cancellation stops all workers at once.

    Raises:
        CannotListen: a port is in use or not permitted; in an exception group.
        WorkerFailed: a worker exited before its first response; in an exception group.
    """
    with (
        reserve_port(settings.ws_addr) as subscribers,
        open_listening_socket(settings.ws_ops_addr) as ops_socket,
    ):
        # Only this process knows the token: clients use the supervisor's ops port.
        ops_token = Secret(secrets.token_urlsafe(32))
        environ = {
            **os.environ,
            "WS_ADDR": str(subscribers),
            "WS_WORKERS": str(settings.ws_workers),
            "WS_OPS_TOKEN": ops_token.reveal(),
            "WS_OPS_TOKEN_FILE": "",
        }
        supervisor = Supervisor(
            settings.ws_workers,
            partial(open_child, command, environ, ops_token=ops_token),
            stop,
            settings.ws_drain_delay_seconds + settings.ws_drain_timeout_seconds + _DRAIN_GRACE,
        )
        stats = OpsStats()
        console = WorkersConsole(supervisor, stats, SubscribersPort.from_settings(settings))
        app = workers_app(supervisor, OpsAuth.from_settings(settings), stats, console)
        async with (
            serve_ops(app, ops_socket, stats),
            _watching(console),
            _reloading_certificates(settings, supervisor),
        ):
            log.info(
                "serving with workers",
                subscribers=str(subscribers),
                ops=str(bound_address(ops_socket)),
                workers=settings.ws_workers,
            )
            return await supervisor.run()


@asynccontextmanager
async def _watching(console: WorkersConsole) -> AsyncIterator[None]:
    """Record the samples for the console's charts during the block."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(console.run)
        yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _reloading_certificates(
    settings: Settings, supervisor: Supervisor
) -> AsyncIterator[None]:
    """Pass SIGHUP to the workers during the block if there is a certificate."""
    async with trio.open_nursery() as nursery:
        if settings.ws_tls_cert is not None:
            nursery.start_soon(_pass_sighup, supervisor)
        yield
        nursery.cancel_scope.cancel()


async def _pass_sighup(supervisor: Supervisor) -> None:
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        async for _ in signals:
            await supervisor.reload_certificates()
