"""A fake container: the files of a Linux control group, with usage that a test sets."""

from __future__ import annotations

from pathlib import Path

__all__ = ["Container"]


class Container:
    """A control group with limits of 2 cores and 1,000,000 bytes; nothing is used yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._write("cgroup.controllers", "cpu memory")
        self._write("cpu.max", "200000 100000")
        self._write("memory.max", "1000000")
        self.use(memory=0, cpu_seconds=0)

    def use(self, *, memory: int, cpu_seconds: float) -> None:
        """Set the bytes in use and the CPU time used since the start."""
        # The kernel can reclaim the cache, so the server must not count it.
        self._write("memory.current", str(memory + 500_000))
        self._write("memory.stat", "anon 1\ninactive_file 500000")
        self._write("cpu.stat", f"usage_usec {round(cpu_seconds * 1e6)}\nuser_usec 0")

    def _write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text + "\n")
