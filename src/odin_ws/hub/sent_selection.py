"""Which messages the subscriptions of one client bring, where some of them have filters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

from odin_ws.hub.subscription_options import PLAIN, SubscriptionOptions
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.protocol.filters import Fields
from odin_ws.steps import STEP_ITEMS, Steps

__all__ = ["SentSelection"]


class SentSelection:
    """The patterns and filters of a subscriber as they are now; later changes do not concern it."""

    def __init__(
        self, patterns: AbstractSet[str], options: Mapping[str, SubscriptionOptions]
    ) -> None:
        self._patterns = patterns
        self._options = dict(options)

    def includes(self, message: ChannelMessage) -> bool:
        """Whether a subscription brings a message."""
        fields = Fields(message.value)
        for pattern in message.patterns:
            if pattern in self._patterns:
                where = self._options.get(pattern, PLAIN).where
                if where is None or where.matches(fields):
                    return True
        return False

    def of(self, messages: Iterable[ChannelMessage]) -> Steps[list[ChannelMessage]]:
        """The messages that a subscription brings."""
        found: list[ChannelMessage] = []
        for count, message in enumerate(messages, 1):
            if self.includes(message):
                found.append(message)
            if not count % STEP_ITEMS:
                yield
        return found
