"""`odin-ws serve`: the server."""

from __future__ import annotations

import signal
import sys
from typing import Final

import click

from odin_ws.cli.examples import examples
from odin_ws.cli.imports import load_structlog

__all__ = ["serve"]

# The same interpreter and package, whatever the PATH is.
_WORKER: Final = (sys.executable, "-m", "odin_ws.cli.worker")


@click.command(
    short_help="Run the server.",
    epilog=examples(
        ("One process", "KAFKA_BROKERS=localhost:9092 odin-ws serve"),
        ("Four processes on one port", "KAFKA_BROKERS=kafka:9092 odin-ws serve --workers 4"),
        ("Another port, debug logs", "WS_ADDR=:8080 LOG_LEVEL=debug odin-ws serve"),
    ),
)
@click.option(
    "--workers",
    metavar="N",
    help="Processes that share the port, one core each; overrides WS_WORKERS.",
)
def serve(workers: str | None) -> None:
    """Serve subscribers until SIGTERM or SIGINT; a second signal stops at once.

    Settings are environment variables: see `odin-ws config`. Exit status 0 after a drain, 1 after a
    failure or a second signal, 2 if a setting is invalid.
    """
    # Ignored until a TLS certificate is loaded: the default action would end the process.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    load_structlog()
    # Imported after the signal handlers: these imports take half a second.
    from odin_ws.cli.serve_process import run_server  # noqa: PLC0415

    run_server({} if workers is None else {"WS_WORKERS": workers}, _WORKER)
