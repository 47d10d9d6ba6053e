"""The ids of events: in a replay the client's own positions, then the hub's.

An id has everything that a resume needs, so a client may disconnect after any event
(docs/design/2026-11-30-event-ids.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any
from weakref import WeakValueDictionary

from odin_ws.hub import Hub, Subscriber
from odin_ws.protocol.envelope import ChannelMessage, Dialect
from odin_ws.protocol.event_id import EventId, EventIdWriter
from odin_ws.protocol.permessage_deflate import NO_WINDOW
from odin_ws.protocol.wire_format import EventIds, Frames, WireFormat

__all__ = ["EventFormats", "LiveEventIds", "PacedEventIds", "ReplayEventIds", "event_format"]

# `{topic: {partition: offset}}`
Positions = Mapping[str, Mapping[int, int]]


class LiveEventIds:
    """The ids of clients that have been sent everything up to the hub's positions.

    Shared by all of them that are subscribed to the same topics.

    Args:
        hub: whose positions they are.
        topics: of the subscriptions.
        elsewhere: positions in partitions that other instances serve, as the clients sent them.
    """

    def __init__(self, hub: Hub, topics: Sequence[str], elsewhere: EventId) -> None:
        self._hub = hub
        self._topics = topics
        self._elsewhere = elsewhere
        # The hub's positions by the last assignment: another one has other partitions or ids.
        self._assigned: Positions | None = None
        self._offsets: dict[tuple[str, int], int] = {}
        self._writer = EventIdWriter(EventId({}))

    def now(self) -> bytes:
        """The id of a client to whom nothing is due."""
        self._follow()
        return self._writer.text

    def of(
        self,
        messages: Sequence[ChannelMessage],
        ends: Sequence[int],
        *,
        replay: bool,  # noqa: ARG002
    ) -> list[bytes]:
        """See EventIds.

        Behind the last message the client is where the hub is. Before a message it is where the hub
        is, but in the partition of that message only right before its offset.
        """
        self._follow()
        writer, found = self._writer.copy(), []
        for later in _after_each(messages, ends):
            for message in later:
                record = message.record
                writer.move(record.topic, record.partition, record.offset - 1)
            found.append(writer.text)
        found.reverse()
        return found

    def _follow(self) -> None:
        """Move to the hub's positions."""
        assigned = self._hub.stream.positions
        if assigned is not self._assigned:
            self._begin(assigned)
            return
        offsets, writer = self._offsets, self._writer
        for topic in self._topics:
            for partition, offset in assigned.get(topic, {}).items():
                key = topic, partition
                known = offsets.get(key)
                if known is None:
                    self._begin(assigned)
                    return
                if known != offset:
                    offsets[key] = offset
                    writer.move(topic, partition, offset)

    def _begin(self, assigned: Positions) -> None:
        here = {topic: assigned.get(topic, {}) for topic in self._topics}
        state = _with_others(here, self._hub.stream.ids_of(self._topics), self._elsewhere)
        self._assigned = assigned
        self._offsets = {
            (topic, partition): offset
            for topic, partitions in state.positions.items()
            for partition, offset in partitions.items()
        }
        self._writer = EventIdWriter(state)


class PacedEventIds:
    """The ids of a live client with a `max_rate`: its positions stay before delayed messages.

    Args: those of LiveEventIds, and the subscriber.
    """

    def __init__(
        self, hub: Hub, topics: Sequence[str], elsewhere: EventId, subscriber: Subscriber
    ) -> None:
        self._hub = hub
        self._topics = topics
        self._elsewhere = elsewhere
        self._subscriber = subscriber

    def now(self) -> bytes:
        """The id of a client to whom nothing is due."""
        return str(self._state()).encode("ascii")

    def of(
        self,
        messages: Sequence[ChannelMessage],
        ends: Sequence[int],
        *,
        replay: bool,  # noqa: ARG002
    ) -> list[bytes]:
        """See EventIds. A message that overtakes others moves nothing."""
        state, found = self._state(), []
        writer = EventIdWriter(state)
        offsets = {topic: dict(partitions) for topic, partitions in state.positions.items()}
        for later in _after_each(messages, ends):
            for message in later:
                record = message.record
                own = offsets[record.topic]
                if record.offset <= own[record.partition]:
                    own[record.partition] = record.offset - 1
                    writer.move(record.topic, record.partition, record.offset - 1)
            found.append(writer.text)
        found.reverse()
        return found

    def _state(self) -> EventId:
        positions = self._hub.sent_positions(self._subscriber, self._topics)
        return _with_others(positions, self._hub.stream.ids_of(self._topics), self._elsewhere)


def _after_each(
    messages: Sequence[ChannelMessage], ends: Sequence[int]
) -> Iterator[Iterator[ChannelMessage]]:
    """From the last event to the first: the messages between its end and the next one's, backwards.

    So nothing is built for a message within a batch.
    """
    last = len(messages)
    for end in reversed(ends):
        yield reversed(messages[end:last])
        last = end


def _with_others(positions: Positions, ids: Mapping[str, str], elsewhere: EventId) -> EventId:
    """Positions here, and those in partitions that other instances serve."""
    merged = {}
    for topic, partitions in positions.items():
        # Positions of a recreated topic are invalid.
        is_same = elsewhere.ids.get(topic) == ids.get(topic)
        others = elsewhere.positions.get(topic, {}) if is_same else {}
        merged[topic] = {**others, **partitions}
    return EventId(merged, ids)


class ReplayEventIds:
    """The ids of a client during a replay: its own positions, tracked for it.

    The algorithm is that of docs/protocol.md, Keeping positions.

    Args:
        start: the positions from which the client resumes; None for a new subscription.
        snapshot: whether the replay begins with a snapshot.
    """

    def __init__(self, start: EventId | None, *, snapshot: bool) -> None:
        self._positions: dict[str, dict[int, int]] = {}
        self._ids: dict[str, str] = {}
        if start is not None:
            self._positions = {topic: dict(own) for topic, own in start.positions.items()}
            self._ids = dict(start.ids)
        self._in_snapshot = snapshot
        # Replayed messages still to come; None if unknown.
        self._replayed: int | None = None
        self._topics: frozenset[str] = frozenset()
        self._writer: EventIdWriter | None = None

    def now(self) -> bytes | None:
        """The id after everything sent so far; None before the client has positions."""
        return self._current().text if self._positions else None

    def of(
        self, messages: Sequence[ChannelMessage], ends: Sequence[int], *, replay: bool
    ) -> list[bytes]:
        """See EventIds."""
        found = []
        for begin, end in pairwise((0, *ends)):
            for message in messages[begin:end]:
                self._move(message, replay=replay)
            found.append(self._current().text)
        return found

    def _move(self, message: ChannelMessage, *, replay: bool) -> None:
        record = message.record
        own = self._positions.setdefault(record.topic, {})
        known = own.get(record.partition)
        if replay and self._replayed:
            self._replayed -= 1
            if not self._replayed and self._in_snapshot:
                self._in_snapshot, self._writer = False, None
        if known is None:
            self._writer = None
        if known is None or record.offset > known:
            own[record.partition] = record.offset
            if self._writer is not None:
                self._writer.move(record.topic, record.partition, record.offset)

    def _current(self) -> EventIdWriter:
        if self._writer is None:
            state = EventId(self._positions, self._ids, in_snapshot=self._in_snapshot)
            self._writer = EventIdWriter(state)
        return self._writer

    def apply(self, item: Mapping[str, Any]) -> None:
        """Update from an ack or a notice."""
        self._writer = None
        kind = item["type"]
        if kind in {"subscription_ack", "resume_ack"}:
            self._begin(item)
        elif kind == "replay_complete":
            self._in_snapshot = False
        is_feed = kind == "feed"
        for topic, topic_id in item.get("ids", {}).items():
            if not is_feed or topic in self._topics:
                self._name(topic, topic_id)
        for topic, offsets in item.get("positions", {}).items():
            if not is_feed or topic in self._topics:
                self._place(topic, offsets, back_only=is_feed)
        if kind == "replay_incomplete":
            for topic, spans in item["lost"].items():
                own = self._positions.setdefault(topic, {})
                for partition, (_, last) in spans.items():
                    own[int(partition)] = max(last, own.get(int(partition), -1))

    def _begin(self, ack: Mapping[str, Any]) -> None:
        self._topics = frozenset(ack["categories"].values())
        self._replayed = ack.get("replayed")
        if self._replayed == 0:
            self._in_snapshot = False
        # What another subscription had.
        for topic in self._positions.keys() - self._topics:
            del self._positions[topic]
            self._ids.pop(topic, None)

    def _name(self, topic: str, topic_id: str) -> None:
        if self._ids.get(topic, topic_id) != topic_id:
            # Another topic of the same name.
            self._positions[topic] = {}
        self._ids[topic] = topic_id

    def _place(self, topic: str, offsets: Mapping[str, int], *, back_only: bool) -> None:
        own = self._positions.setdefault(topic, {})
        for partition, offset in offsets.items():
            known = own.get(int(partition), offset)
            own[int(partition)] = min(offset, known) if back_only else offset


def event_format(frames: Frames, event_ids: EventIds) -> WireFormat:
    """The format of a stream of events."""
    return WireFormat(Dialect.V1, frames, NO_WINDOW, event_ids)


class EventFormats:
    """The formats of live streams: one for all that are subscribed to the same topics."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._formats: WeakValueDictionary[object, WireFormat] = WeakValueDictionary()

    def live(
        self, topics: Sequence[str], frames: Frames, start: EventId | None
    ) -> tuple[WireFormat, LiveEventIds]:
        """The format of a stream that has been sent everything, and where its ids come from."""
        elsewhere = self._elsewhere(topics, start)
        key = tuple(topics), frames, str(elsewhere)
        form = self._formats.get(key)
        if form is None or not isinstance(form.event_ids, LiveEventIds):
            form = event_format(frames, LiveEventIds(self._hub, topics, elsewhere))
            self._formats[key] = form
        assert isinstance(form.event_ids, LiveEventIds)
        return form, form.event_ids

    def paced(
        self,
        topics: Sequence[str],
        frames: Frames,
        start: EventId | None,
        subscriber: Subscriber,
    ) -> tuple[WireFormat, PacedEventIds]:
        """The same of a stream with a `max_rate`, which is its own."""
        event_ids = PacedEventIds(self._hub, topics, self._elsewhere(topics, start), subscriber)
        return event_format(frames, event_ids), event_ids

    def _elsewhere(self, topics: Sequence[str], start: EventId | None) -> EventId:
        """Positions that the client has in partitions that this instance does not serve.

        They are passed on, so that a member of a group that takes those over resumes there.
        """
        if start is None or not self._hub.stream.is_partial:
            return EventId({})
        here = self._hub.stream.partitions_of(topics)
        found = {}
        for topic in topics:
            others = start.positions.get(topic, {}).items()
            own = {one: offset for one, offset in others if one not in here[topic]}
            if own:
                found[topic] = own
        return EventId(found, {topic: start.ids[topic] for topic in found if topic in start.ids})
