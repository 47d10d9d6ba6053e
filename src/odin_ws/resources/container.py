"""CPU and memory use of the container (cgroup v2) or process, against their limits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

import attrs
import psutil
import structlog
import trio

from odin_ws.handshake.memory_budget import MemoryBudget
from odin_ws.resources.allocator import ReusableMemory
from odin_ws.resources.overload_detector import LoopDelay, OverloadDetector

__all__ = ["Resources", "own_cgroup"]

log = structlog.get_logger("odin_ws.ops")

T = TypeVar("T")

Reader = Callable[[Path], float | None]

# Interval of CPU and memory measurements. The original's 15 s admitted 1,500 connections too many.
_SAMPLE_SECONDS: Final = 1.0

# Minimum duration of a CPU overload: 12,000 clients that reconnect together use all CPU for half of
# this time, while others are served (listener/read_scheduler.py).
_SATURATED_SECONDS: Final = 30

# The part of a detected limit that counts: at all of it the kernel would have killed the process.
_OF_MEMORY: Final = 0.9

# A process runs Python on one core only.
_ONE_CORE: Final = 1.0

# The part of usable CPU. An event loop that never waits is at 99%; at 90% it sometimes waits.
_SATURATED: Final = 0.98
_UNSATURATED: Final = 0.9


@attrs.frozen
class _CpuSample:
    """CPU seconds of the container and of this process, at a time of Trio's clock."""

    used: float
    own: float
    at: float


class Resources:
    """Measured use and limits.

    A figure that cannot be measured is None: out of descriptors, or the control group has gone.
    An unknown figure rejects no client. `cpu_percent`: 100 when this process uses one core or its
    limit, whichever is less, or when the container uses its limit.

    Args:
        cpu_limit: cores; 0 for the container's limit, or the machine's without one.
        memory_limit: bytes; 0 for nine tenths of the container's limit, or of the machine's.
        cgroup: the directory of our control group; None without one.
        workers: the number of processes that share the limits. Figures are this process's equal
            part, also of the container's use, so that the parts add up.
        max_loop_delay: seconds; 0 for no limit.
        budget: gets each measurement of memory.
    """

    def __init__(  # noqa: PLR0913 -- limits, and a receiver of the figures
        self,
        cpu_limit: float,
        memory_limit: int,
        cgroup: Path | None,
        workers: int = 1,
        *,
        max_loop_delay: float = 0.0,
        budget: MemoryBudget | None = None,
    ) -> None:
        self._workers = workers
        self._process = psutil.Process()
        self._cgroup = cgroup
        quota = _smallest(cgroup, "cpu.max", _read_quota)
        ceiling = _smallest(cgroup, "memory.max", _read_number)
        self._limited_cpu = quota is not None
        self._limited_memory = ceiling is not None
        all_cores = cpu_limit or quota or float(os.cpu_count() or 1)
        self.cpu_limit = all_cores / workers
        # In a limited container the common use is measured, and one worker may use more than its
        # part while others are idle; elsewhere only the own use is known.
        self._own_limit = min(all_cores if self._limited_cpu else self.cpu_limit, _ONE_CORE)
        self.memory_limit = (
            memory_limit or int(_OF_MEMORY * (ceiling or psutil.virtual_memory().total))
        ) // workers
        self.budget = budget or MemoryBudget()
        self.cpu_percent: float | None = 0.0
        self.memory_bytes: int | None = None
        self._reusable = ReusableMemory()
        # Why a figure is unknown, by its name; logged once.
        self._unknown: dict[str, str] = {}
        self._measure_memory()
        self.loop = LoopDelay(max_loop_delay)
        self._cpu = OverloadDetector(_SATURATED_SECONDS, high=_SATURATED, low=_UNSATURATED)

    def overload(self) -> str | None:
        """Return the exceeded limit: "memory", "cpu", "loop_delay" or None."""
        in_use = self.memory_in_use
        if self.budget.remaining <= 0 or (in_use is not None and in_use >= self.memory_limit):
            return "memory"
        if self._cpu.passed:
            return "cpu"
        return "loop_delay" if self.loop.passed else None

    async def run(self) -> None:
        """Sample until cancelled."""
        before = self._sample("cpu", self._cpu_sample)
        while True:
            await trio.sleep(_SAMPLE_SECONDS)
            now = self._sample("cpu", self._cpu_sample)
            self._measure_cpu(before, now)
            before = now
            self._measure_memory()

    @property
    def memory_reusable(self) -> int:
        """Return the bytes of `memory_bytes` that are free within this process and reused first."""
        # Less than half of it: the estimate is not reliable for a limit below the process's size.
        return min(self._reusable.bytes, (self.memory_bytes or 0) * 3 // 4)

    @property
    def memory_in_use(self) -> int | None:
        """Return what counts against the limit; None if unknown."""
        return None if self.memory_bytes is None else self.memory_bytes - self.memory_reusable

    def _measure_cpu(self, before: _CpuSample | None, now: _CpuSample | None) -> None:
        if before is None or now is None:
            self.cpu_percent = None
            # An earlier overload is no longer known.
            self._cpu.forget()
            return
        seconds = now.at - before.at
        share = max(
            (now.used - before.used) / seconds / self.cpu_limit,
            (now.own - before.own) / seconds / self._own_limit,
        )
        self.cpu_percent = 100 * share
        self._cpu.observe(share)

    def _measure_memory(self) -> None:
        self._reusable.trim()
        self.memory_bytes = self._sample("memory", self._memory_used)
        resident = self._sample("resident memory", self._resident)
        if resident is not None:
            self._reusable.observe(resident)
        self.budget.measured(self.memory_in_use, self.memory_limit)

    def _sample(self, name: str, read: Callable[[], T]) -> T | None:
        """Read a figure, None on failure; logs each change of the reason once."""
        try:
            value = read()
        except (OSError, ValueError, LookupError, psutil.Error) as error:
            reason = str(error) or type(error).__name__
            if self._unknown.get(name) != reason:
                self._unknown[name] = reason
                log.warning("resource not measurable", resource=name, reason=reason)
            return None
        if self._unknown.pop(name, None) is not None:
            log.info("resource measured again", resource=name)
        return value

    def _cpu_sample(self) -> _CpuSample:
        return _CpuSample(self._cpu_used(), self._own_cpu(), trio.current_time())

    def _own_cpu(self) -> float:
        times = self._process.cpu_times()
        return times.user + times.system

    def _cpu_used(self) -> float:
        """Return the CPU seconds used since some point in the past."""
        if self._cgroup is not None and self._limited_cpu:
            return _read_table(self._cgroup / "cpu.stat")["usage_usec"] / 1e6 / self._workers
        return self._own_cpu()

    def _memory_used(self) -> int:
        """Return the container's working set, as Kubernetes counts it, or our resident memory."""
        if self._cgroup is not None and self._limited_memory:
            current = int((self._cgroup / "memory.current").read_text())
            inactive = _read_table(self._cgroup / "memory.stat").get("inactive_file", 0)
            return (current - inactive) // self._workers
        return self._resident()

    def _resident(self) -> int:
        return int(self._process.memory_info().rss)


def own_cgroup(
    root: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc/self/cgroup")
) -> Path | None:
    """Return the directory of this process's control group (v2); None without one."""
    if not proc.exists():
        return None
    for line in proc.read_text().splitlines():
        if line.startswith("0::/"):
            folder = root / line.removeprefix("0::/")
            return folder if (folder / "cpu.stat").exists() else None
    return None


def _smallest(cgroup: Path | None, name: str, read: Reader) -> float | None:
    """Return the tightest limit of a control group and its parents."""
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
