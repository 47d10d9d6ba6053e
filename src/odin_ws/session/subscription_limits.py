"""Limits of one client's subscriptions, and their memory."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import attrs

from odin_ws.handshake.memory_budget import MemoryBudget
from odin_ws.hub.subscription_index import SubscriptionIndex

__all__ = ["REPLAY_BYTES", "SubscriptionLimits", "memory_of_patterns", "size_of_patterns"]

# Memory of a subscription in the connection and in the subscriber set, and of the first
# subscription of a pattern besides that and its name (`python -m tests.hostile.memory`).
_PATTERN_BYTES: Final = 200
_NEW_PATTERN_BYTES: Final = 800

# Memory of a pattern, position or rejection in a waiting command.
_WAITING_BYTES: Final = 200

# Memory of a running replay: a chunk that was read and one that is written.
REPLAY_BYTES: Final = 128 << 10


@attrs.frozen
class SubscriptionLimits:
    """The limits of one client.

    `patterns`: their number. `threshold_bytes`: with more unsent bytes, a connection with
    `delivery: "latest"` gets no more; with more than `held_bytes` of held messages in addition it
    is slow.
    `grace`: seconds that the oldest byte of another connection may wait; `stuck`: seconds for which
    one with `delivery: "latest"` may read nothing at all.
    """

    patterns: int
    threshold_bytes: int
    held_bytes: int
    grace: float
    stuck: float
    pattern_bytes: int = 64 << 10
    """Total length of the patterns, in UTF-8."""
    filters: int = 10
    """Distinct filters of one connection."""
    budget: MemoryBudget = attrs.field(factory=MemoryBudget)
    """Memory of all connections together: if none is left, new work is rejected."""

    def room(self, patterns: Collection[str]) -> int:
        """Return how many more bytes of patterns fit beside these."""
        return self.pattern_bytes - size_of_patterns(patterns)

    @property
    def no_room(self) -> str:
        """The error text for patterns that are too long in total."""
        return f"at most {self.pattern_bytes} bytes of subscriptions per connection"

    def take(self, size: int) -> bool:
        """Charge memory in bytes; returns whether there was enough."""
        return not size or self.budget.take(size)

    def take_waiting(self, size: int) -> bool:
        """Charge the memory of a waiting command, by its patterns, positions and rejections."""
        return self.budget.take(_WAITING_BYTES * (1 + size))


def memory_of_patterns(patterns: Collection[str], index: SubscriptionIndex) -> int:
    """Return the memory of new patterns of a connection, in bytes.

    A pattern with a subscriber shares its text.
    """
    return sum(
        _PATTERN_BYTES if one in index else _NEW_PATTERN_BYTES + len(one) for one in patterns
    )


def size_of_patterns(patterns: Collection[str]) -> int:
    """Return their length in UTF-8."""
    return sum(len(one) if one.isascii() else len(one.encode()) for one in patterns)
