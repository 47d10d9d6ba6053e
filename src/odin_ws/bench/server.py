"""The measured server: a running one, or `odin-ws serve` as a child process."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import attrs
import psutil
import trio

from odin_ws.bench.errors import BenchFailed
from odin_ws.testing.ports import LOOPBACK, free_ports
from odin_ws.testing.processes import ChildProcess

__all__ = ["Cores", "Target", "Usage", "busy_seconds", "open_server", "pinned", "until_ready"]

_POLL_SECONDS = 0.05

# Timeout of a request to the ops port, also if other processes use the server's core.
_RESPONSE_SECONDS = 30


@attrs.frozen
class Cores:
    """Cores for the server and for all other processes; an empty list means any core."""

    server: Sequence[int] = ()
    others: Sequence[int] = ()

    @classmethod
    def split(cls) -> Cores:
        """Return the first core for the server, if the machine has two cores and `taskset`."""
        first, *others = sorted(os.sched_getaffinity(0))
        if not others or shutil.which("taskset") is None:
            return cls()
        return cls([first], others)

    @classmethod
    def beside(cls, pids: Sequence[int]) -> Cores:
        """Return the cores that these processes do not run on; any if they may run on all.

        Raises:
            BenchFailed: a process has exited.
        """
        try:
            taken = {core for pid in pids for core in psutil.Process(pid).cpu_affinity()}
        except psutil.NoSuchProcess as error:
            raise BenchFailed(f"there is no process {error.pid}") from error
        return cls((), sorted(os.sched_getaffinity(0) - taken))


def pinned(cores: Sequence[int]) -> list[str]:
    """Return the prefix of a command that pins the program to these cores."""
    return ["taskset", "-c", ",".join(map(str, cores))] if cores else []


@attrs.frozen
class Usage:
    """CPU seconds and resident bytes of some processes together."""

    cpu: float
    rss: int


@attrs.frozen
class Target:
    """A server's WebSocket endpoint."""

    host: str
    port: int
    path: str
    pids: tuple[int, ...]
    """The server's processes; their children count too."""
    ops: str | None = None
    """The URL of the ops pages; None if unknown."""

    async def metric(self, *names: str) -> list[float] | None:
        """Return the values of metrics without labels; None if they cannot be read."""
        if self.ops is None:
            return None
        url = f"{self.ops}/metrics"
        text = await trio.to_thread.run_sync(_read, url, abandon_on_cancel=True)
        found = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[:1] != "#")
        return [float(found[name]) for name in names]

    def usage(self) -> Usage:
        """Return the usage of the server's processes.

        Raises:
            BenchFailed: a process has exited.
        """
        cpu, rss = 0.0, 0
        try:
            for pid in self.pids:
                process = psutil.Process(pid)
                for member in (process, *process.children(recursive=True)):
                    times = member.cpu_times()
                    cpu += times.user + times.system
                    rss += member.memory_info().rss
        except psutil.NoSuchProcess as error:
            raise BenchFailed(f"the server's process {error.pid} has exited") from error
        return Usage(cpu, rss)


def _read(url: str) -> str:
    with urlopen(url, timeout=_RESPONSE_SECONDS) as response:  # noqa: S310 -- http, on loopback
        return str(response.read(), "utf-8")


def busy_seconds(cores: Sequence[int]) -> float:
    """Return the busy time of these cores since the boot, added up."""
    times = psutil.cpu_times(percpu=True)
    return sum(sum(times[core]) - times[core].idle - times[core].iowait for core in cores)


async def until_ready(
    process: ChildProcess, ready: Callable[[], Awaitable[bool]], seconds: float
) -> None:
    """Wait until a child process is ready.

    Raises:
        BenchFailed: the process exited or was not ready in time; the message has the end of its
            log.
    """
    with trio.move_on_after(seconds):
        while True:
            if not process.running:
                raise BenchFailed(f"the server has exited; the end of its log:\n{process.tail()}")
            if await ready():
                return
            await trio.sleep(_POLL_SECONDS)
    raise BenchFailed(
        f"the server is not ready after {seconds:g} s; the end of its log:\n{process.tail()}"
    )


# Timeout of the start, which takes 2 s on an idle machine.
_READY_SECONDS = 30
_RESPONSE_SECONDS = 2
_STOP_SECONDS = 20

_COMMAND = (sys.executable, "-m", "odin_ws", "serve")

# Prefixes of settings. The server does not inherit this process's settings.
_OURS = ("KAFKA_", "WS_", "LOG_")


@asynccontextmanager
async def open_server(
    directory: Path, settings: Mapping[str, str], cores: Cores
) -> AsyncIterator[Target]:
    """Run a server on free ports, with only these settings.

    Raises:
        BenchFailed: the server exited or was not ready in time; the message has the end of its log.
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
            with urlopen(url, timeout=_RESPONSE_SECONDS) as response:
                return bool(response.status == HTTPStatus.OK)
        except (HTTPError, URLError, OSError):
            return False

    return await trio.to_thread.run_sync(request)
