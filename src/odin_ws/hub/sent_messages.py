"""The messages sent to a subscriber that history still has, under their sequence numbers."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from operator import attrgetter

from odin_ws.history import History
from odin_ws.hub.stream import Stream
from odin_ws.hub.subscriber import Subscriber
from odin_ws.hub.subscription_options import PLAIN, SubscriptionOptions
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.protocol.filters import FilterCache
from odin_ws.steps import STEP_ITEMS, Steps

__all__ = ["sent_messages"]


def sent_messages(
    subscriber: Subscriber, stream: Stream, history: History, filter_cache: FilterCache
) -> Steps[tuple[int, list[ChannelMessage]]]:
    """Return the messages, and the sequence number of the first one; none may be pending.

    They reach back to the last change of the subscriptions, replay or skipped message, and up to
    the state at the first step.
    """
    last, until = subscriber.seq, stream.order
    if subscriber.paces is not None:
        # The numbers of delayed messages do not follow the hub's order.
        return last + 1, []
    patterns, options = frozenset(subscriber.patterns), subscriber.options
    selection = None if options is None else _Selection(patterns, options, filter_cache)
    since = max(subscriber.resend_from, stream.contiguous_since)
    messages = yield from history.since(patterns, since, until)
    # A partition may have been revoked or reassigned between two steps.
    uneven = bisect_right(messages, stream.contiguous_since, key=attrgetter("order"))
    del messages[:uneven]
    if selection is not None:
        messages = yield from selection.of(messages)
    return last - len(messages) + 1, messages


class _Selection:
    """A snapshot of a subscriber's patterns and filters; later changes do not affect it."""

    def __init__(
        self,
        patterns: AbstractSet[str],
        options: Mapping[str, SubscriptionOptions],
        filter_cache: FilterCache,
    ) -> None:
        self._patterns = patterns
        self._options = dict(options)
        self._matches = filter_cache.matches

    def includes(self, message: ChannelMessage) -> bool:
        """Return whether a subscription matches a message."""
        for pattern in message.patterns:
            if pattern in self._patterns:
                where = self._options.get(pattern, PLAIN).where
                if where is None or self._matches(where, message.value):
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
