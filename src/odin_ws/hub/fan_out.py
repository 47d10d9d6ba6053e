"""From messages to subscribers: who gets what, as lists that are shared where they are the same."""

from __future__ import annotations

from odin_ws.hub.subscriber import Due, Subscriber
from odin_ws.hub.subscription_index import Audience, SubscriptionIndex
from odin_ws.protocol.envelope import Message

__all__ = ["Shares"]


class Shares:
    """What one step of a cycle has for whom. `messages`: those that somebody wants.

    It is filled and shared out without an await in between: who subscribes later gets none of it.
    """

    def __init__(self, index: SubscriptionIndex) -> None:
        self.messages: list[Message] = []
        self._matching = index.matching
        self._audiences: list[Audience] = []

    def add(self, message: Message) -> bool:
        """Take one message; whether anybody wants it."""
        found = self._matching(message)
        if not found:
            return False
        for audience in found:
            if not audience.due:
                self._audiences.append(audience)
            audience.due.append(message)
        self.messages.append(message)
        return True

    def share_out(self) -> list[Subscriber]:
        """Give every subscriber what is due to it, in order and each message once.

        Returns those to whom nothing was due before.

        Subscribers of one audience share one list. Only who is in several audiences with something
        due needs another, and those who share that combination share it too.
        """
        subscribers: list[Subscriber] = []
        merger = _Merger()
        for audience in self._audiences:
            due = audience.due
            audience.due = Due()
            due.receivers = len(audience.members)
            for subscriber in audience.members:
                if subscriber.due is None:
                    subscriber.due = due
                    subscribers.append(subscriber)
                else:
                    due.receivers -= 1
                    subscriber.due = merger.merge(subscriber.due, due)
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
            known = Due(both[order] for order in sorted(both)), first, second
            self._merged[key] = known
        known[0].receivers += 1
        return known[0]
