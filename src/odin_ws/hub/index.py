"""Who wants what: patterns and their audiences.

A record costs four look-ups and its subscribers, however many connections and patterns there are.
"""

from __future__ import annotations

from collections.abc import Iterator

from odin_ws.hub.subscriber import Subscriber
from odin_ws.protocol.envelope import Message

__all__ = ["Audience", "SubscriptionIndex"]


class Audience:
    """The subscribers of one pattern, in the order they came, and what is due to all of them."""

    __slots__ = ("due", "members")

    def __init__(self) -> None:
        # A dict for its order: neighbours joined together, so their sequence numbers are close.
        self.members: dict[Subscriber, None] = {}
        self.due: list[Message] = []


class SubscriptionIndex:
    """Patterns (`BTC.trade`, `*.trade`, `BTC.*`, `*.*`) to audiences; an empty one is forgotten."""

    def __init__(self) -> None:
        self._audiences: dict[str, Audience] = {}

    def __len__(self) -> int:
        """How many patterns have a subscriber."""
        return len(self._audiences)

    def add(self, subscriber: Subscriber, pattern: str) -> bool:
        """Subscribe to one pattern; False where that was so already."""
        if pattern in subscriber.patterns:
            return False
        subscriber.patterns.add(pattern)
        audience = self._audiences.get(pattern)
        if audience is None:
            audience = self._audiences[pattern] = Audience()
        audience.members[subscriber] = None
        return True

    def discard(self, subscriber: Subscriber, pattern: str) -> bool:
        """Unsubscribe from one pattern; False where there was no such subscription."""
        if pattern not in subscriber.patterns:
            return False
        subscriber.patterns.remove(pattern)
        audience = self._audiences[pattern]
        del audience.members[subscriber]
        if not audience.members:
            del self._audiences[pattern]
        return True

    def matching(self, message: Message) -> Iterator[Audience]:
        """The audiences of a message's channel; at most four."""
        find = self._audiences.get
        for pattern in message.patterns:
            audience = find(pattern)
            if audience is not None:
                yield audience
