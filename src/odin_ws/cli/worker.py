"""`odin-ws worker`: one worker process; the supervisor starts it."""

from __future__ import annotations

import gc
import signal

import click

from odin_ws.cli.imports import load_structlog

__all__ = ["worker"]


@click.command()
@click.option("--number", type=int, required=True)
@click.option("--ops-fd", type=int, required=True)
def worker(number: int, ops_fd: int) -> None:
    """Serve on a port that others share, as worker NUMBER of WS_WORKERS, until told to end."""
    # Until it serves SIGINT ends it as SIGTERM does, and the supervisor sees by which.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Modules that are loaded now stay loaded: garbage collection would take a sixth of the start.
    gc.disable()
    load_structlog()
    from odin_ws.cli.worker_process import run_worker  # noqa: PLC0415 -- it takes half a second

    run_worker(number, ops_fd)


if __name__ == "__main__":
    worker()
