"""`odin-ws serve`: the server."""

from __future__ import annotations

import signal
import sys
from typing import Final

import click

from odin_ws.cli.imports import load_structlog

__all__ = ["serve"]

# The same Python and the same odin_ws, whatever the PATH says.
_WORKER: Final = (sys.executable, "-m", "odin_ws.cli.worker")


@click.command(short_help="Run the server.")
@click.option(
    "--workers",
    metavar="N",
    help="How many processes share the port, one core each; instead of WS_WORKERS.",
)
def serve(workers: str | None) -> None:
    """Serve subscribers until SIGTERM or SIGINT; a second signal stops at once.

    Settings are environment variables: see `odin-ws config`.
    """
    # SIGHUP asks for nothing before there is a certificate, and ends nothing.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    load_structlog()
    # What follows takes half a second to load; a signal that comes meanwhile is obeyed.
    from odin_ws.cli.serve_process import run_server  # noqa: PLC0415

    run_server({} if workers is None else {"WS_WORKERS": workers}, _WORKER)
