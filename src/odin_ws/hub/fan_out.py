"""Fan-out: gives each subscriber of a step its pending messages, as shared lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from odin_ws.hub.merger import Merger
from odin_ws.hub.pacing import Pacer
from odin_ws.hub.stats import HubStats
from odin_ws.hub.subscriber import Due, Subscriber
from odin_ws.hub.subscription_index import SubscriberSet, SubscriptionIndex
from odin_ws.protocol.envelope import ChannelMessage

__all__ = ["UNWANTED_BYTES", "FanOut"]

UNWANTED_BYTES: Final = 64
"""What a record counts as that nobody wants.

It is read in some 6 us: with half of WS_SEND_QUEUE_BYTES in a cycle 8,000 are read in 50 ms, and
then the loop is the others'.
"""

# By the same measure, to parse a value for filters, and one comparison of a filter (0.7 us).
_PARSED_BYTES: Final = 32
_TERM_BYTES: Final = 8


class FanOut:
    """What one step of a cycle has for whom. `messages`: those that somebody wants.

    It is filled and shared out without an await in between: who subscribes later gets none of it.
    """

    def __init__(self, index: SubscriptionIndex, pacer: Pacer, stats: HubStats) -> None:
        self.messages: list[ChannelMessage] = []
        self._stats = stats
        self._index = index
        self._pacer = pacer
        self._matching = index.matching
        self._subscriber_sets: list[SubscriberSet] = []
        self._paced: list[SubscriberSet] = []

    @property
    def add(self) -> Callable[[ChannelMessage], int]:
        """Takes one message; returns the bytes that it counts as."""
        # Not kept: it would hold this object until Python looks for cycles.
        return self._add_with_options if self._index.has_options else self._add

    def _add(self, message: ChannelMessage) -> int:
        found = self._matching(message)
        if not found:
            return UNWANTED_BYTES
        for subscriber_set in found:
            if not subscriber_set.pending:
                self._subscriber_sets.append(subscriber_set)
            subscriber_set.pending.append(message)
        self.messages.append(message)
        return len(message.value)

    def _add_with_options(self, message: ChannelMessage) -> int:
        size = self._add(message)
        is_measured = size != UNWANTED_BYTES
        found, terms = self._index.matching_with_options(message)
        for subscriber_set in found:
            if subscriber_set.options.max_rate is not None:
                if not subscriber_set.pending:
                    self._paced.append(subscriber_set)
            else:
                if not subscriber_set.pending:
                    self._subscriber_sets.append(subscriber_set)
                if not is_measured:
                    self.messages.append(message)
                    is_measured = True
            subscriber_set.pending.append(message)
        if found:
            size = len(message.value)
        if terms:
            self._stats.filter_comparisons += terms
            size += _PARSED_BYTES + _TERM_BYTES * terms
        return size

    def distribute(self) -> list[Subscriber]:
        """Give every subscriber what is due to it, in order and each message once.

        Returns those to whom nothing was due before. What has a rate is held back.

        Subscribers of one audience share one list. Only who is in several audiences with something
        due needs another, and those who share that combination share it too.
        """
        subscribers: list[Subscriber] = []
        merger = Merger()
        for subscriber_set in self._subscriber_sets:
            pending = subscriber_set.pending
            subscriber_set.pending = Due()
            pending.receivers = len(subscriber_set.members)
            for subscriber in subscriber_set.members:
                if subscriber.pending is None:
                    subscriber.pending = pending
                    subscribers.append(subscriber)
                else:
                    pending.receivers -= 1
                    subscriber.pending = merger.merge(subscriber.pending, pending)
        if self._paced:
            self._pacer.hold(self._paced, merger)
        self._pacer.mark()
        return subscribers
