"""`python -m odin_ws.cli.worker`: one worker process; the supervisor starts it."""

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
    """Run worker NUMBER of WS_WORKERS on the shared port until the supervisor stops it."""
    # Default action until the worker serves: the supervisor sees the signal in the exit status.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Imported modules are never freed: garbage collection would take a sixth of the start-up time.
    gc.disable()
    load_structlog()
    from odin_ws.cli.worker_process import run_worker  # noqa: PLC0415 -- takes half a second

    run_worker(number, ops_fd)


if __name__ == "__main__":
    worker()
