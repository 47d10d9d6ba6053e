"""Records that a connection's live subscriptions have sent: a replay leaves out only these."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from odin_ws.history import ResumeCursor
from odin_ws.hub import Hub, LiveFrom, Subscriber
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.records import TopicPartition
from odin_ws.steps import STEP_ITEMS, Steps

__all__ = ["Delivered"]

# To copy the positions of all partitions takes 10 us.
_STEP_POSITIONS: Final = 8


class Delivered:
    """The records that a subscriber is sent, or was sent, beside a replay.

    Those of a pattern are all behind its `live_from`, up to where the client unsubscribed from it.
    False where the subscriber has no live subscriptions.
    """

    def __init__(self, hub: Hub, subscriber: Subscriber) -> None:
        self._hub = hub
        self._live = dict(subscriber.live_from)
        self._until: dict[str, LiveFrom] = {}

    def __bool__(self) -> bool:
        return bool(self._live)

    def end(self, patterns: Iterable[str]) -> None:
        """The client has unsubscribed from these."""
        ingest = self._hub.ingest
        now = ingest.changes.live_from(ingest.order, ingest.positions)
        for pattern in self._live.keys() & set(patterns):
            self._until.setdefault(pattern, now)

    def has(self, message: ChannelMessage) -> bool:
        """Whether the subscriber gets a record anyway, or was sent it."""
        record = message.record
        key = TopicPartition(record.topic, record.partition)
        for pattern in message.patterns:
            live_from = self._live.get(pattern)
            if live_from is None or record.offset <= self._sent_after(live_from, key):
                continue
            until = self._until.get(pattern)
            if until is None or record.offset <= self._sent_after(until, key):
                return True
        return False

    def begin(self, resume_cursor: ResumeCursor) -> Steps[dict[str, LiveFrom]]:
        """By pattern, what the subscriber has been sent once `resume_cursor` is replayed."""
        ingest = self._hub.ingest
        now = ingest.changes.live_from(ingest.order, ingest.positions)
        begins: dict[str, LiveFrom] = {}
        for number, (patterns, positions) in enumerate(resume_cursor.starts(), 1):
            if not number % _STEP_POSITIONS:
                yield
            shared = now.replaced(positions)
            for count, pattern in enumerate(patterns, 1):
                if not count % STEP_ITEMS:
                    yield
                live_from = self._live.get(pattern)
                if live_from is None:
                    begins[pattern] = shared
                else:
                    both = {
                        key: min(offset, self._sent_after(live_from, key))
                        for key, offset in positions.items()
                    }
                    begins[pattern] = now.replaced(both)
        return begins

    def _sent_after(self, live_from: LiveFrom, key: TopicPartition) -> int:
        return self._hub.ingest.changes.sent_after(live_from, key)
