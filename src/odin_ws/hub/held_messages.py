"""Messages that a rate holds back: the newest of each channel, shared by clients with the same."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush
from operator import attrgetter
from typing import Final

from odin_ws.hub.subscriber import MarkedDue
from odin_ws.protocol.envelope import ChannelMessage

__all__ = ["NOTHING", "Extent", "HeldMessages"]

# A heap of offsets is made anew with this many outdated entries more than present ones.
_OUTDATED: Final = 64


class HeldMessages:
    """The newest message of each channel since the last release.

    Holders with the same messages share one object. A change for all of them happens in place,
    a change for some of them in a copy for these: so a step costs each holder no more than the
    step's messages, however many are held.
    """

    __slots__ = ("_due", "_offsets", "count", "holders", "newest", "size")

    def __init__(self) -> None:
        self.newest: dict[str, ChannelMessage] = {}
        self.count = 0
        """The number of messages since the last release, including replaced ones."""
        self.size = 0
        """Bytes of the newest messages' values."""
        self.holders = 0
        """How many paces hold this object; not counted for `NOTHING`."""
        self._due: MarkedDue | None = None
        # Per topic and partition a heap of offsets and channels, with outdated entries; built on
        # demand, since only few clients need it.
        self._offsets: dict[tuple[str, int], list[tuple[int, str]]] | None = None

    def for_holders(self, number: int) -> HeldMessages:
        """Return an object that some holders may change: this one if they are all, or a copy."""
        if self.holders == number:
            return self
        copy = HeldMessages()
        copy.newest, copy.count, copy.size = dict(self.newest), self.count, self.size
        copy.holders = number
        if self is not NOTHING:
            self.holders -= number
        return copy

    def extend(self, messages: Sequence[ChannelMessage]) -> None:
        """Add newer messages."""
        newest, offsets = self.newest, self._offsets
        for message in messages:
            old = newest.get(message.channel)
            self.size += len(message.value) - (0 if old is None else len(old.value))
            newest[message.channel] = message
            if offsets is not None:
                self._add_offset(offsets, message)
        self.count += len(messages)
        self._due = None

    def older(self, newer: Mapping[str, int]) -> list[str]:
        """Return the channels that have a newer message.

        `newer`: by channel the hub order of its last message.
        """
        newest = self.newest
        # From the smaller of the two: a client may have 199 rates, each with a few channels.
        return [
            channel
            for channel in (newer if len(newer) < len(newest) else newest)
            if channel in newest and newest[channel].order < newer.get(channel, -1)
        ]

    def discard(self, channels: Collection[str]) -> None:
        """Remove channels."""
        for channel in channels:
            self.size -= len(self.newest.pop(channel).value)
        # If nothing is left, the next release reports the replaced messages.
        self.count = self.count - len(channels) if self.newest else 0
        self._due = None

    @property
    def due(self) -> MarkedDue:
        """The newest messages in the hub's order, one list for all holders."""
        if self._due is None:
            newest = sorted(self.newest.values(), key=attrgetter("order"))
            self._due = MarkedDue(newest, skipped=self.count - len(newest))
        return self._due

    @property
    def places(self) -> Collection[tuple[str, int]]:
        """The topics and partitions of messages since the last release."""
        return self._heaps.keys()

    def first(self, place: tuple[str, int]) -> int | None:
        """Return the lowest held offset of a topic and partition; None if there is none."""
        offsets = self._heaps.get(place)
        while offsets:
            offset, channel = offsets[0]
            message = self.newest.get(channel)
            if message is not None and message.record.offset == offset:
                record = message.record
                if (record.topic, record.partition) == place:
                    return offset
            heappop(offsets)
        return None

    def is_passed_by(self, furthest: Mapping[tuple[str, int], int]) -> bool:
        """Return whether other messages overtake a held message of their partition.

        `furthest`: by topic and partition the highest offset of those messages.
        """
        return any(
            first is not None and first < offset
            for place, offset in furthest.items()
            for first in (self.first(place),)
        )

    @property
    def _heaps(self) -> dict[tuple[str, int], list[tuple[int, str]]]:
        if self._offsets is None:
            self._offsets = {}
            for message in self.newest.values():
                record = message.record
                place = record.topic, record.partition
                self._offsets.setdefault(place, []).append((record.offset, message.channel))
            for offsets in self._offsets.values():
                heapify(offsets)
        return self._offsets

    def _add_offset(
        self, heaps: dict[tuple[str, int], list[tuple[int, str]]], message: ChannelMessage
    ) -> None:
        record = message.record
        offsets = heaps.setdefault((record.topic, record.partition), [])
        heappush(offsets, (record.offset, message.channel))
        if len(offsets) > 2 * len(self.newest) + _OUTDATED:
            self._offsets = None


NOTHING: Final = HeldMessages()
"""The empty messages that every pace has between a release and its next message. Never changed."""


class Extent:
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
