"""Records that a connection gets from its live subscriptions: a replay leaves out only these."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from odin_ws.history import ResumeCursor
from odin_ws.hub import Hub, LiveFrom, Subscriber
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.protocol.filters import Filter
from odin_ws.records import TopicPartition, topic_partition
from odin_ws.steps import STEP_ITEMS, Steps

__all__ = ["Delivered"]

# Copies of all partitions' positions per step; one takes 10 us.
_STEP_POSITIONS: Final = 8


class Delivered:
    """The records that a subscriber gets, or has got, from live subscriptions beside a replay.

    For each pattern these are the records after its `live_from`, up to the position at which the
    client unsubscribed from it. False if the subscriber has no live subscriptions.
    """

    def __init__(self, hub: Hub, subscriber: Subscriber, where: Filter | None) -> None:
        self._hub = hub
        self._where = where
        self._matches = hub.filter_cache.matches
        self._live = dict(subscriber.live_from)
        self._until: dict[str, LiveFrom] = {}
        options = subscriber.options or {}
        self._filters = {
            name: option.where for name, option in options.items() if option.where is not None
        }

    def __bool__(self) -> bool:
        return bool(self._live)

    def end(self, patterns: Iterable[str]) -> None:
        """Note that the client has unsubscribed from these patterns."""
        now = self._hub.stream.now()
        for pattern in self._live.keys() & set(patterns):
            self._until.setdefault(pattern, now)

    def has(self, message: ChannelMessage) -> bool:
        """Return whether a live subscription sends a message to the subscriber, or has sent it."""
        record = message.record
        key = topic_partition(record.topic, record.partition)
        for pattern in message.patterns:
            live_from = self._live.get(pattern)
            if live_from is None or record.offset <= self._sent_after(live_from, key):
                continue
            until = self._until.get(pattern)
            if until is not None and record.offset > self._sent_after(until, key):
                continue
            where = self._filters.get(pattern) if self._filters else None
            if where is None or self._matches(where, message.value):
                return True
        return False

    @property
    def leave_out(self) -> Callable[[ChannelMessage], bool] | None:
        """Return a function: whether a replay leaves out a message; None to leave out none.

        A replay leaves out messages that a live subscription sends, and messages that do not match
        the filter of the replay.
        """
        if self._where is None:
            return self.has if self else None
        where, matches = self._where, self._matches
        return lambda message: not matches(where, message.value) or self.has(message)

    def begin(self, resume_cursor: ResumeCursor) -> Steps[dict[str, LiveFrom]]:
        """Return by pattern the positions after which replay and subscriptions send everything."""
        now = self._hub.stream.now()
        begins: dict[str, LiveFrom] = {}
        for number, (patterns, positions) in enumerate(resume_cursor.starts(), 1):
            if not number % _STEP_POSITIONS:
                yield
            shared = now.replaced(positions)
            for count, pattern in enumerate(patterns, 1):
                if not count % STEP_ITEMS:
                    yield
                live_from = self._live.get(pattern)
                if live_from is None or not self._sends_all(pattern):
                    begins[pattern] = shared
                else:
                    both = {
                        key: min(offset, self._sent_after(live_from, key))
                        for key, offset in positions.items()
                    }
                    begins[pattern] = now.replaced(both)
        return begins

    def _sends_all(self, pattern: str) -> bool:
        """Return whether a live subscription sends all messages that match the replay's filter."""
        where = self._filters.get(pattern)
        return where is None or where == self._where

    def _sent_after(self, live_from: LiveFrom, key: TopicPartition) -> int:
        return self._hub.stream.changes.sent_after(live_from, key)
