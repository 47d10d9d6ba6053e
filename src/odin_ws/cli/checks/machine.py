"""Checks the limits of the machine or container: file descriptors, memory, cores."""

from __future__ import annotations

import os
import resource
from typing import Final

from odin_ws.cli.checks.findings import Findings
from odin_ws.cli.descriptors import TooFewDescriptors, plan_descriptors
from odin_ws.handshake.memory_budget import CONNECTION_BYTES
from odin_ws.resources.container import Resources, own_cgroup
from odin_ws.settings import Settings

__all__ = ["check_machine"]

_MIB: Final = 1 << 20

# Memory of Python with all libraries, and of the buffers for Kafka connections.
_PROCESS_BYTES: Final = 128 * _MIB

# Stands for no limit.
_UNLIMITED: Final = 1 << 30

_RAISE: Final = "raise the limit: ulimit -n, LimitNOFILE= of the unit, or ulimits of the container"


def check_machine(findings: Findings, settings: Settings) -> None:
    """Check the limits of this process; the server may run with others."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    check_descriptors(findings, settings, _UNLIMITED if hard == resource.RLIM_INFINITY else hard)
    # The machine's or container's limits, without those of the settings.
    there = Resources(0, 0, own_cgroup())
    check_memory(findings, settings, there.memory_limit)
    check_cores(findings, settings, there.cpu_limit)


def check_descriptors(findings: Findings, settings: Settings, hard: int) -> None:
    """Check that the connections fit into a hard limit of file descriptors."""
    check = "file descriptors"
    try:
        plan = plan_descriptors(settings, hard)
    except TooFewDescriptors as error:
        findings.fail(check, str(error), _RAISE)
        return
    for warning in plan.warnings:
        findings.warn(check, warning, _RAISE)
    if not plan.warnings:
        there = "no limit" if hard == _UNLIMITED else str(hard)
        findings.ok(check, f"{plan.limit} needed for each process, {there} allowed")


def check_memory(findings: Findings, settings: Settings, allowed: int) -> None:
    """Check that the maximum by the settings fits into nine tenths of the memory."""
    check = "memory"
    limit = settings.ws_memory_limit or allowed
    if settings.ws_memory_limit > allowed:
        findings.warn(
            check,
            f"WS_MEMORY_LIMIT is {_mib(settings.ws_memory_limit)}; 90% of the container's or "
            f"machine's memory are {_mib(allowed)}: the kernel ends the process first",
            "lower WS_MEMORY_LIMIT, or unset it",
        )
    # Each worker has a history and a snapshot cache of its own.
    each = _PROCESS_BYTES + settings.ws_history_bytes + settings.ws_snapshot_bytes
    needed = settings.ws_workers * each + settings.ws_max_connections * CONNECTION_BYTES
    if needed > limit:
        findings.warn(
            check,
            f"{_mib(needed)} are needed for WS_MAX_CONNECTIONS, WS_HISTORY_BYTES and "
            f"WS_SNAPSHOT_BYTES; {_mib(limit)} are allowed: new connections get 503 before",
            "lower these settings, or give the server more memory",
        )
    elif settings.ws_memory_limit <= allowed:
        findings.ok(check, f"{_mib(needed)} needed at full load, {_mib(limit)} allowed")


def check_cores(findings: Findings, settings: Settings, cores: float) -> None:
    """Check that each worker can have a core."""
    check = "cores"
    wanted = settings.ws_workers
    if settings.ws_cpu_limit > (os.cpu_count() or 1):
        findings.warn(
            check,
            f"WS_CPU_LIMIT={settings.ws_cpu_limit:g} is more than the machine has",
            "lower it, or unset it",
        )
    if wanted > max(1.0, cores):
        findings.warn(
            check,
            f"WS_WORKERS={wanted}, and {cores:g} cores are allowed: workers share cores, and each "
            "reads all of Kafka",
            "lower WS_WORKERS, or allow more cores",
        )
    else:
        findings.ok(check, f"{wanted} needed, {cores:g} allowed")


def _mib(size: float) -> str:
    return f"{size / _MIB:.0f} MiB"
