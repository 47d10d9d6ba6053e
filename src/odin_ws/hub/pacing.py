"""Pacing (`max_rate`): limits a subscription to the newest message per channel at a rate.

Delayed messages are shared: subscribers with the same messages hold one object, which is extended
once per step for all of them, and encoded once when it is released.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from heapq import heappop, heappush
from itertools import count
from operator import attrgetter
from typing import Final

from odin_ws.hub.stats import HubStats
from odin_ws.hub.subscriber import Due, MarkedDue, Merger, Subscriber
from odin_ws.hub.subscription_index import SubscriberSet
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.records import TopicPartition

__all__ = ["Pace", "PacedMessages", "Pacer"]

# Slots are floats: a release within this many seconds is due now.
_TOLERANCE: Final = 0.001


class PacedMessages:
    """The newest message of each channel since the last release. Immutable."""

    __slots__ = ("_due", "_first", "count", "newest", "size")

    def __init__(self, newest: dict[str, ChannelMessage], number: int, size: int) -> None:
        self.newest = newest
        self.count = number
        """The number of messages since the last release, including replaced ones."""
        self.size = size
        """Bytes of the newest messages' values."""
        self._due: MarkedDue | None = None
        # The lowest offset per partition; computed on demand.
        self._first: dict[tuple[str, int], int] | None = None

    def with_messages(self, messages: Sequence[ChannelMessage]) -> PacedMessages:
        """Return a copy with more messages."""
        newest, size = dict(self.newest), self.size
        for message in messages:
            old = newest.get(message.channel)
            size += len(message.value) - (0 if old is None else len(old.value))
            newest[message.channel] = message
        return PacedMessages(newest, self.count + len(messages), size)

    def without_older(self, newer: Mapping[str, int]) -> PacedMessages:
        """Return a copy without channels that have a newer message.

        `newer`: by channel the hub order of its last message.
        """
        newest = self.newest
        # From the smaller of the two: a client may have 199 rates, each with a few channels.
        gone = {
            channel
            for channel in (newer if len(newer) < len(newest) else newest)
            if channel in newest and newest[channel].order < newer.get(channel, -1)
        }
        if not gone:
            return self
        remaining = {channel: message for channel, message in newest.items() if channel not in gone}
        size = sum(len(message.value) for message in remaining.values())
        # If nothing is left, the next release reports the replaced messages.
        return PacedMessages(remaining, self.count - len(gone) if remaining else 0, size)

    @property
    def due(self) -> MarkedDue:
        """The newest messages in the hub's order, one list for all holders."""
        if self._due is None:
            newest = sorted(self.newest.values(), key=attrgetter("order"))
            self._due = MarkedDue(newest, skipped=self.count - len(newest))
        return self._due

    @property
    def first(self) -> dict[tuple[str, int], int]:
        """By topic and partition the lowest held offset."""
        if self._first is None:
            self._first = {}
            for message in self.newest.values():
                record = message.record
                key = record.topic, record.partition
                self._first[key] = min(record.offset, self._first.get(key, record.offset))
        return self._first

    def is_passed_by(self, furthest: Mapping[tuple[str, int], int]) -> bool:
        """Return whether other messages overtake a held message of their partition.

        `furthest`: by topic and partition the highest offset of those messages.
        """
        return any(offset < furthest.get(place, -1) for place, offset in self.first.items())


_NOTHING: Final = PacedMessages({}, 0, 0)


class _Extent:
    """How far some messages reach: compared with what each rate of a subscriber holds."""

    __slots__ = ("furthest", "latest")

    def __init__(self, messages: Iterable[ChannelMessage]) -> None:
        self.latest: dict[str, int] = {}
        """By channel the hub order of its last message."""
        self.furthest: dict[tuple[str, int], int] = {}
        """By topic and partition the highest offset."""
        for message in messages:
            record = message.record
            place = record.topic, record.partition
            self.latest[message.channel] = max(message.order, self.latest.get(message.channel, -1))
            self.furthest[place] = max(record.offset, self.furthest.get(place, -1))


class Pace:
    """The held messages of one subscriber at one rate."""

    __slots__ = ("held", "next_at", "period", "subscriber")

    def __init__(self, subscriber: Subscriber, max_rate: float) -> None:
        self.subscriber: Subscriber | None = subscriber
        """None once the subscriber has left."""
        self.period = 1 / max_rate
        """Seconds between two releases."""
        self.next_at = -math.inf
        """The earliest time of the next release; Trio's seconds."""
        self.held = _NOTHING


class Pacer:
    """Delays messages of subscriptions with `max_rate` until they are due.

    Args:
        max_bytes: limit of one subscriber's held messages; above it they are sent early.
        stats: counts replaced messages.
    """

    def __init__(self, max_bytes: int, stats: HubStats) -> None:
        self._max_bytes = max_bytes
        self._stats = stats
        # Times of releases; entries of earlier releases are skipped.
        self._schedule: list[tuple[float, int, Pace]] = []
        self._number = count()
        # All paces that hold messages.
        self._holding: dict[Pace, None] = {}

    @property
    def next_at(self) -> float:
        """The time of the next release; infinite if nothing is held."""
        return self._schedule[0][0] if self._holding else math.inf

    def follow(self, subscriber: Subscriber) -> None:
        """Update the paces of a subscriber after its subscriptions have changed."""
        options = () if subscriber.options is None else subscriber.options.values()
        rates = {option.max_rate for option in options if option.max_rate is not None}
        before = subscriber.paces or {}
        paces = {rate: before.get(rate) or Pace(subscriber, rate) for rate in rates}
        subscriber.paces = paces or None

    def leave(self, subscriber: Subscriber) -> None:
        """Remove a subscriber and its held messages."""
        for pace in (subscriber.paces or {}).values():
            self._end(pace)
            # The schedule has the pace until the time of its release.
            pace.subscriber = None
        subscriber.paces = None

    # ---- in the steps of a cycle

    def hold(self, subscriber_sets: Sequence[SubscriberSet]) -> None:
        """Hold messages for sets with a rate, after all sets without one got their messages.

        If several subscriptions of a client match a message, the fastest one delivers it: a
        subscription without a rate, otherwise the one with the highest rate.
        """
        by_subscriber: dict[Subscriber, list[SubscriberSet]] = {}
        for subscriber_set in sorted(subscriber_sets, key=_rate, reverse=True):
            for subscriber in subscriber_set.members:
                by_subscriber.setdefault(subscriber, []).append(subscriber_set)
        # By the sets and the pending messages of a client. The objects of all ids live until the
        # end: the sets keep their messages.
        shared: dict[tuple[int, ...], list[tuple[float, Sequence[ChannelMessage]]]] = {}
        extended: dict[tuple[int, int], tuple[PacedMessages, PacedMessages]] = {}
        for subscriber, sets in by_subscriber.items():
            key = (id(subscriber.pending), *map(id, sets))
            found = shared.get(key)
            if found is None:
                found = shared[key] = _by_rate(sets, subscriber.pending or ())
            for rate, news in found:
                assert subscriber.paces is not None, sets[0].pattern
                pace = subscriber.paces[rate]
                both = id(pace.held), id(news)
                # The object of an id is kept with the result.
                known = extended.get(both)
                if known is None:
                    known = extended[both] = pace.held.with_messages(news), pace.held
                self._begin(pace, known[0])
        for subscriber_set in subscriber_sets:
            subscriber_set.pending = Due()

    def _begin(self, pace: Pace, held: PacedMessages) -> None:
        """Let a pace hold messages, and schedule their release."""
        if held.size > self._max_bytes:
            pace.next_at = -math.inf
            self._holding.pop(pace, None)
        pace.held = held
        if pace not in self._holding:
            self._holding[pace] = None
            heappush(self._schedule, (pace.next_at, next(self._number), pace))

    def _end(self, pace: Pace) -> PacedMessages:
        """Let a pace hold nothing; returns what it held."""
        held, pace.held = pace.held, _NOTHING
        self._holding.pop(pace, None)
        return held

    def _release(self, pace: Pace, now: float) -> Due:
        """Return the messages of a pace, to be sent now."""
        due = self._end(pace).due
        due.receivers += 1
        pace.next_at = now + pace.period
        self._stats.messages_skipped += due.skipped
        return due

    def mark(self) -> None:
        """Compare each subscriber's pending messages with its held ones.

        A held message is dropped if a newer message of its channel is pending, by a subscription
        with another filter or rate. Messages that overtake a held one in their partition are
        marked.
        """
        if not self._holding:
            return
        # By held and pending messages; both are kept with the results.
        compared: dict[tuple[int, int], tuple[PacedMessages, Due, PacedMessages, Due]] = {}
        extents: dict[int, tuple[_Extent, Due]] = {}
        for pace in list(self._holding):
            subscriber = pace.subscriber
            pending = None if subscriber is None else subscriber.pending
            if subscriber is None or pending is None:
                continue
            key = id(pace.held), id(pending)
            found = compared.get(key)
            if found is None:
                known = extents.get(id(pending))
                extent = _Extent(pending) if known is None else known[0]
                held, due = _compared(pace.held, pending, extent)
                found = compared[key] = held, due, pace.held, pending
                extents[id(pending)] = extent, pending
                # The same messages, with other marks.
                extents[id(due)] = extent, due
            held, due, before, _ = found
            if due is not pending:
                pending.receivers -= 1
                due.receivers += 1
                subscriber.pending = due
            if held is not before:
                self._stats.messages_skipped += before.count - held.count
                pace.held = held
                if not held.newest:
                    self._end(pace)

    def release(self, now: float) -> list[Subscriber]:
        """Release due messages; returns the subscribers without pending messages before."""
        subscribers: list[Subscriber] = []
        unmerged: dict[Subscriber, list[Due]] = {}
        schedule = self._schedule
        while schedule and schedule[0][0] <= now + _TOLERANCE:
            _, _, pace = heappop(schedule)
            if pace not in self._holding or pace.next_at > now + _TOLERANCE:
                continue
            subscriber = pace.subscriber
            assert subscriber is not None
            due = self._release(pace, now)
            if subscriber.pending is None:
                subscriber.pending = due
                subscribers.append(subscriber)
            else:
                due.receivers -= 1
                unmerged.setdefault(subscriber, [subscriber.pending]).append(due)
        merge = Merger().merge
        for subscriber, lists in unmerged.items():
            subscriber.pending = merge(lists)
        return subscribers

    # ---- one subscriber, at any time

    def take(self, subscriber: Subscriber, now: float) -> None:
        """Release all held messages of a subscriber before their time."""
        pending = subscriber.pending
        lists = [] if pending is None else [pending]
        lists += [
            self._release(pace, now)
            for pace in (subscriber.paces or {}).values()
            if pace in self._holding
        ]
        if lists:
            subscriber.pending = lists[0] if len(lists) == 1 else Merger().merge(lists)

    def is_passed(self, subscriber: Subscriber, messages: Sequence[ChannelMessage]) -> bool:
        """Return whether these messages overtake held ones of a subscriber in a partition."""
        paces = (subscriber.paces or {}).values()
        furthest = _Extent(messages).furthest
        return any(pace.held.is_passed_by(furthest) for pace in paces)

    def first_held(self, subscriber: Subscriber) -> dict[TopicPartition, int]:
        """Return by partition the lowest offset of a subscriber's held messages."""
        first: dict[TopicPartition, int] = {}
        for pace in (subscriber.paces or {}).values():
            for place, offset in pace.held.first.items():
                key = TopicPartition(*place)
                first[key] = min(offset, first.get(key, offset))
        return first


def _rate(subscriber_set: SubscriberSet) -> float:
    max_rate = subscriber_set.options.max_rate
    assert max_rate is not None, subscriber_set.pattern
    return max_rate


def _by_rate(
    sets: Sequence[SubscriberSet], delivered: Iterable[ChannelMessage]
) -> list[tuple[float, Sequence[ChannelMessage]]]:
    """Return by rate the new messages of a client's sets, in the hub's order.

    `sets`: the fastest first. A message belongs to the first set that has it; `delivered` messages
    belong to none.
    """
    if len(sets) == 1 and not delivered:
        (only,) = sets
        return [(_rate(only), only.pending)]
    known = {message.order for message in delivered}
    by_rate: dict[float, list[ChannelMessage]] = {}
    for subscriber_set in sets:
        news = [message for message in subscriber_set.pending if message.order not in known]
        if news:
            by_rate.setdefault(_rate(subscriber_set), []).extend(news)
            known.update(message.order for message in news)
    for messages in by_rate.values():
        # Messages of one channel may come from sets with different filters.
        messages.sort(key=attrgetter("order"))
    return list(by_rate.items())


def _compared(held: PacedMessages, pending: Due, extent: _Extent) -> tuple[PacedMessages, Due]:
    """Return the messages that stay held, and the pending messages with their marks."""
    remaining = held.without_older(extent.latest)
    skipped = held.count - remaining.count
    ahead = pending.ahead or remaining.is_passed_by(extent.furthest)
    if not skipped and ahead is pending.ahead:
        return remaining, pending
    return remaining, MarkedDue(pending, skipped=pending.skipped + skipped, ahead=ahead)
