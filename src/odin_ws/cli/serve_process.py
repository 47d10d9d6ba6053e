"""The process of `odin-ws serve`: start, SIGTERM and SIGINT, exit status."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import NoReturn

import structlog
import trio

from odin_ws import __version__
from odin_ws.assembly import kafka, read_certificate
from odin_ws.catalogue import Catalogue
from odin_ws.cli.command_runner import (
    CommandFailed,
    InvalidConfiguration,
    run,
    tune_garbage_collector,
)
from odin_ws.cli.descriptors import TooFewDescriptors, raise_descriptor_limit
from odin_ws.cli.environment import (
    check_jwt_verifier,
    exit_with_usage_error,
    read_catalogue,
    read_kafka_security,
    read_settings,
)
from odin_ws.cli.signals import drain_on_signals
from odin_ws.exception_groups import leaves
from odin_ws.kafka.security import KafkaSecurity
from odin_ws.listener.accept_loop import CannotListen
from odin_ws.listener.certificate import CertificateError, log_ignored_sighup
from odin_ws.log_queue import log_queue
from odin_ws.logs import configure_logging
from odin_ws.serve import serve as run_service
from odin_ws.settings import Settings

__all__ = ["run_server"]

log = structlog.get_logger("odin_ws.cli")


def run_server(options: Mapping[str, str], worker: Sequence[str]) -> NoReturn:
    """Serve until a signal; exits with a status of docs/operations.md.

    Args:
        options: settings by name from the command line.
        worker: the command line of a worker process.
    """
    warnings: list[str] = []
    settings = read_settings(warnings.append, options)
    catalogue = read_catalogue(settings)
    check_jwt_verifier(settings, catalogue)
    read_kafka_security(settings)  # so that an invalid certificate stops the start
    if settings.ws_max_connections < settings.ws_workers:
        exit_with_usage_error(
            f"WS_MAX_CONNECTIONS={settings.ws_max_connections}: WS_WORKERS={settings.ws_workers} "
            "share them, and each needs at least one"
        )
    with log_queue() as handler:
        configure_logging(settings.log_level, settings.log_format, handler)
        for line in warnings:
            log.warning("setting warning", reason=line)
        settings = _within_descriptors(settings)
        try:
            # Workers read the certificate too; here an invalid one is reported once.
            read_certificate(settings)
        except CertificateError as error:
            exit_with_usage_error(str(error))
        if settings.ws_auth == "none":
            log.warning("authentication disabled", setting="WS_AUTH=none")
        log.info("starting", version=__version__, brokers=settings.kafka_brokers)
        tune_garbage_collector()
        serve = partial(_serve_with_workers, worker) if settings.ws_workers > 1 else _serve_here
        sys.exit(run(partial(_until_signalled, serve, settings, catalogue)))


def _within_descriptors(settings: Settings) -> Settings:
    """Return the settings with connection limits that fit the limit of file descriptors."""
    try:
        plan = raise_descriptor_limit(settings)
    except TooFewDescriptors as error:
        exit_with_usage_error(str(error))
    for line in plan.warnings:
        log.warning("setting lowered: too few file descriptors", reason=line)
    log.info(
        "descriptors",
        limit=plan.limit,
        connections=plan.connections,
        pending=plan.settings.ws_max_pending_handshakes,
        reserve=plan.reserve,
    )
    return plan.settings


_Serve = Callable[[Settings, Catalogue, trio.Event], Awaitable[bool]]


async def _until_signalled(serve: _Serve, settings: Settings, catalogue: Catalogue) -> int:
    """Serve; returns the exit status: 0 after a drain, 1 if a second signal interrupted it."""
    stop = trio.Event()
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(drain_on_signals, stop, nursery.cancel_scope)
            if settings.ws_tls_cert is None:
                nursery.start_soon(log_ignored_sighup)
            drained = await serve(settings, catalogue, stop)
            nursery.cancel_scope.cancel()
            return 0 if drained else 1
    except* CannotListen as group:
        raise CommandFailed(str(next(leaves(group)))) from group
    log.warning("stopped at once by second signal")
    return 1


async def _serve_here(settings: Settings, catalogue: Catalogue, stop: trio.Event) -> bool:
    upstream = kafka(settings, catalogue, KafkaSecurity.from_settings(settings))
    await run_service(settings, catalogue, upstream, stop)
    return True


async def _serve_with_workers(
    worker: Sequence[str], settings: Settings, _catalogue: Catalogue, stop: trio.Event
) -> bool:
    # Imported here: only the supervisor of workers needs these modules.
    from odin_ws.workers.service import serve_with_workers  # noqa: PLC0415
    from odin_ws.workers.supervisor import WRONG_SETTINGS, WorkerFailed  # noqa: PLC0415

    try:
        # Workers read the catalogue themselves.
        return await serve_with_workers(settings, worker, stop)
    except* WorkerFailed as group:
        # Several workers may fail for the same reason; each has logged it.
        failed = next(leaves(group))
        failure = InvalidConfiguration if failed.status == WRONG_SETTINGS else CommandFailed
        raise failure(str(failed)) from group
