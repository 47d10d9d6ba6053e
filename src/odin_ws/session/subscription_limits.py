"""Limits of one client's subscriptions, and the memory that they take."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

import attrs

from odin_ws.handshake.memory_budget import MemoryBudget

__all__ = ["REPLAY_BYTES", "SubscriptionLimits", "memory_of_patterns", "size_of_patterns"]

# What a subscription takes in the connection and in the audience of its pattern, and what the first
# one to a pattern takes beside that and its name (`python -m tests.hostile.memory`).
_PATTERN_BYTES: Final = 200
_NEW_PATTERN_BYTES: Final = 800

# What a pattern, position or rejection takes in a command that waits.
_WAITING_BYTES: Final = 200

# What a replay takes while it lasts: a chunk that was read and one that is written.
REPLAY_BYTES: Final = 128 << 10


@attrs.frozen
class SubscriptionLimits:
    """What one client may have.

    `patterns`: at most. `threshold_bytes`: with more waiting, a connection that asked for the
    latest only is sent no more, and with more than `held_bytes` of the latest waiting beside that,
    it is slow. `grace`: seconds that another one's oldest byte may wait; `stuck`: seconds for which
    one that asked for the latest may take nothing at all.
    """

    patterns: int
    threshold_bytes: int
    held_bytes: int
    grace: float
    stuck: float
    pattern_bytes: int = 64 << 10
    """What the patterns may have together, in UTF-8."""
    filters: int = 10
    """Distinct ones of one connection."""
    budget: MemoryBudget = attrs.field(factory=MemoryBudget)
    """Memory, of all connections together: if none is left, nothing new begins."""

    def room(self, patterns: Collection[str]) -> int:
        """How many bytes of patterns there may be beside these."""
        return self.pattern_bytes - size_of_patterns(patterns)

    @property
    def no_room(self) -> str:
        """The sentence for a client whose patterns are too long together."""
        return f"at most {self.pattern_bytes} bytes of subscriptions per connection"

    def take(self, size: int) -> bool:
        """Count memory in bytes; whether there is so much."""
        return not size or self.budget.take(size)

    def take_waiting(self, size: int) -> bool:
        """Count the memory of a command that waits, by its patterns, positions and rejections."""
        return self.budget.take(_WAITING_BYTES * (1 + size))


def memory_of_patterns(patterns: Collection[str], has_subscriber: Callable[[str], bool]) -> int:
    """Bytes of memory that new patterns of a connection take."""
    return sum(
        _PATTERN_BYTES if has_subscriber(one) else _NEW_PATTERN_BYTES + len(one) for one in patterns
    )


def size_of_patterns(patterns: Collection[str]) -> int:
    """Bytes of UTF-8."""
    return sum(len(one) if one.isascii() else len(one.encode()) for one in patterns)
