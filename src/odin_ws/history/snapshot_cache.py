"""The last message of each channel: the state a subscriber with `snapshot` begins with."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Collection
from operator import attrgetter
from typing import Final

from odin_ws.catalogue import Catalogue
from odin_ws.history.history import retained_bytes
from odin_ws.pattern import find_channels
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.records import TopicPartition
from odin_ws.steps import STEP_ITEMS, Steps

__all__ = ["SnapshotCache"]

# The category of a message is compared with a set: 0.05 us each.
_COMPARED: Final = 16 * STEP_ITEMS


class SnapshotCache:
    """The newest message of each channel, up to `max_bytes`: the longest unchanged go first."""

    def __init__(self, catalogue: Catalogue, max_bytes: int) -> None:
        self.size = 0
        self._catalogue = catalogue
        self._max_bytes = max_bytes
        # In the order of their last change. The first of a plain dict is found by passing over all
        # places that were given up before it: 7 us of each record, once the limit was reached.
        self._last: OrderedDict[str, ChannelMessage] = OrderedDict()

    def __len__(self) -> int:
        """How many channels have one."""
        return len(self._last)

    def remember(self, message: ChannelMessage) -> None:
        """A channel has changed."""
        before = self._last.get(message.channel)
        self._last[message.channel] = message
        self.size += retained_bytes(message)
        if before is not None:
            self._last.move_to_end(message.channel)
            self.size -= retained_bytes(before)
        while self.size > self._max_bytes:
            self.forget(next(iter(self._last)))

    def forget(self, channel: str) -> None:
        """A channel is no more: its key was deleted (a null value)."""
        gone = self._last.pop(channel, None)
        if gone is not None:
            self.size -= retained_bytes(gone)

    def forget_category(self, category: str) -> None:
        """Its topic was recreated: what its channels were is no state any more."""
        for message in [one for one in self._last.values() if one.category == category]:
            self.forget(message.channel)

    def forget_beyond(self, key: TopicPartition, offset: int) -> None:
        """A partition lost its records behind `offset`: channels they were the last of have none.

        What came before them is not kept here.
        """
        gone = [
            one.channel
            for one in self._last.values()
            if (one.record.topic, one.record.partition) == key and one.record.offset > offset
        ]
        for channel in gone:
            self.forget(channel)

    def matching(self, patterns: Collection[str], until: int) -> Steps[list[ChannelMessage]]:
        """The last messages of all channels that a pattern matches, each once, in order.

        `until`: a place in the hub's order; channels that have a message behind it are left out.
        """
        channels = yield from find_channels(list(patterns), self._catalogue.categories)
        named = channels.named
        if not channels.whole:
            found = [self._last[name] for name in named if name in self._last]
            return [one for one in sorted(found, key=attrgetter("order")) if one.order <= until]
        # They stand in order: what changed last is last.
        found = []
        for count, message in enumerate(list(self._last.values()), 1):
            if message.category in channels.whole or message.channel in named:
                found.append(message)
            if not count % _COMPARED:
                yield
        return found[: bisect_right(found, until, key=attrgetter("order"))]
