"""The hub: takes records, finds who wants each, and writes every subscriber once a cycle.

One task dispatches, so no reordering is possible. All state moves in synchronous functions; the
only awaits are the wait for records, for the next slot, and the yields between writes.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence

import attrs
import structlog
import trio

from odin_ws.catalogue import Catalogue, Topic
from odin_ws.distribution import Distribution
from odin_ws.hub.index import Audience, SubscriptionIndex
from odin_ws.hub.reading import Unreadable, read_token, read_value
from odin_ws.hub.subscriber import Subscriber
from odin_ws.protocol.envelope import Dialect, Message, encode_messages
from odin_ws.records import Assignment, Batch, Record

__all__ = ["Hub", "HubStats"]

log = structlog.get_logger("odin_ws.hub")

# The share of the event loop the dispatcher may take: above it cycles stretch, so each write
# carries more and readers, accepts and pongs keep the rest (shared measurements: 60-70%).
_DUTY = 0.65

# How long writes may keep the loop from the other tasks, seconds, looked at every so many writes.
_SLICE_SECONDS = 0.005
_SLICE_WRITES = 32

# A broken publisher may send nothing else: one line of each kind in so many seconds tells it.
_REPORT_SECONDS = 30.0

# Record age at delivery and cycle time, in seconds: from "at once" to "far behind".
_AGE_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_CYCLE_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)


@attrs.define(eq=False)
class HubStats:
    """What the hub has done so far; counts since the start."""

    received: Counter[str] = attrs.field(factory=Counter)  # records by topic
    unreadable: Counter[Unreadable] = attrs.field(factory=Counter)
    unknown_types: int = 0
    messages_sent: int = 0
    age: Distribution = attrs.field(factory=lambda: Distribution(_AGE_BOUNDS))
    cycle: Distribution = attrs.field(factory=lambda: Distribution(_CYCLE_BOUNDS))


class Hub:
    """Subscriptions, positions and the dispatcher.

    `interval`: seconds between the starts of two cycles at least; 0 for none.
    `cycle_bytes`: of records one cycle takes so many, and what is begun. A subscriber to everything
    gets them as one write; what is left over waits here, in the channel and in Kafka.
    `max_record_bytes`: a larger value is passed by, since it would overrun every outbox.
    """

    def __init__(
        self, catalogue: Catalogue, *, interval: float, cycle_bytes: int, max_record_bytes: int
    ) -> None:
        self.stats = HubStats()
        self.partial = False
        self._catalogue = catalogue
        self._interval = interval
        self._cycle_bytes = cycle_bytes
        self._max_record_bytes = max_record_bytes
        self._index = SubscriptionIndex()
        self._positions: dict[str, dict[int, int]] = {}
        self._next_report: dict[Unreadable, float] = {}

    # ---- subscriptions: called by sessions, between two cycles or between two writes of one

    def subscribe(self, subscriber: Subscriber, patterns: Iterable[str]) -> None:
        """Add patterns; they are live from the positions the hub has now."""
        self.flush(subscriber)
        for pattern in patterns:
            self._index.add(subscriber, pattern)

    def unsubscribe(self, subscriber: Subscriber, patterns: Iterable[str]) -> bool:
        """Take patterns away; nothing of them is written after this. False: there were none."""
        self.flush(subscriber)
        gone = [self._index.discard(subscriber, pattern) for pattern in patterns]
        return any(gone)

    def leave(self, subscriber: Subscriber) -> None:
        """Forget a subscriber whose connection has ended."""
        subscriber.due = None
        for pattern in list(subscriber.patterns):
            self._index.discard(subscriber, pattern)

    def positions(self, topics: Iterable[str]) -> dict[str, dict[int, int]]:
        """Per topic and partition the last offset dispatched; -1 before a partition's first."""
        return {topic: dict(self._positions.get(topic, {})) for topic in topics}

    def partitions(self, topics: Iterable[str]) -> dict[str, list[int]]:
        """Per topic the partitions this instance reads."""
        return {topic: sorted(self._positions.get(topic, ())) for topic in topics}

    @property
    def topics(self) -> list[str]:
        """Every topic of the catalogue."""
        return list(self._catalogue.topics)

    @property
    def patterns(self) -> int:
        """How many different patterns have a subscriber."""
        return len(self._index)

    def flush(self, subscriber: Subscriber) -> None:
        """Write what the running cycle still owes a subscriber: answers come after it."""
        due = subscriber.due
        if due is not None:
            subscriber.due = None
            data = encode_messages(due, subscriber.seq + 1, subscriber.dialect)
            self._deliver(subscriber, data, len(due))

    # ---- the dispatcher

    async def run(self, inbox: trio.MemoryReceiveChannel[Batch | Assignment]) -> None:
        """Dispatch until the channel ends: a cycle for what has come, then a pause, and again.

        The first record after a pause leaves at once; those of the same slot leave together.
        """
        next_start = -math.inf
        left: deque[Batch | Assignment] = deque()
        while True:
            if not left:
                try:
                    left.append(await inbox.receive())
                except trio.EndOfChannel:
                    return
            await trio.sleep_until(max(next_start, trio.current_time()))
            started = trio.current_time()
            messages = self._collect(left, inbox)
            subscribers = self._route(messages)
            await self._write_all(subscribers)
            took = trio.current_time() - started
            self._measure(messages, took)
            next_start = started + max(self._interval, took / _DUTY)

    def _collect(
        self,
        left: deque[Batch | Assignment],
        inbox: trio.MemoryReceiveChannel[Batch | Assignment],
    ) -> list[Message]:
        """Read what is in the channel, up to a cycle's worth, and move the positions past it.

        `left`: what the last cycle did not take, and what this one does not.
        """
        messages: list[Message] = []
        room = self._cycle_bytes
        while room > 0:
            if not left:
                try:
                    left.append(inbox.receive_nowait())
                except (trio.WouldBlock, trio.EndOfChannel):
                    break
            room -= self._take(left, messages, room)
        return messages

    def _take(self, left: deque[Batch | Assignment], messages: list[Message], room: int) -> int:
        """Append the messages of the first item, up to `room` bytes; returns their bytes."""
        item = left.popleft()
        if isinstance(item, Assignment):
            self._assign(item)
            return 0
        size = 0
        received = self.stats.received
        for count, record in enumerate(item.records, 1):
            received[record.topic] += 1
            self._positions.setdefault(record.topic, {})[record.partition] = record.offset
            message = self._read(record, self._catalogue.topics[record.topic])
            if message is not None:
                message.order = len(messages)
                messages.append(message)
                size += len(message.value)
                if size >= room and count < len(item.records):
                    left.appendleft(Batch(item.records[count:]))
                    break
        return size

    def _assign(self, assignment: Assignment) -> None:
        self.partial = assignment.partial
        self._positions = {}
        for (topic, partition), offset in assignment.positions.items():
            self._positions.setdefault(topic, {})[partition] = offset

    def _read(self, record: Record, topic: Topic) -> Message | None:
        token = read_token(record)
        if isinstance(token, Unreadable):
            self._pass_by(record, token)
            return None
        content = read_value(record, self._max_record_bytes)
        if isinstance(content, Unreadable):
            self._pass_by(record, content)
            return None
        value, event = content
        # Delivered all the same: new publishers must not need a new server.
        self.stats.unknown_types += event not in topic.events
        return Message(record, token, topic.category, value)

    def _pass_by(self, record: Record, reason: Unreadable) -> None:
        """Count a record that cannot be a message; of each reason one is logged now and then."""
        self.stats.unreadable[reason] += 1
        now = trio.current_time()
        if now >= self._next_report.get(reason, -math.inf):
            self._next_report[reason] = now + _REPORT_SECONDS
            log.warning(
                "passed by a record",
                reason=reason,
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                so_far=self.stats.unreadable[reason],
            )

    def _route(self, messages: Sequence[Message]) -> list[Subscriber]:
        """Give every subscriber what is due to it, in order and each message once.

        Subscribers of one audience share one list. Only who is in several audiences with something
        due needs another, and those who share that combination share it too.
        """
        audiences: list[Audience] = []
        for message in messages:
            for audience in self._index.matching(message):
                if not audience.due:
                    audiences.append(audience)
                audience.due.append(message)
                message.wanted = True
        subscribers: list[Subscriber] = []
        merger = _Merger()
        for audience in audiences:
            due = audience.due
            audience.due = []
            for subscriber in audience.members:
                if subscriber.due is None:
                    subscriber.due = due
                    subscribers.append(subscriber)
                else:
                    subscriber.due = merger.merge(subscriber.due, due)
        return subscribers

    async def _write_all(self, subscribers: Sequence[Subscriber]) -> None:
        """Write each subscriber what is due to it; who was flushed or left meanwhile owes nothing.

        Neighbours often get the same messages under the same numbers: they share the bytes.
        """
        shared: Sequence[Message] | None = None
        shared_seq, shared_dialect, data = 0, Dialect.V1, b""
        slice_end = trio.current_time() + _SLICE_SECONDS
        for count, subscriber in enumerate(subscribers):
            due = subscriber.due
            if due is None:
                continue
            subscriber.due = None
            seq, dialect = subscriber.seq, subscriber.dialect
            if due is not shared or seq != shared_seq or dialect is not shared_dialect:
                shared, shared_seq, shared_dialect = due, seq, dialect
                data = encode_messages(due, seq + 1, dialect)
            self._deliver(subscriber, data, len(due))
            if not count % _SLICE_WRITES and trio.current_time() > slice_end:
                await trio.lowlevel.checkpoint()
                slice_end = trio.current_time() + _SLICE_SECONDS

    def _deliver(self, subscriber: Subscriber, data: bytes, messages: int) -> None:
        subscriber.seq += messages
        self.stats.messages_sent += messages
        subscriber.deliver(data)

    def _measure(self, messages: Sequence[Message], took: float) -> None:
        self.stats.cycle.observe(took)
        now_ms = time.time() * 1000
        for message in messages:
            # A record without a timestamp has -1.
            if message.wanted and message.record.timestamp >= 0:
                self.stats.age.observe(max(0.0, now_ms - message.record.timestamp) / 1000)


class _Merger:
    """Merges lists of due messages, each pair of lists once per cycle."""

    def __init__(self) -> None:
        # The lists are kept beside the result: an id is only unique while its object lives.
        self._merged: dict[
            tuple[int, int], tuple[Sequence[Message], Sequence[Message], Sequence[Message]]
        ] = {}

    def merge(self, first: Sequence[Message], second: Sequence[Message]) -> Sequence[Message]:
        """Both lists' messages, each once, in the cycle's order."""
        key = id(first), id(second)
        known = self._merged.get(key)
        if known is None:
            both = {message.order: message for message in (*first, *second)}
            known = [both[order] for order in sorted(both)], first, second
            self._merged[key] = known
        return known[0]
