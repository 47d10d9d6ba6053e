"""`odin-ws serve`: the server."""

from __future__ import annotations

import gc
import resource
import sys
from functools import partial
from typing import Final

import click
import structlog
import trio

from odin_ws import __version__
from odin_ws.catalogue import Catalogue
from odin_ws.cli.environment import read_catalogue, read_settings, stop_with
from odin_ws.cli.running import CommandFailed, leaves, obey_signals, run
from odin_ws.connection.listener import CannotListen
from odin_ws.connection.tls import CertificateError
from odin_ws.logs import configure_logging
from odin_ws.service import kafka
from odin_ws.service import serve as run_service
from odin_ws.settings import Settings

__all__ = ["serve"]

log = structlog.get_logger("odin_ws.cli")

# Descriptors besides those of subscribers and callers: Kafka's, the ops port's, and files.
_OTHER_DESCRIPTORS: Final = 256


@click.command(short_help="Run the server.")
def serve() -> None:
    """Serve subscribers until SIGTERM or SIGINT; a second signal stops at once.

    Settings are environment variables: see `odin-ws config`.
    """
    warnings: list[str] = []
    settings = read_settings(warnings.append)
    catalogue = read_catalogue(settings)
    configure_logging(settings.log_level, settings.log_format)
    for line in warnings:
        log.warning(line)
    _raise_descriptor_limit(settings)
    log.info("starting", version=__version__, brokers=settings.kafka_brokers)
    _calm_garbage_collector()
    sys.exit(run(partial(_serve_until_signalled, settings, catalogue)))


async def _serve_until_signalled(settings: Settings, catalogue: Catalogue) -> int:
    """Run the service; returns the exit status: 0 after a drain, 1 where a signal cut it short."""
    stop = trio.Event()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(obey_signals, stop, nursery.cancel_scope)
            await run_service(settings, catalogue, kafka(settings, catalogue), stop)
            nursery.cancel_scope.cancel()
            return 0
    except* (CannotListen, CertificateError) as group:
        raise CommandFailed(str(next(leaves(group)))) from group
    log.warning("stopped at once by a second signal")
    return 1


def _raise_descriptor_limit(settings: Settings) -> None:
    """Every connection is a descriptor; better to say so now than to fail at the 1,000th."""
    connections, pending = settings.ws_max_connections, settings.ws_max_pending
    needed = connections + pending + _OTHER_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        stop_with(
            f"WS_MAX_CONNECTIONS={connections} and WS_MAX_PENDING={pending} need {needed} "
            f"descriptors and the limit is {hard}: "
            "raise it (ulimit -n, LimitNOFILE=) or lower the settings"
        )
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _calm_garbage_collector() -> None:
    """What is loaded now stays; and look for cycles less often than every 700 allocations.

    A full collection walks every connection's objects and holds up the loop meanwhile.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
