"""The process of one worker: start, commands of the supervisor, signals, exit."""

from __future__ import annotations

import os
import signal
import socket
import sys
from functools import partial
from typing import NoReturn

import structlog
import trio

from odin_ws.assembly import kafka
from odin_ws.canary.credential import derive_secret
from odin_ws.catalogue import Catalogue
from odin_ws.cli.command_runner import tune_garbage_collector
from odin_ws.cli.descriptors import raise_descriptor_limit
from odin_ws.cli.environment import read_catalogue, read_settings
from odin_ws.cli.standard_streams import protect_streams
from odin_ws.early_exit import early_exit
from odin_ws.kafka.security import KafkaSecurity
from odin_ws.listener.accept_loop import open_listening_socket
from odin_ws.listener.certificate import log_ignored_sighup
from odin_ws.log_queue import log_queue
from odin_ws.logs import configure_logging
from odin_ws.pause_clock import PauseClock
from odin_ws.serve import running
from odin_ws.settings import Settings
from odin_ws.workers.child import RELOAD, STOP
from odin_ws.workers.limits import worker_settings

__all__ = ["run_worker"]

log = structlog.get_logger("odin_ws.cli")


def run_worker(number: int, ops_fd: int) -> NoReturn:
    """Run worker `number` until the supervisor stops it; `ops_fd`: socket of its ops pages."""
    protect_streams()
    # The supervisor has reported unknown names; it also ignores SIGHUP, which workers inherit.
    settings = read_settings(lambda _line: None)
    catalogue = read_catalogue(settings)
    structlog.contextvars.bind_contextvars(worker=number)
    with log_queue() as handler, socket.socket(fileno=ops_fd) as ops_socket:
        configure_logging(settings.log_level, settings.log_format, handler)
        # The supervisor has reported lowered limits; workers inherit the raised soft limit.
        settings = raise_descriptor_limit(settings).settings
        tune_garbage_collector()
        serve = partial(_serve, worker_settings(settings, number), catalogue, ops_socket)
        sys.exit(trio.run(serve, clock=PauseClock()))


async def _serve(settings: Settings, catalogue: Catalogue, ops_socket: socket.socket) -> int:
    """Run the service; returns the exit status: 0 after a drain, 1 if interrupted."""
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(_drain_on_signals, stop)
        if settings.ws_tls_cert is None:
            nursery.start_soon(log_ignored_sighup)
        nursery.start_soon(_run_supervisor_commands, stop, nursery.cancel_scope)
        with open_listening_socket(settings.ws_addr, reuse_port=True) as listening:
            upstream = kafka(settings, catalogue, KafkaSecurity.from_settings(settings))
            # The kernel may connect this worker's canary to another worker.
            secret = derive_secret(settings.ws_ops_token) if settings.ws_ops_token else None
            async with running(
                settings, catalogue, upstream, listening, ops_socket, canary_secret=secret
            ):
                log.info("serving", subscribers=str(settings.ws_addr))
                await stop.wait()
        nursery.cancel_scope.cancel()
        return 0
    return 1


async def _drain_on_signals(
    stop: trio.Event, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Drain on the first signal and ignore further ones: the supervisor ends a slow drain."""
    # After the drain a signal must not turn a clean exit into a crash.
    early_exit.ignore()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            log.info("signal", name=signal.Signals(number).name)
            stop.set()


async def _run_supervisor_commands(stop: trio.Event, scope: trio.CancelScope) -> None:
    """Run commands from standard input (odin_ws.workers.child); drain when it is closed."""
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as commands:
        async for command in commands:
            if RELOAD in command:
                # Has the effect of SIGHUP to this process.
                signal.raise_signal(signal.SIGHUP)
            if command.strip(RELOAD):
                stop.set()
            if STOP in command:
                scope.cancel()
    if not stop.is_set():
        log.warning("supervisor exited")
        stop.set()
