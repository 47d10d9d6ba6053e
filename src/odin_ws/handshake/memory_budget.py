"""Memory that may still be used before WS_MEMORY_LIMIT, between two measurements."""

from __future__ import annotations

import math
from typing import Final

__all__ = ["CONNECTION_BYTES", "MemoryBudget"]

# The memory of an upgraded connection without TLS and subscriptions (docs/security.md).
CONNECTION_BYTES: Final = 30 << 10


class MemoryBudget:
    """Bytes below the memory limit, by the last measurement and what was granted since.

    Memory is measured once per second. 400 clients with 1,024 subscriptions each use 200 MB in less
    time, so grants count at once, by an estimate.
    """

    __slots__ = ("remaining",)

    def __init__(self) -> None:
        self.remaining: float = math.inf

    def measured(self, in_use: int | None, limit: int) -> None:
        """Restart from a measurement; None: not measured, nothing is rejected."""
        self.remaining = math.inf if in_use is None else limit - in_use

    def spend(self, size: int) -> None:
        """Count bytes that are used in any case."""
        self.remaining -= size

    def take(self, size: int) -> bool:
        """Count requested bytes if they are left; returns whether they are."""
        if size > self.remaining:
            return False
        self.remaining -= size
        return True
