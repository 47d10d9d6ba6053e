"""Raises the file descriptor limit, and lowers connection limits that do not fit it."""

from __future__ import annotations

import resource
from typing import Final

import attrs

from odin_ws.settings import Settings
from odin_ws.workers.limits import max_worker_connections

__all__ = ["DescriptorPlan", "TooFewDescriptors", "plan_descriptors", "raise_descriptor_limit"]

# Kept for Kafka's connections, the ops port and files: a connection to each broker of a cluster for
# each of its readers, and 100 ops connections.
_RESERVE: Final = 256

# Stands for no limit: a plan takes no more than the settings need.
_UNLIMITED: Final = 1 << 30

# With fewer nothing useful is left: Python, the listening sockets and one broker take some 30.
_LEAST: Final = 64


@attrs.frozen
class DescriptorPlan:
    """The uses of a process's descriptors, and how many each may have."""

    limit: int
    """All of them."""
    reserve: int
    """Those that no subscriber gets."""
    settings: Settings
    """With the connections and callers that are possible."""
    warnings: tuple[str, ...] = ()
    """A line for each setting that was lowered."""

    @property
    def connections(self) -> int:
        """How many subscribers one process may have."""
        return max_worker_connections(self.settings)


class TooFewDescriptors(Exception):
    """The limit is so low that the server cannot do anything; the message says what to raise."""


def plan_descriptors(settings: Settings, hard: int) -> DescriptorPlan:
    """Divide a hard limit of descriptors, which is for each worker. Raises TooFewDescriptors.

    If the settings need more than there are, connections and callers on their way in are lowered.
    """
    if hard < _LEAST:
        raise TooFewDescriptors(
            f"the limit of descriptors is {hard} and {_LEAST} are needed at least: "
            "raise it (ulimit -n, LimitNOFILE=)"
        )
    wanted, pending, workers = (
        settings.ws_max_connections,
        settings.ws_max_pending_handshakes,
        settings.ws_workers,
    )
    needed = max_worker_connections(settings) + pending + _RESERVE
    if needed <= hard:
        return DescriptorPlan(needed, _RESERVE, settings)
    reserve = min(_RESERVE, hard // 2)
    # Most callers become connections: a quarter is for those that are on their way.
    possible = min(pending, (hard - reserve) // 4)
    each = min(max_worker_connections(settings), hard - reserve - possible)
    lowered = attrs.evolve(
        settings, ws_max_connections=min(wanted, each * workers), ws_max_pending_handshakes=possible
    )
    why = (
        f"the limit of descriptors is {hard} for each process, {reserve} of them are reserved; "
        "raise it (ulimit -n, LimitNOFILE=)"
    )
    changes = (
        ("WS_MAX_CONNECTIONS", wanted, lowered.ws_max_connections),
        ("WS_MAX_PENDING_HANDSHAKES", pending, lowered.ws_max_pending_handshakes),
    )
    warnings = tuple(
        f"{name}={before} is lowered to {after}: {why}"
        for name, before, after in changes
        if before != after
    )
    return DescriptorPlan(hard, reserve, lowered, warnings)


def raise_descriptor_limit(settings: Settings) -> DescriptorPlan:
    """Raise the soft limit of this process as far as the settings need it, or as far as it goes.

    Raises TooFewDescriptors.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    maximum = _UNLIMITED if hard == resource.RLIM_INFINITY else hard
    plan = plan_descriptors(settings, maximum)
    if soft < plan.limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (plan.limit, hard))
    return plan
