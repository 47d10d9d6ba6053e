"""Fan-out: gives each subscriber of a step its pending messages, as shared lists."""

from __future__ import annotations

from odin_ws.hub.subscriber import Due, Subscriber
from odin_ws.hub.subscription_index import SubscriberSet, SubscriptionIndex
from odin_ws.protocol.envelope import ChannelMessage

__all__ = ["FanOut"]


class FanOut:
    """What one step of a cycle has for whom. `messages`: those that somebody wants.

    It is filled and shared out without an await in between: who subscribes later gets none of it.
    """

    def __init__(self, index: SubscriptionIndex) -> None:
        self.messages: list[ChannelMessage] = []
        self._matching = index.matching
        self._subscriber_sets: list[SubscriberSet] = []

    def add(self, message: ChannelMessage) -> bool:
        """Take one message; whether anybody wants it."""
        found = self._matching(message)
        if not found:
            return False
        for subscriber_set in found:
            if not subscriber_set.pending:
                self._subscriber_sets.append(subscriber_set)
            subscriber_set.pending.append(message)
        self.messages.append(message)
        return True

    def distribute(self) -> list[Subscriber]:
        """Give every subscriber what is due to it, in order and each message once.

        Returns those to whom nothing was due before.

        Subscribers of one audience share one list. Only who is in several audiences with something
        due needs another, and those who share that combination share it too.
        """
        subscribers: list[Subscriber] = []
        merger = _Merger()
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
        return subscribers


class _Merger:
    """Merges lists of due messages, each pair of lists once per step."""

    def __init__(self) -> None:
        # The lists are kept beside the result: an id is only unique while its object lives.
        self._merged: dict[tuple[int, int], tuple[Due, Due, Due]] = {}

    def merge(self, first: Due, second: Due) -> Due:
        """Both lists' messages, each once, in the hub's order."""
        key = id(first), id(second)
        known = self._merged.get(key)
        if known is None:
            both = {message.order: message for message in (*first, *second)}
            merged = Due(both[order] for order in sorted(both))
            merged.receivers = 0
            known = self._merged[key] = merged, first, second
        known[0].receivers += 1
        return known[0]
