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
    """The ids of clients to which everything up to the hub's positions was sent.

    Clients that are subscribed to the same topics share one object.

    Args:
        hub: the hub, for its positions.
        topics: the topics of the subscriptions.
        elsewhere: positions in partitions that other instances serve, as the clients sent them.
    """

    def __init__(self, hub: Hub, topics: Sequence[str], elsewhere: EventId) -> None:
        self._hub = hub
        self._topics = topics
        self._elsewhere = elsewhere
        # The hub's positions since its last assignment: another one has other partitions or ids.
        self._assigned: Positions | None = None
        self._offsets: dict[tuple[str, int], int] = {}
        self._writer = EventIdWriter(EventId({}))

    def now(self) -> bytes:
        """Return the id of a client without pending messages."""
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

        After the last event the client's positions are the hub's. After an earlier event they are
        right before the first message that follows in a partition, elsewhere the hub's too.
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
        """Update the positions to the hub's."""
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

    Args:
        hub: the hub, for its positions.
        topics: the topics of the subscriptions.
        elsewhere: positions in partitions that other instances serve, as the client sent them.
        subscriber: the client's subscriber in the hub.
    """

    def __init__(
        self, hub: Hub, topics: Sequence[str], elsewhere: EventId, subscriber: Subscriber
    ) -> None:
        self._hub = hub
        self._topics = topics
        self._elsewhere = elsewhere
        self._subscriber = subscriber

    def now(self) -> bytes:
        """Return the id of a client without pending messages."""
        return str(self._state()).encode("ascii")

    def of(
        self,
        messages: Sequence[ChannelMessage],
        ends: Sequence[int],
        *,
        replay: bool,  # noqa: ARG002
    ) -> list[bytes]:
        """See EventIds. A message that overtakes delayed ones moves no position."""
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
    """Yield per event, the last one first, the messages after it and up to the next event's end.

    The messages are in reverse order. No id is built for a message within a batch.
    """
    last = len(messages)
    for end in reversed(ends):
        yield reversed(messages[end:last])
        last = end


def _with_others(positions: Positions, ids: Mapping[str, str], elsewhere: EventId) -> EventId:
    """Return these positions with those `elsewhere`, in partitions that other instances serve."""
    merged = {}
    for topic, partitions in positions.items():
        # Positions of a recreated topic are invalid.
        is_same = elsewhere.ids.get(topic) == ids.get(topic)
        others = elsewhere.positions.get(topic, {}) if is_same else {}
        merged[topic] = {**others, **partitions}
    return EventId(merged, ids)


class ReplayEventIds:
    """The ids of a client during a replay, from the client's own positions.

    Tracks these positions by the algorithm of docs/protocol.md, Keeping positions.

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
        """Return the id after everything sent so far; None before the client has positions."""
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
        """Update the positions from an ack or a notice."""
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
        # Topics of an earlier subscription.
        for topic in self._positions.keys() - self._topics:
            del self._positions[topic]
            self._ids.pop(topic, None)

    def _name(self, topic: str, topic_id: str) -> None:
        if self._ids.get(topic, topic_id) != topic_id:
            # The topic was recreated under the same name.
            self._positions[topic] = {}
        self._ids[topic] = topic_id

    def _place(self, topic: str, offsets: Mapping[str, int], *, back_only: bool) -> None:
        own = self._positions.setdefault(topic, {})
        for partition, offset in offsets.items():
            known = own.get(int(partition), offset)
            own[int(partition)] = min(offset, known) if back_only else offset


def event_format(frames: Frames, event_ids: EventIds) -> WireFormat:
    """Return the wire format of an event stream."""
    return WireFormat(Dialect.V1, frames, NO_WINDOW, event_ids)


class EventFormats:
    """The wire formats of live event streams; streams of the same topics share one."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._formats: WeakValueDictionary[object, WireFormat] = WeakValueDictionary()

    def live(
        self, topics: Sequence[str], frames: Frames, start: EventId | None
    ) -> tuple[WireFormat, LiveEventIds]:
        """Return the shared format of a stream without a running replay, and its event ids."""
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
        """Return the format of a live stream with a `max_rate`, which is not shared."""
        event_ids = PacedEventIds(self._hub, topics, self._elsewhere(topics, start), subscriber)
        return event_format(frames, event_ids), event_ids

    def _elsewhere(self, topics: Sequence[str], start: EventId | None) -> EventId:
        """Return the client's positions in partitions that this instance does not serve.

        Later ids contain these positions, so that the client can resume from them at the group
        members that serve these partitions.
        """
        if start is None or not self._hub.stream.is_partial:
            return EventId({})
        here = self._hub.stream.partitions_of(topics)
        found = {}
        for topic in topics:
            others = start.positions.get(topic, {}).items()
            own = {
                partition: offset for partition, offset in others if partition not in here[topic]
            }
            if own:
                found[topic] = own
        return EventId(found, {topic: start.ids[topic] for topic in found if topic in start.ids})
