"""What a process that serves subscribers needs of Python."""

from __future__ import annotations

import gc

__all__ = ["calm_garbage_collector"]


def calm_garbage_collector() -> None:
    """What is loaded now stays; and look for cycles less often than every 700 allocations.

    A full collection walks every connection's objects and holds up the loop meanwhile.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    gc.enable()
