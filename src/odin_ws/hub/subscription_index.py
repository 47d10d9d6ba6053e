"""Who wants what: patterns and their audiences.

A record costs four look-ups and its subscribers, however many connections and patterns there are.
"""

from __future__ import annotations

from collections.abc import Sequence

from odin_ws.hub.subscriber import Due, Subscriber
from odin_ws.pattern import ANY, Pattern
from odin_ws.protocol.envelope import Message

__all__ = ["Audience", "SubscriptionIndex"]

# Most messages find nobody where subscribers want few of many tokens.
_NO_AUDIENCE = None, None, None, None
_NOBODY: Sequence[Audience] = ()


class Audience:
    """The subscribers of one pattern, in the order they came, and what is due to all of them."""

    __slots__ = ("due", "members", "pattern")

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        # A dict for its order: neighbours joined together, so their sequence numbers are close.
        self.members: dict[Subscriber, None] = {}
        self.due = Due()


class SubscriptionIndex:
    """Patterns (`BTC.trade`, `*.trade`, `BTC.*`, `*.*`) to audiences; an empty one is forgotten.

    A table for each form of pattern, by what is named in it: so a message is looked up by the names
    that it has, and no pattern is written for it.
    """

    def __init__(self) -> None:
        self._channels: dict[str, Audience] = {}
        self._tokens: dict[str, Audience] = {}
        self._categories: dict[str, Audience] = {}
        self._everything: dict[str, Audience] = {}

    def __len__(self) -> int:
        """How many patterns have a subscriber."""
        tables = self._channels, self._tokens, self._categories, self._everything
        return sum(map(len, tables))

    def _place(self, pattern: Pattern, text: str) -> tuple[dict[str, Audience], str]:
        """The table that a pattern stands in, and its key there."""
        token, category = pattern
        if token == ANY:
            return (self._everything, ANY) if category == ANY else (self._categories, category)
        return (self._tokens, token) if category == ANY else (self._channels, text)

    def __contains__(self, pattern: str) -> bool:
        """Whether a pattern has a subscriber."""
        table, key = self._place(Pattern.parse(pattern), pattern)
        return key in table

    def add(self, subscriber: Subscriber, pattern: str) -> str | None:
        """Subscribe to one pattern; None where that was so already.

        Returns the one text for all who subscribe to it: a text of each would be kept otherwise.
        """
        if pattern in subscriber.patterns:
            return None
        parsed = Pattern.parse(pattern)
        table, key = self._place(parsed, pattern)
        audience = table.get(key)
        if audience is None:
            audience = table[key] = Audience(pattern)
        subscriber.patterns.add(audience.pattern)
        category = parsed.category
        subscriber.categories[category] = subscriber.categories.get(category, 0) + 1
        audience.members[subscriber] = None
        return audience.pattern

    def discard(self, subscriber: Subscriber, pattern: str) -> bool:
        """Unsubscribe from one pattern; False where there was no such subscription."""
        if pattern not in subscriber.patterns:
            return False
        subscriber.patterns.remove(pattern)
        parsed = Pattern.parse(pattern)
        category = parsed.category
        if left := subscriber.categories[category] - 1:
            subscriber.categories[category] = left
        else:
            del subscriber.categories[category]
        table, key = self._place(parsed, pattern)
        audience = table[key]
        del audience.members[subscriber]
        if not audience.members:
            del table[key]
        return True

    def matching(self, message: Message) -> Sequence[Audience]:
        """The audiences of a message's channel; at most four."""
        found = (
            self._channels.get(message.channel),
            self._categories.get(message.category),
            self._tokens.get(message.token),
            self._everything.get(ANY),
        )
        return _NOBODY if found == _NO_AUDIENCE else [one for one in found if one is not None]
