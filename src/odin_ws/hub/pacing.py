"""Pacing (`max_rate`): limits a subscription to the newest message per channel at a rate."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from itertools import count
from operator import attrgetter
from typing import Final, NamedTuple

from odin_ws.hub.held_messages import NOTHING, Extent, HeldMessages
from odin_ws.hub.stats import HubStats
from odin_ws.hub.subscriber import Due, MarkedDue, Merger, Subscriber
from odin_ws.hub.subscription_index import PacedSets, SubscriberSet
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.records import TopicPartition

__all__ = ["Pace", "Pacer"]

# Slots are floats: a release within this many seconds is due now.
_TOLERANCE: Final = 0.001


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
        self.held = NOTHING


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
        # The paces that hold messages, by subscriber: a step looks only at subscribers, each of
        # which may have 200 rates.
        self._holding: dict[Subscriber, dict[Pace, None]] = {}

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

    def hold(self, paced: Sequence[PacedSets]) -> None:
        """Hold messages for sets with a rate, after all sets without one got their messages.

        If several subscriptions of a client match a message, the fastest one delivers it: a
        subscription without a rate, otherwise the one with the highest rate.
        """
        news = _news_by_pace(paced)
        takers = Counter((id(pace.held), id(messages)) for pace, messages in news)
        # The objects of all ids live until the end: `news` has the messages, and the paces that
        # are still to come have their held messages.
        extended: dict[tuple[int, int], HeldMessages] = {}
        for pace, messages in news:
            both = id(pace.held), id(messages)
            held = extended.get(both)
            if held is None:
                held = extended[both] = pace.held.for_holders(takers[both])
                held.extend(messages)
            self._begin(pace, held)
        for sets in paced:
            sets.pending = Due()

    def _begin(self, pace: Pace, held: HeldMessages) -> None:
        """Let a pace hold messages, and schedule their release."""
        subscriber = pace.subscriber
        assert subscriber is not None
        holding = self._holding.setdefault(subscriber, {})
        if held.size > self._max_bytes:
            pace.next_at = -math.inf
            holding.pop(pace, None)
        pace.held = held
        if pace not in holding:
            holding[pace] = None
            heappush(self._schedule, (pace.next_at, next(self._number), pace))

    def _end(self, pace: Pace) -> HeldMessages:
        """Let a pace hold nothing; returns what it held."""
        held, pace.held = pace.held, NOTHING
        subscriber = pace.subscriber
        if held is not NOTHING and subscriber is not None:
            held.holders -= 1
            holding = self._holding[subscriber]
            del holding[pace]
            if not holding:
                del self._holding[subscriber]
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
        pending_too = [subscriber for subscriber in self._holding if subscriber.pending is not None]
        if not pending_too:
            return
        # By pending messages, which are kept with the result.
        extents: dict[int, tuple[Extent, Due]] = {}
        compared: list[tuple[Pace, Extent]] = []
        for subscriber in pending_too:
            pending = subscriber.pending
            assert pending is not None
            known = extents.get(id(pending))
            if known is None:
                known = extents[id(pending)] = Extent(pending), pending
            compared += [(pace, known[0]) for pace in self._holding[subscriber]]
        takers = Counter((id(pace.held), id(extent)) for pace, extent in compared)
        # By held messages, which are kept with the result, and extent.
        trimmed: dict[tuple[int, int], tuple[_Trimmed, HeldMessages]] = {}
        # By pending messages, which are kept with the result, and marks.
        marked: dict[tuple[int, int, bool], tuple[MarkedDue, Due]] = {}
        for pace, extent in compared:
            before = pace.held
            key = id(before), id(extent)
            found = trimmed.get(key)
            if found is None:
                found = trimmed[key] = _trim(before, extent, takers[key]), before
            after, skipped, ahead = found[0]
            self._mark(pace, skipped, marked, ahead=ahead)
            pace.held = after
            if not after.newest:
                self._end(pace)

    def _mark(
        self,
        pace: Pace,
        skipped: int,
        marked: dict[tuple[int, int, bool], tuple[MarkedDue, Due]],
        *,
        ahead: bool,
    ) -> None:
        """Mark the pending messages of a pace's subscriber."""
        subscriber = pace.subscriber
        assert subscriber is not None
        pending = subscriber.pending
        assert pending is not None
        ahead |= pending.ahead
        if not skipped and ahead is pending.ahead:
            return
        self._stats.messages_skipped += skipped
        key = id(pending), skipped, ahead
        found = marked.get(key)
        if found is None:
            due = MarkedDue(pending, skipped=pending.skipped + skipped, ahead=ahead)
            found = marked[key] = due, pending
        pending.receivers -= 1
        found[0].receivers += 1
        subscriber.pending = found[0]

    def release(self, now: float) -> list[Subscriber]:
        """Release due messages; returns the subscribers without pending messages before."""
        subscribers: list[Subscriber] = []
        unmerged: dict[Subscriber, list[Due]] = {}
        schedule = self._schedule
        while schedule and schedule[0][0] <= now + _TOLERANCE:
            _, _, pace = heappop(schedule)
            if pace.held is NOTHING or pace.next_at > now + _TOLERANCE:
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
            if pace.held is not NOTHING
        ]
        if lists:
            subscriber.pending = lists[0] if len(lists) == 1 else Merger().merge(lists)

    def is_passed(self, subscriber: Subscriber, messages: Sequence[ChannelMessage]) -> bool:
        """Return whether these messages overtake held ones of a subscriber in a partition."""
        paces = (subscriber.paces or {}).values()
        furthest = Extent(messages).furthest
        return any(pace.held.is_passed_by(furthest) for pace in paces)

    def first_held(self, subscriber: Subscriber) -> dict[TopicPartition, int]:
        """Return by partition the lowest offset of a subscriber's held messages."""
        first: dict[TopicPartition, int] = {}
        for pace in (subscriber.paces or {}).values():
            for place in pace.held.places:
                offset = pace.held.first(place)
                if offset is not None:
                    key = TopicPartition(*place)
                    first[key] = min(offset, first.get(key, offset))
        return first


def _rate(subscriber_set: SubscriberSet) -> float:
    max_rate = subscriber_set.options.max_rate
    assert max_rate is not None, subscriber_set.pattern
    return max_rate


def _news_by_pace(paced: Sequence[PacedSets]) -> list[tuple[Pace, Sequence[ChannelMessage]]]:
    """Return the new messages of each pace."""
    by_subscriber: dict[Subscriber, list[SubscriberSet]] = {}
    every = []
    for sets in paced:
        for subscriber_set in sets.members:
            subscriber_set.pending = sets.pending
            every.append(subscriber_set)
    for subscriber_set in sorted(every, key=_rate, reverse=True):
        for subscriber in subscriber_set.members:
            by_subscriber.setdefault(subscriber, []).append(subscriber_set)
    # By the sets and the pending messages of a client, which live until the end.
    shared: dict[tuple[int, ...], list[tuple[float, Sequence[ChannelMessage]]]] = {}
    news: list[tuple[Pace, Sequence[ChannelMessage]]] = []
    for subscriber, found in by_subscriber.items():
        key = (id(subscriber.pending), *map(id, found))
        by_rate = shared.get(key)
        if by_rate is None:
            by_rate = shared[key] = _by_rate(found, subscriber.pending or ())
        assert subscriber.paces is not None, found[0].pattern
        news += [(subscriber.paces[rate], messages) for rate, messages in by_rate]
    return news


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


class _Trimmed(NamedTuple):
    """The messages that stay held, how many do not, and whether pending ones overtake them."""

    held: HeldMessages
    skipped: int
    ahead: bool


def _trim(held: HeldMessages, extent: Extent, holders: int) -> _Trimmed:
    """Compare held with pending messages, for some holders of the held ones."""
    skipped = 0
    if older := held.older(extent.latest):
        before = held.count
        held = held.for_holders(holders)
        held.discard(older)
        skipped = before - held.count
    return _Trimmed(held, skipped, held.is_passed_by(extent.furthest))
