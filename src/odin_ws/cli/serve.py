"""`odin-ws serve`: the server."""

from __future__ import annotations

import os
import signal
import sys
from typing import Final

import click

from odin_ws.cli.examples import examples
from odin_ws.cli.imports import load_structlog
from odin_ws.cli.setting_options import catalogue_option, overrides

__all__ = ["serve"]

# The same interpreter and package for workers, independent of the PATH.
_WORKER: Final = (sys.executable, "-m", "odin_ws.cli.worker")


@click.command(
    short_help="Run the server.",
    epilog=examples(
        ("One process", "KAFKA_BROKERS=localhost:9092 odin-ws serve"),
        ("Four processes on one port", "KAFKA_BROKERS=kafka:9092 odin-ws serve --workers 4"),
        ("A first try", "odin-ws serve --brokers localhost:9092 --port 8080"),
        ("Debug logs", "LOG_LEVEL=debug odin-ws serve"),
    ),
)
@click.option(
    "--workers",
    metavar="N",
    help="Processes that share the port, one core each; overrides WS_WORKERS.",
)
@click.option(
    "--brokers",
    metavar="HOST:PORT,…",
    help="Bootstrap brokers of Kafka; overrides KAFKA_BROKERS.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port for subscribers, 0 for any free port; overrides that of WS_ADDR.",
)
@catalogue_option
def serve(
    workers: str | None, brokers: str | None, port: int | None, catalogue_file: str | None
) -> None:
    """Serve subscribers until SIGTERM or SIGINT; a second signal stops at once.

    Settings are environment variables: see `odin-ws config`. The options are for trials. Exit
    status 0 after a drain, 1 after a failure or a second signal, 2 if a setting is invalid.
    """
    # Ignored until a TLS certificate is loaded: the default action would end the process.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    load_structlog()
    # Imported after the signal handlers: these imports take half a second.
    from odin_ws.cli.serve_process import run_server  # noqa: PLC0415

    host = os.environ.get("WS_ADDR", "").rpartition(":")[0]
    options = overrides(
        WS_WORKERS=workers,
        KAFKA_BROKERS=brokers,
        WS_ADDR=None if port is None else f"{host}:{port}",
        WS_CATALOGUE=catalogue_file,
    )
    # Worker processes read the environment too.
    os.environ.update(options)
    run_server(options, _WORKER)
