"""CPU and memory in use: of the container or of this process, measured every second."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import psutil
import pytest
import structlog
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from odin_ws.resources.allocator import ReusableMemory
from odin_ws.resources.container import Resources
from tests.resources.control_groups import MIB, make_group, use_cpu


def test_failing_25_memory_is_the_containers_working_set(tmp_path: Path) -> None:
    """Cache that the kernel can drop at once does not count, as in Kubernetes."""
    group = make_group(tmp_path, memory_max=str(512 * MIB), memory=300 * MIB, inactive=120 * MIB)
    assert Resources(0, 0, group).memory_bytes == 180 * MIB


def test_a_kernel_that_tells_no_cache_is_believed(tmp_path: Path) -> None:
    """All of it counts then."""
    group = make_group(tmp_path, memory_max=str(512 * MIB), memory=300 * MIB, inactive=None)
    assert Resources(0, 0, group).memory_bytes == 300 * MIB


@pytest.mark.parametrize("limit", [None, "max"])
def test_without_a_limit_memory_is_this_processs(tmp_path: Path, limit: str | None) -> None:
    """In a group shared with everybody, its use would say nothing about us."""
    group = make_group(tmp_path, memory_max=limit, memory=1)
    own = psutil.Process().memory_info().rss
    for where in (group, None):
        found = Resources(0, 0, where).memory_bytes
        assert found is not None
        assert 0.5 * own < found < 2 * own


@pytest.mark.parametrize(
    ("memory", "overload"), [(89, None), (90, "memory"), (101, "memory"), (0, None)]
)
def test_an_overload_is_named_while_it_lasts(
    tmp_path: Path, memory: int, overload: str | None
) -> None:
    """From nine tenths on there is no room for another connection."""
    group = make_group(tmp_path, memory_max="100", memory=memory)
    assert Resources(0, 0, group).overload() == overload


async def test_failing_25_cpu_and_memory_are_sampled_every_second(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """100% is all that the container may use; what changed is seen within a second."""
    group = make_group(
        tmp_path, cpu_max="50000 100000", memory_max=str(100 * MIB), used_seconds=1000
    )
    resources = Resources(0, 0, group)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(resources.run)
        await trio.sleep(0.5)
        assert resources.cpu_percent == 0
        use_cpu(group, 1000.25)
        (group / "memory.current").write_text(f"{90 * MIB}\n")
        await trio.sleep(1)
        assert resources.cpu_percent == pytest.approx(50)
        assert resources.memory_bytes == 90 * MIB
        use_cpu(group, 1000.75)
        (group / "memory.current").write_text(f"{101 * MIB}\n")
        await trio.sleep(1)
        assert resources.cpu_percent == pytest.approx(100)
        assert resources.overload() == "memory"
        await trio.sleep(1)
        # What this process itself has used in the few milliseconds of a virtual second.
        assert resources.cpu_percent == pytest.approx(0, abs=5)
        # A busy loop samples late: what was used is divided by the time it took.
        use_cpu(group, 1001.625)
        autojump_clock.jump(3)
        await wait_all_tasks_blocked()
        assert resources.cpu_percent == pytest.approx(50)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("workers", [1, 3])
async def test_cpu_is_measured_against_the_limit_that_is_set(
    tmp_path: Path,
    autojump_clock: MockClock,  # noqa: ARG001 -- virtual time
    workers: int,
) -> None:
    """WS_CPU_LIMIT says what 100% is; what is used is still the container's, of any worker."""
    group = make_group(tmp_path, cpu_max="200000 100000")
    resources = Resources(4, 0, group, workers)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(resources.run)
        await trio.sleep(0.5)
        use_cpu(group, 1.0)
        await trio.sleep(1)
        assert resources.cpu_percent == pytest.approx(25)
        nursery.cancel_scope.cancel()


async def test_cpu_that_is_used_up_for_half_a_minute_is_an_overload(
    tmp_path: Path,
    autojump_clock: MockClock,  # noqa: ARG001 -- virtual time
) -> None:
    """Not before, for returning clients need it too; and no more once there is a second's pause."""
    group = make_group(tmp_path, cpu_max="50000 100000")
    resources = Resources(0, 0, group)
    used = 0.0
    overloads = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(resources.run)
        await trio.sleep(0.5)
        for share in [*[1.0] * 5, 0.5, *[1.0] * 32, 0.95, 0.95, 0.8, 1.0]:
            used += share / 2
            use_cpu(group, used)
            await trio.sleep(1)
            overloads.append(resources.overload())
        nursery.cancel_scope.cancel()
    assert overloads == [None] * 35 + ["cpu"] * 5 + [None] * 2


@pytest.mark.parametrize(
    "case",
    [
        (0, None, 1),  # the machine's cores, however many
        (4, None, 1),
        (64, None, 1),
        (64, None, 4),
        (0, "200000 100000", 1),  # compose's cpus: 2.0
        (64, "200000 100000", 1),
        (0, "200000 100000", 4),  # one of four workers, while the others are idle
    ],
)
async def test_one_busy_core_of_a_process_is_100_percent(
    tmp_path: Path,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[float, str | None, int],
) -> None:
    """Whatever the limit or the machine has beyond that: one process can do no more."""
    cpu_limit, cpu_max, workers = case
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(Resources, "_own_cpu", lambda _: autojump_clock.current_time() * 0.99 + 1.0)
    group = None if cpu_max is None else make_group(tmp_path, cpu_max=cpu_max)
    resources = Resources(cpu_limit, 0, group, workers)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(resources.run)
        await trio.sleep(29.5)
        assert resources.overload() is None
        await trio.sleep(1)
        assert resources.overload() == "cpu"
        assert resources.cpu_percent == pytest.approx(99)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("cpu_limit", "workers"), [(0.5, 1), (2, 4)])
async def test_half_a_core_is_100_percent_of_a_limit_of_half_a_core(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, cpu_limit: float, workers: int
) -> None:
    """A limit, or a worker's equal part of it, below one core is what 100% is."""
    monkeypatch.setattr(Resources, "_own_cpu", lambda _: autojump_clock.current_time() * 0.5 + 1.0)
    resources = Resources(cpu_limit, 0, None, workers)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(resources.run)
        await trio.sleep(1.5)
        assert resources.cpu_percent == pytest.approx(100)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EMFILE, "Too many open files"),
        OSError(errno.ENFILE, "Too many open files in system"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        psutil.AccessDenied(1),
    ],
)
async def test_unmeasurable_figure_is_unknown_and_rejects_no_connection(
    autojump_clock: MockClock,  # noqa: ARG001 -- virtual time
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    """The sampler goes on; an overload before is none that is known; the log says it once."""
    broken = False

    def used(_: Resources) -> int:
        if broken:
            raise error
        return 100

    monkeypatch.setattr(Resources, "_memory_used", used)
    monkeypatch.setattr(Resources, "_own_cpu", lambda one: float(used(one)) * trio.current_time())
    resources = Resources(0, 100, None)
    with structlog.testing.capture_logs() as lines:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(resources.run)
            await trio.sleep(35.5)
            assert resources.overload() == "memory"
            broken = True
            await trio.sleep(10)
            assert resources.memory_bytes is resources.cpu_percent is None
            assert resources.overload() is None
            broken = False
            await trio.sleep(2)
            assert resources.overload() == "memory"
            assert resources.cpu_percent is not None
            nursery.cancel_scope.cancel()
    reported = [(line["event"], line["resource"]) for line in lines]
    for resource in ("memory", "cpu"):
        assert reported.count(("resource not measurable", resource)) == 1
        assert reported.count(("resource measured again", resource)) == 1


async def test_a_control_group_that_vanishes_is_unknown(
    tmp_path: Path,
    autojump_clock: MockClock,  # noqa: ARG001 -- virtual time
) -> None:
    """Whether its files are gone, or empty as in a group that is being removed."""
    group = make_group(tmp_path / "box", cpu_max="50000 100000", memory_max=str(100 * MIB))
    resources = Resources(0, 0, group)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(resources.run)
        for name in ("cpu.stat", "memory.current"):
            (group / name).write_text("")
        await trio.sleep(1.5)
        assert resources.memory_bytes is resources.cpu_percent is None
        shutil.rmtree(group)
        await trio.sleep(1)
        assert resources.memory_bytes is resources.cpu_percent is None
        assert resources.overload() is None
        nursery.cancel_scope.cancel()


def test_memory_granted_since_the_measurement_counts(tmp_path: Path) -> None:
    """400 clients can take 200 MB in a second; memory is measured once a second."""
    group = make_group(tmp_path, memory_max=str(100 * MIB), memory=80 * MIB)
    resources = Resources(0, 0, group)
    assert resources.budget.take(9 * MIB)
    assert resources.overload() is None
    assert not resources.budget.take(2 * MIB)
    assert resources.budget.take(1 * MIB)
    assert resources.overload() == "memory"


async def test_memory_that_is_free_within_the_process_does_not_count(
    tmp_path: Path,
    autojump_clock: MockClock,  # noqa: ARG001 -- virtual time
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else nobody could come in after a crowd has left, until the process is restarted."""
    group = make_group(tmp_path, memory_max=str(100 * MIB), memory=95 * MIB)
    resources = Resources(0, 0, group)
    assert resources.overload() == "memory"
    monkeypatch.setattr(ReusableMemory, "observe", lambda one, _: setattr(one, "bytes", 30 * MIB))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(resources.run)
        await trio.sleep(1.5)
        assert resources.memory_bytes == 95 * MIB
        assert resources.memory_in_use == 65 * MIB
        assert resources.overload() is None
        nursery.cancel_scope.cancel()


def test_memory_that_was_freed_is_given_back_before_each_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the C library keeps none of it from newcomers."""
    group = make_group(tmp_path, memory_max=str(100 * MIB), memory=95 * MIB)

    def give_back(_: ReusableMemory) -> bool:
        (group / "memory.current").write_text(f"{40 * MIB}\n")
        return True

    monkeypatch.setattr(ReusableMemory, "trim", give_back)
    resources = Resources(0, 0, group)
    assert resources.memory_bytes is not None
    assert resources.memory_bytes <= 40 * MIB
    assert resources.overload() is None
