"""The measured server: a running one, or `odin-ws serve` as a child process."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import trio

from odin_ws.bench.errors import BenchFailed
from odin_ws.bench.target import Cores, Target, pinned, until_ready
from odin_ws.testing.ports import LOOPBACK, free_ports
from odin_ws.testing.processes import ChildProcess

__all__ = ["open_server"]

# Two seconds on an idle machine; the rest is for a busy one.
_READY_SECONDS = 30
_ANSWER_SECONDS = 2
_STOP_SECONDS = 20

_COMMAND = (sys.executable, "-m", "odin_ws", "serve")

# Prefixes of settings: those of this process's environment do not apply to the server.
_OURS = ("KAFKA_", "WS_", "LOG_")


@asynccontextmanager
async def open_server(
    directory: Path, settings: Mapping[str, str], cores: Cores
) -> AsyncIterator[Target]:
    """Run a server on free ports, with only these settings.

    Raises:
        BenchFailed: it exited or was not ready in time; with the end of its log.
    """
    port, ops_port = free_ports(2)
    others = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    environ = {
        **others,
        "WS_ADDR": f"{LOOPBACK}:{port}",
        "WS_OPS_ADDR": f"{LOOPBACK}:{ops_port}",
        "WS_DRAIN_DELAY_SECONDS": "0",
        **settings,
    }
    process = ChildProcess(
        [*pinned(cores.server), *_COMMAND], directory / f"server-{port}.log", environ
    )
    await process.start()
    try:
        try:
            await until_ready(process, partial(_ready, ops_port), _READY_SECONDS)
        except BenchFailed as error:
            raise BenchFailed(f"the server: {error}") from error
        yield Target(LOOPBACK, port, "/ws", (process.pid,), f"http://{LOOPBACK}:{ops_port}")
    finally:
        with trio.CancelScope(shield=True):
            await process.end(_STOP_SECONDS)


async def _ready(port: int) -> bool:
    url = f"http://{LOOPBACK}:{port}/health/ready"

    def request() -> bool:
        try:
            with urlopen(url, timeout=_ANSWER_SECONDS) as answer:
                return bool(answer.status == HTTPStatus.OK)
        except (HTTPError, URLError, OSError):
            return False

    return await trio.to_thread.run_sync(request)
