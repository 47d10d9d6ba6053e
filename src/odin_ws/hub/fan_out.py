"""Fan-out: gives each subscriber of a step its pending messages, as shared lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from odin_ws.hub.pacing import Pacer
from odin_ws.hub.stats import HubStats
from odin_ws.hub.subscriber import Due, Merger, Subscriber
from odin_ws.hub.subscription_index import PacedSets, SubscriberSet, SubscriptionIndex
from odin_ws.protocol.envelope import ChannelMessage

__all__ = ["UNWANTED_BYTES", "FanOut"]

UNWANTED_BYTES: Final = 64
"""The size that a record without subscribers counts as.

Reading it takes about 6 us: with half of WS_SEND_QUEUE_BYTES per cycle, 8,000 are read in 50 ms
before other tasks run.
"""

# In the same unit: parsing a value for filters, and one comparison of a filter (0.7 us).
_PARSED_BYTES: Final = 32
_TERM_BYTES: Final = 8

# And holding a message for one more rate or filter with a rate (0.2 us): with 5,000 of them a step
# has six records, not two hundred.
_RATE_BYTES: Final = 2


class FanOut:
    """The messages of one step of a cycle. `messages`: those with subscribers.

    Filled and distributed without an await in between: later subscriptions get none of the
    messages.
    """

    def __init__(self, index: SubscriptionIndex, pacer: Pacer, stats: HubStats) -> None:
        self.messages: list[ChannelMessage] = []
        self._stats = stats
        self._index = index
        self._pacer = pacer
        self._matching = index.matching
        self._subscriber_sets: list[SubscriberSet] = []
        self._filtered: list[SubscriberSet] = []
        self._paced: list[PacedSets] = []

    @property
    def add(self) -> Callable[[ChannelMessage], int]:
        """Return a function that adds a message and returns the bytes that it counts as."""
        # Not stored: it would form a reference cycle with this object.
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
        known = len(self.messages)
        size = self._add(message)
        found, paced, terms = self._index.matching_with_options(message)
        for subscriber_set in found:
            pending = subscriber_set.pending
            if not pending:
                self._filtered.append(subscriber_set)
            pending.append(message)
        rates = 0
        for sets in paced:
            if not sets.pending:
                self._paced.append(sets)
            sets.pending.append(message)
            rates += len(sets.members)
        if found and len(self.messages) == known:
            self.messages.append(message)
        if found or paced:
            size = len(message.value) + _RATE_BYTES * rates
        if terms:
            self._stats.filter_comparisons += terms
            size += _PARSED_BYTES + _TERM_BYTES * terms
        return size

    def distribute(self) -> list[Subscriber]:
        """Give every subscriber its pending messages, in order and each message once.

        Returns the subscribers that had none pending before. Messages with a rate are delayed.

        Subscribers of one set share one list. Subscribers of several sets with messages need a
        merged list, which the subscribers of the same combination of sets share.
        """
        subscribers: list[Subscriber] = []
        unmerged: dict[Subscriber, list[Due]] = {}
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
                    unmerged.setdefault(subscriber, [subscriber.pending]).append(pending)
        if self._filtered:
            self._distribute_filtered(subscribers, unmerged)
        if unmerged:
            merge = Merger().merge
            for subscriber, lists in unmerged.items():
                subscriber.pending = merge(lists)
        if self._paced:
            self._pacer.hold(self._paced)
        self._pacer.mark()
        return subscribers

    def _distribute_filtered(
        self, subscribers: list[Subscriber], unmerged: dict[Subscriber, list[Due]]
    ) -> None:
        """As `distribute`; filters with the same matching messages share one list too."""
        # By the ids of the messages, which live as long as the lists.
        shared: dict[tuple[int, ...], Due] = {}
        for subscriber_set in self._filtered:
            own, subscriber_set.pending = subscriber_set.pending, Due()
            own.receivers = 0
            pending = shared.setdefault(tuple(map(id, own)), own)
            for subscriber in subscriber_set.members:
                if subscriber.pending is None:
                    subscriber.pending = pending
                    subscribers.append(subscriber)
                    pending.receivers += 1
                elif subscriber.pending is not pending:
                    unmerged.setdefault(subscriber, [subscriber.pending]).append(pending)
