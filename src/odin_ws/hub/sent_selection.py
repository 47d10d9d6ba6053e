"""Selects the messages of a client's subscriptions, if some of them have filters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

from odin_ws.hub.subscription_options import PLAIN, SubscriptionOptions
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.protocol.filters import Fields
from odin_ws.steps import STEP_ITEMS, Steps

__all__ = ["SentSelection"]


class SentSelection:
    """A snapshot of a subscriber's patterns and filters; later changes do not affect it."""

    def __init__(
        self, patterns: AbstractSet[str], options: Mapping[str, SubscriptionOptions]
    ) -> None:
        self._patterns = patterns
        self._options = dict(options)

    def includes(self, message: ChannelMessage) -> bool:
        """Return whether a subscription matches a message."""
        fields = Fields(message.value)
        for pattern in message.patterns:
            if pattern in self._patterns:
                where = self._options.get(pattern, PLAIN).where
                if where is None or where.matches(fields):
                    return True
        return False

    def of(self, messages: Iterable[ChannelMessage]) -> Steps[list[ChannelMessage]]:
        """Return the messages that a subscription matches."""
        found: list[ChannelMessage] = []
        for count, message in enumerate(messages, 1):
            if self.includes(message):
                found.append(message)
            if not count % STEP_ITEMS:
                yield
        return found
