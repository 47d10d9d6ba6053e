"""The files of a control group, as a kernel writes them."""

from __future__ import annotations

from pathlib import Path

__all__ = ["MIB", "make_group", "use_cpu"]


MIB = 1 << 20


def make_group(  # noqa: PLR0913 -- so many files make a group
    folder: Path,
    *,
    cpu_max: str | None = None,
    memory_max: str | None = None,
    used_seconds: float = 0.0,
    memory: int = 100 * MIB,
    inactive: int | None = 0,
) -> Path:
    """A control group as the kernel shows it; a limit of None has no file, as in the root group."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cgroup.controllers").write_text("cpu memory\n")
    use_cpu(folder, used_seconds)
    (folder / "memory.current").write_text(f"{memory}\n")
    cache = "" if inactive is None else f"inactive_file {inactive}\n"
    (folder / "memory.stat").write_text(f"anon 5\nactive_file 7\n{cache}slab 3\n")
    for name, limit in (("cpu.max", cpu_max), ("memory.max", memory_max)):
        if limit is not None:
            (folder / name).write_text(f"{limit}\n")
    return folder


def use_cpu(folder: Path, seconds: float) -> None:
    """Set how much CPU a group has used."""
    usage = round(seconds * 1e6)
    (folder / "cpu.stat").write_text(f"usage_usec {usage}\nuser_usec 1\nsystem_usec 1\n")
