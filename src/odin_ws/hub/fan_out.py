"""Fan-out: gives each subscriber of a step its pending messages, as shared lists."""

from __future__ import annotations

from odin_ws.hub.merger import Merger
from odin_ws.hub.pacing import Pacer
from odin_ws.hub.subscriber import Due, Subscriber
from odin_ws.hub.subscription_index import SubscriberSet, SubscriptionIndex
from odin_ws.protocol.envelope import ChannelMessage

__all__ = ["FanOut"]


class FanOut:
    """What one step of a cycle has for whom. `messages`: those that somebody wants.

    It is filled and shared out without an await in between: who subscribes later gets none of it.
    """

    def __init__(self, index: SubscriptionIndex, pacer: Pacer) -> None:
        self.messages: list[ChannelMessage] = []
        self._index = index
        self._pacer = pacer
        self._matching = index.matching
        self._subscriber_sets: list[SubscriberSet] = []
        self._paced: list[SubscriberSet] = []
        self.add = self._add_with_options if index.has_options else self._add
        """Takes one message; returns whether anybody wants it."""

    def _add(self, message: ChannelMessage) -> bool:
        found = self._matching(message)
        if not found:
            return False
        for subscriber_set in found:
            if not subscriber_set.pending:
                self._subscriber_sets.append(subscriber_set)
            subscriber_set.pending.append(message)
        self.messages.append(message)
        return True

    def _add_with_options(self, message: ChannelMessage) -> bool:
        wanted = self._add(message)
        for subscriber_set in self._index.matching_with_options(message):
            wanted = True
            if not subscriber_set.pending:
                self._paced.append(subscriber_set)
            subscriber_set.pending.append(message)
        return wanted

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
