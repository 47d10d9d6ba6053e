"""The measured server: its address and its processes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable, Sequence
from urllib.request import urlopen

import attrs
import psutil
import trio

from odin_ws.bench.errors import BenchFailed
from odin_ws.testing.processes import ChildProcess

__all__ = ["Cores", "Target", "Usage", "busy_seconds", "pinned", "until_ready"]

_POLL_SECONDS = 0.05

# A server whose core is used by others still responds in this time.
_ANSWER_SECONDS = 30


@attrs.frozen
class Cores:
    """Cores for the server and for everything else; empty: any."""

    server: Sequence[int] = ()
    others: Sequence[int] = ()

    @classmethod
    def split(cls) -> Cores:
        """Reserve the first core for the server, if there are two and `taskset`."""
        first, *others = sorted(os.sched_getaffinity(0))
        if not others or shutil.which("taskset") is None:
            return cls()
        return cls([first], others)

    @classmethod
    def beside(cls, pids: Sequence[int]) -> Cores:
        """Return the cores that these processes do not run on; any if they may run on all.

        Raises BenchFailed if one has exited.
        """
        try:
            taken = {core for pid in pids for core in psutil.Process(pid).cpu_affinity()}
        except psutil.NoSuchProcess as error:
            raise BenchFailed(f"there is no process {error.pid}") from error
        return cls((), sorted(os.sched_getaffinity(0) - taken))


def pinned(cores: Sequence[int]) -> list[str]:
    """Return the words before a command that pin it to these cores."""
    return ["taskset", "-c", ",".join(map(str, cores))] if cores else []


@attrs.frozen
class Usage:
    """CPU seconds and resident bytes of some processes together."""

    cpu: float
    rss: int


@attrs.frozen
class Target:
    """A server's WebSocket endpoint. `pids`: its processes, whose children count too.

    `ops`: the URL of its ops pages, if known.
    """

    host: str
    port: int
    path: str
    pids: tuple[int, ...]
    ops: str | None = None

    async def metric(self, *names: str) -> list[float] | None:
        """Return the values of metrics without labels; None if they cannot be read."""
        if self.ops is None:
            return None
        url = f"{self.ops}/metrics"
        text = await trio.to_thread.run_sync(_read, url, abandon_on_cancel=True)
        found = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[:1] != "#")
        return [float(found[name]) for name in names]

    def usage(self) -> Usage:
        """Return the usage of its processes. Raises BenchFailed if one has exited."""
        cpu, rss = 0.0, 0
        try:
            for pid in self.pids:
                process = psutil.Process(pid)
                for one in (process, *process.children(recursive=True)):
                    times = one.cpu_times()
                    cpu += times.user + times.system
                    rss += one.memory_info().rss
        except psutil.NoSuchProcess as error:
            raise BenchFailed(f"the server's process {error.pid} has exited") from error
        return Usage(cpu, rss)


def _read(url: str) -> str:
    with urlopen(url, timeout=_ANSWER_SECONDS) as answer:  # noqa: S310 -- http, on loopback
        return str(answer.read(), "utf-8")


def busy_seconds(cores: Sequence[int]) -> float:
    """Return the busy time of these cores since the boot, added up."""
    times = psutil.cpu_times(percpu=True)
    return sum(sum(times[core]) - times[core].idle - times[core].iowait for core in cores)


async def until_ready(
    process: ChildProcess, ready: Callable[[], Awaitable[bool]], seconds: float
) -> None:
    """Wait until a child process is ready.

    Raises:
        BenchFailed: it exited or was not ready in time; with the end of its log.
    """
    with trio.move_on_after(seconds):
        while True:
            if not process.running:
                raise BenchFailed(f"it has exited; the end of its log:\n{process.tail()}")
            if await ready():
                return
            await trio.sleep(_POLL_SECONDS)
    raise BenchFailed(f"not ready after {seconds:g} s; the end of its log:\n{process.tail()}")
