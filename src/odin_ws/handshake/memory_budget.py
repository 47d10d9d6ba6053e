"""Memory that may still be allocated before WS_MEMORY_LIMIT, between two measurements."""

from __future__ import annotations

import math
from typing import Final

__all__ = ["CONNECTION_BYTES", "MemoryBudget"]

# What an upgraded connection takes without TLS and subscriptions (docs/security.md).
CONNECTION_BYTES: Final = 30 << 10


class MemoryBudget:
    """Bytes below the limit on memory, by the last measurement and what was granted since.

    Memory is measured once a second. 400 clients with 1,024 subscriptions each take 200 MB in less
    than that, so what is granted counts at once, by an estimate.
    """

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left: float = math.inf

    def measured(self, in_use: int | None, limit: int) -> None:
        """Begin anew from a measurement; None: not measured, and nothing is rejected."""
        self.left = math.inf if in_use is None else limit - in_use

    def spend(self, size: int) -> None:
        """Count bytes that somebody takes in any case."""
        self.left -= size

    def take(self, size: int) -> bool:
        """Count bytes that somebody asks for, if they are left; returns whether they are."""
        if size > self.left:
            return False
        self.left -= size
        return True
