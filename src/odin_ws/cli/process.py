"""What a process that serves subscribers needs of the system and of Python."""

from __future__ import annotations

import gc
import resource
from typing import Final

from odin_ws.cli.environment import stop_with
from odin_ws.settings import Settings
from odin_ws.workers.shares import largest_share

__all__ = ["calm_garbage_collector", "raise_descriptor_limit"]

# Descriptors besides those of subscribers and callers: Kafka's, the ops port's, and files.
_OTHER_DESCRIPTORS: Final = 256


def raise_descriptor_limit(settings: Settings) -> None:
    """Every connection is a descriptor; better to say so now than to fail at the 1,000th."""
    pending = settings.ws_max_pending
    needed = largest_share(settings) + pending + _OTHER_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        shared = f" over {settings.ws_workers} workers" * (settings.ws_workers > 1)
        stop_with(
            f"WS_MAX_CONNECTIONS={settings.ws_max_connections}{shared} and "
            f"WS_MAX_PENDING={pending} need {needed} descriptors in a process and the limit is "
            f"{hard}: raise it (ulimit -n, LimitNOFILE=) or lower the settings"
        )
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def calm_garbage_collector() -> None:
    """What is loaded now stays; and look for cycles less often than every 700 allocations.

    A full collection walks every connection's objects and holds up the loop meanwhile.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
