"""The subscription index: from a message's channel to the subscribers of matching patterns.

A record costs four look-ups and its subscribers, however many connections and patterns there are.
"""

from __future__ import annotations

from collections.abc import Sequence

from odin_ws.hub.subscriber import Due, Subscriber
from odin_ws.pattern import ANY, Pattern
from odin_ws.protocol.envelope import ChannelMessage

__all__ = ["SubscriberSet", "SubscriptionIndex"]

# Most messages find nobody where subscribers want few of many tokens.
_NO_SUBSCRIBERS = None, None, None, None
_NOBODY: Sequence[SubscriberSet] = ()


class SubscriberSet:
    """The subscribers of one pattern, in the order they came, and what is due to all of them."""

    __slots__ = ("members", "pattern", "pending")

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        # A dict for its order: neighbours joined together, so their sequence numbers are close.
        self.members: dict[Subscriber, None] = {}
        self.pending = Due()


class SubscriptionIndex:
    """Patterns (`BTC.trade`, `*.trade`, `BTC.*`, `*.*`) to audiences; an empty one is forgotten.

    A table for each form of pattern, by what is named in it: so a message is looked up by the names
    that it has, and no pattern is written for it.
    """

    def __init__(self) -> None:
        self._channels: dict[str, SubscriberSet] = {}
        self._tokens: dict[str, SubscriberSet] = {}
        self._categories: dict[str, SubscriberSet] = {}
        self._everything: dict[str, SubscriberSet] = {}

    def __len__(self) -> int:
        """How many patterns have a subscriber."""
        tables = self._channels, self._tokens, self._categories, self._everything
        return sum(map(len, tables))

    def _place(self, pattern: Pattern, text: str) -> tuple[dict[str, SubscriberSet], str]:
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
        subscriber_set = table.get(key)
        if subscriber_set is None:
            subscriber_set = table[key] = SubscriberSet(pattern)
        subscriber.patterns.add(subscriber_set.pattern)
        category = parsed.category
        subscriber.categories[category] = subscriber.categories.get(category, 0) + 1
        subscriber_set.members[subscriber] = None
        return subscriber_set.pattern

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
        subscriber_set = table[key]
        del subscriber_set.members[subscriber]
        if not subscriber_set.members:
            del table[key]
        return True

    def matching(self, message: ChannelMessage) -> Sequence[SubscriberSet]:
        """The audiences of a message's channel; at most four."""
        found = (
            self._channels.get(message.channel),
            self._categories.get(message.category),
            self._tokens.get(message.token),
            self._everything.get(ANY),
        )
        return _NOBODY if found == _NO_SUBSCRIBERS else [one for one in found if one is not None]
