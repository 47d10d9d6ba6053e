"""CPU and memory of this container (cgroup v2), or of this process where nothing limits it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import psutil
import trio

from odin_ws.ops.standing import LoopDelay, Standing

__all__ = ["Resources", "own_cgroup"]

Reader = Callable[[Path], float | None]

# How often CPU and memory are looked at. The original's 15 s let 1,500 connections too many in.
_SAMPLE_SECONDS: Final = 1.0

# Without a pause for so many seconds: 12,000 clients that come back together keep it busy for half
# of that, and those who are there are served meanwhile (connection/turns.py).
_SATURATED_SECONDS: Final = 30

# Of a limit that is found and not set: at all of it the kernel has killed us already.
_OF_MEMORY: Final = 0.9

# Of what can be used. A loop that never waits is at 99%; at nine tenths it waits now and then.
_SATURATED: Final = 0.98
_UNSATURATED: Final = 0.9


class Resources:
    """What is used and what is allowed.

    `cpu_limit` (cores) and `memory_limit` (bytes): 0 means the container's limit, else the
    machine's; of memory nine tenths of it.
    `cgroup`: the folder of our control group, None where there is none.
    `workers`: how many processes share all that. What is told is then this one's equal part, of
    what the container uses too: so the parts add up. `max_loop_delay` in seconds; 0 is no limit.
    """

    def __init__(
        self,
        cpu_limit: float,
        memory_limit: int,
        cgroup: Path | None,
        workers: int = 1,
        *,
        max_loop_delay: float = 0.0,
    ) -> None:
        self._workers = workers
        self._process = psutil.Process()
        self._cgroup = cgroup
        quota = _smallest(cgroup, "cpu.max", _read_quota)
        ceiling = _smallest(cgroup, "memory.max", _read_number)
        self._limited_cpu = quota is not None
        self._limited_memory = ceiling is not None
        self.cpu_limit = (cpu_limit or quota or float(os.cpu_count() or 1)) / workers
        self.memory_limit = (
            memory_limit or int(_OF_MEMORY * (ceiling or psutil.virtual_memory().total))
        ) // workers
        self.cpu_percent = 0.0
        self.memory_bytes = self._memory_used()
        self.loop = LoopDelay(max_loop_delay)
        self._cpu = Standing(_SATURATED_SECONDS, high=_SATURATED, low=_UNSATURATED)

    def overload(self) -> str | None:
        """Which limit is passed: "memory", "cpu", "loop_delay" or None."""
        if self.memory_bytes >= self.memory_limit:
            return "memory"
        if self._cpu.passed:
            return "cpu"
        return "loop_delay" if self.loop.passed else None

    async def run(self) -> None:
        """Sample until cancelled."""
        used, own, at = self._cpu_used(), self._own_cpu(), trio.current_time()
        while True:
            await trio.sleep(_SAMPLE_SECONDS)
            used_now, own_now, now = self._cpu_used(), self._own_cpu(), trio.current_time()
            share = (used_now - used) / (now - at) / self.cpu_limit
            self.cpu_percent = 100 * share
            # One process can use one core. On a machine that others keep busy it gets less than
            # that, and is not full.
            self._cpu.observe(max(share, (own_now - own) / (now - at)))
            self.memory_bytes = self._memory_used()
            used, own, at = used_now, own_now, now

    def _own_cpu(self) -> float:
        times = self._process.cpu_times()
        return times.user + times.system

    def _cpu_used(self) -> float:
        """CPU seconds used since some point in the past."""
        if self._cgroup is not None and self._limited_cpu:
            return _read_table(self._cgroup / "cpu.stat")["usage_usec"] / 1e6 / self._workers
        return self._own_cpu()

    def _memory_used(self) -> int:
        """The container's working set, as Kubernetes counts it, or our resident memory."""
        if self._cgroup is not None and self._limited_memory:
            current = int((self._cgroup / "memory.current").read_text())
            inactive = _read_table(self._cgroup / "memory.stat").get("inactive_file", 0)
            return (current - inactive) // self._workers
        return int(self._process.memory_info().rss)


def own_cgroup(
    root: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc/self/cgroup")
) -> Path | None:
    """The folder of this process's control group (v2); None where there is none."""
    if not proc.exists():
        return None
    for line in proc.read_text().splitlines():
        if line.startswith("0::/"):
            folder = root / line.removeprefix("0::/")
            return folder if (folder / "cpu.stat").exists() else None
    return None


def _smallest(cgroup: Path | None, name: str, read: Reader) -> float | None:
    """The tightest limit of a control group and its parents."""
    limits = [limit for file in _upwards(cgroup, name) if (limit := read(file)) is not None]
    return min(limits, default=None)


def _upwards(cgroup: Path | None, name: str) -> Iterator[Path]:
    while cgroup is not None and (cgroup / "cgroup.controllers").exists():
        if (cgroup / name).exists():
            yield cgroup / name
        cgroup = cgroup.parent


def _read_number(file: Path) -> float | None:
    text = file.read_text().strip()
    return None if text == "max" else float(text)


def _read_quota(file: Path) -> float | None:
    quota, period = file.read_text().split()
    return None if quota == "max" else int(quota) / int(period)


def _read_table(file: Path) -> dict[str, int]:
    return {name: int(value) for name, value in map(str.split, file.read_text().splitlines())}
