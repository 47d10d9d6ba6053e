"""CPU and memory are the container's where it has limits, and this process's where it has none."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from odin_ws.resources.container import Resources, own_cgroup
from tests.resources.control_groups import MIB, make_group

# ---- limits


@pytest.mark.parametrize("limited", [True, False])
def test_workers_have_equal_parts_that_add_up(tmp_path: Path, *, limited: bool) -> None:
    """Of the container's limits and use where it has limits, else of the machine's and its own."""
    group = None
    if limited:
        group = make_group(tmp_path, cpu_max="400000 100000", memory_max=str(800 * MIB))
    alone, shared = Resources(0, 0, group), Resources(0, 0, group, workers=4)
    assert shared.cpu_limit * 4 == alone.cpu_limit
    assert shared.memory_limit == alone.memory_limit // 4
    given = Resources(2, 400 * MIB, group, workers=4)
    assert (given.cpu_limit, given.memory_limit) == (0.5, 100 * MIB)
    assert shared.memory_bytes is not None
    if limited:
        assert shared.memory_bytes * 4 == alone.memory_bytes == 100 * MIB
    else:
        assert shared.memory_bytes == pytest.approx(alone.memory_bytes, rel=0.1)


@pytest.mark.parametrize(
    ("cpu_max", "cores"), [("50000 100000", 0.5), ("200000 100000", 2.0), ("25000 50000", 0.5)]
)
def test_failing_25_the_cpu_limit_is_the_containers(
    tmp_path: Path, cpu_max: str, cores: float
) -> None:
    """A quota per period is so many cores, whatever the host has."""
    group = make_group(tmp_path, cpu_max=cpu_max)
    assert Resources(0, 0, group).cpu_limit == cores


def test_failing_25_the_memory_limit_is_the_containers(tmp_path: Path) -> None:
    """Not the host's memory; and not all of it, where the kernel would have killed us already."""
    group = make_group(tmp_path, memory_max=str(500 * MIB))
    assert Resources(0, 0, group).memory_limit == 450 * MIB


def test_a_parents_tighter_limit_holds(tmp_path: Path) -> None:
    """A container's group may have no limit itself, or a wider one than the pod around it."""
    pod = make_group(tmp_path / "pod", cpu_max="150000 100000", memory_max=str(300 * MIB))
    slices = make_group(pod / "slice", cpu_max="max 100000", memory_max="max")
    inner = make_group(slices / "box", cpu_max="400000 100000", memory_max=str(200 * MIB))
    resources = Resources(0, 0, inner)
    assert resources.cpu_limit == 1.5
    assert resources.memory_limit == 180 * MIB
    assert Resources(0, 0, slices).memory_limit == 270 * MIB


@pytest.mark.parametrize("limit", [None, "max"])
def test_without_limits_the_machines_hold(tmp_path: Path, limit: str | None) -> None:
    """A group without limits, and the root group, which has no such files."""
    cpu = None if limit is None else f"{limit} 100000"
    resources = Resources(0, 0, make_group(tmp_path, cpu_max=cpu, memory_max=limit))
    assert resources.cpu_limit == os.cpu_count()
    assert resources.memory_limit == int(0.9 * psutil.virtual_memory().total)


def test_without_a_group_the_machines_limits_hold() -> None:
    """Outside of containers, on macOS too."""
    resources = Resources(0, 0, None)
    assert resources.cpu_limit == os.cpu_count()
    assert resources.memory_limit == int(0.9 * psutil.virtual_memory().total)


def test_failing_26_limits_that_are_set_win(tmp_path: Path) -> None:
    """WS_CPU_LIMIT and WS_MEMORY_LIMIT are what they say, in a container or not."""
    group = make_group(tmp_path, cpu_max="200000 100000", memory_max=str(512 * MIB))
    for where in (group, None):
        resources = Resources(0.25, 64 * MIB, where)
        assert resources.cpu_limit == 0.25
        assert resources.memory_limit == 64 * MIB


# ---- our group


@pytest.mark.parametrize(
    ("proc", "folder"),
    [
        ("0::/\n", ""),
        ("0::/system.slice/odin.service\n", "system.slice/odin.service"),
        ("12:cpu:/old\n1:name=systemd:/old\n0::/new\n", "new"),
    ],
)
def test_our_group_is_found(tmp_path: Path, proc: str, folder: str) -> None:
    """In a container's own namespace and on a host, beside version 1 groups too."""
    (tmp_path / "proc").write_text(proc)
    group = make_group(tmp_path / "root" / folder)
    assert own_cgroup(tmp_path / "root", tmp_path / "proc") == group


@pytest.mark.parametrize("proc", [None, "", "3:cpu:/old\n", "0::/gone\n"])
def test_there_may_be_no_group(tmp_path: Path, proc: str | None) -> None:
    """Other systems, version 1, or a group that is not mounted here."""
    if proc is not None:
        (tmp_path / "proc").write_text(proc)
    make_group(tmp_path / "root")
    assert own_cgroup(tmp_path / "root", tmp_path / "proc") is None
