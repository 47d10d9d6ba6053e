"""Raises the file descriptor limit, and lowers connection limits that do not fit it."""

from __future__ import annotations

import resource
from typing import Final

import attrs

from odin_ws.settings import Settings
from odin_ws.workers.limits import max_worker_connections

__all__ = ["DescriptorPlan", "TooFewDescriptors", "plan_descriptors", "raise_descriptor_limit"]

# Reserved for Kafka connections (one per broker for each consumer), 100 ops connections, files.
_RESERVE: Final = 256

# Used instead of an unlimited hard limit; a plan takes only what the settings need.
_UNLIMITED: Final = 1 << 30

# Python, the listening sockets and one broker take about 30; below 64 too few are left to serve.
_MIN_DESCRIPTORS: Final = 64


@attrs.frozen
class DescriptorPlan:
    """The division of a process's file descriptors."""

    limit: int
    """The limit of open file descriptors."""
    reserve: int
    """Descriptors that are not for subscribers."""
    settings: Settings
    """The settings, with connection limits that fit."""
    warnings: tuple[str, ...] = ()
    """One line per lowered setting."""

    @property
    def connections(self) -> int:
        """The maximum number of subscribers of one process."""
        return max_worker_connections(self.settings)


class TooFewDescriptors(Exception):
    """The limit is too low to serve at all; the message names what to raise."""


def plan_descriptors(settings: Settings, hard: int) -> DescriptorPlan:
    """Return the division of one process's hard limit of descriptors. Raises TooFewDescriptors.

    If the settings need more descriptors, lowers the limits of connections and pending handshakes.
    """
    if hard < _MIN_DESCRIPTORS:
        raise TooFewDescriptors(
            f"the limit of file descriptors is {hard}, at least {_MIN_DESCRIPTORS} are needed: "
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
    # Most handshakes become connections: a quarter is enough for pending handshakes.
    possible = min(pending, (hard - reserve) // 4)
    each = min(max_worker_connections(settings), hard - reserve - possible)
    lowered = attrs.evolve(
        settings, ws_max_connections=min(wanted, each * workers), ws_max_pending_handshakes=possible
    )
    why = (
        f"the limit of file descriptors is {hard} per process, {reserve} of them reserved; "
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
    """Raise the soft limit of this process to what the settings need, at most the hard limit.

    Raises TooFewDescriptors.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    maximum = _UNLIMITED if hard == resource.RLIM_INFINITY else hard
    plan = plan_descriptors(settings, maximum)
    if soft < plan.limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (plan.limit, hard))
    return plan
