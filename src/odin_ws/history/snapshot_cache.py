"""The snapshot cache: the last message of each channel, for subscribers with `snapshot`."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Collection
from itertools import islice
from operator import attrgetter
from typing import Final

from odin_ws.catalogue import Catalogue
from odin_ws.history.history import retained_bytes
from odin_ws.pattern import find_channels
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.records import TopicPartition
from odin_ws.steps import STEP_ITEMS, Steps

__all__ = ["SnapshotCache"]

# Messages compared per step: to look a category up in a set takes 0.05 us.
_COMPARED: Final = 16 * STEP_ITEMS


class SnapshotCache:
    """The last message of each channel, up to `max_bytes`; the longest unchanged go first."""

    def __init__(self, catalogue: Catalogue, max_bytes: int) -> None:
        self.size = 0
        self._catalogue = catalogue
        self._max_bytes = max_bytes
        # In the order of their last change. Not a plain dict: to find its first key Python skips
        # all deleted entries before it, which took 7 us of each record at the limit.
        self._last: OrderedDict[str, ChannelMessage] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of channels."""
        return len(self._last)

    def newest_tokens(self, maximum: int) -> list[str]:
        """Return the tokens of the `maximum` channels that changed last, each once."""
        newest = islice(reversed(self._last.values()), maximum)
        return list(dict.fromkeys(message.token for message in newest))

    def remember(self, message: ChannelMessage) -> None:
        """Store the new last message of a channel."""
        before = self._last.get(message.channel)
        self._last[message.channel] = message
        self.size += retained_bytes(message)
        if before is not None:
            self._last.move_to_end(message.channel)
            self.size -= retained_bytes(before)
        while self.size > self._max_bytes:
            self.forget(next(iter(self._last)))

    def forget(self, channel: str) -> None:
        """Remove a channel: its key was deleted by a record with a null value."""
        gone = self._last.pop(channel, None)
        if gone is not None:
            self.size -= retained_bytes(gone)

    def forget_category(self, category: str) -> None:
        """Remove the channels of a category whose topic was recreated."""
        for message in [message for message in self._last.values() if message.category == category]:
            self.forget(message.channel)

    def forget_beyond(self, key: TopicPartition, offset: int) -> None:
        """Remove the channels whose last message is after `offset`: the partition was truncated.

        The messages before those are not in the cache.
        """
        gone = [
            message.channel
            for message in self._last.values()
            if (message.record.topic, message.record.partition) == key
            and message.record.offset > offset
        ]
        for channel in gone:
            self.forget(channel)

    def matching(self, patterns: Collection[str], until: int) -> Steps[list[ChannelMessage]]:
        """Return the last messages of all channels that a pattern matches, each once, in order.

        `until`: a place in the hub's order; channels with a later message are left out.
        """
        channels = yield from find_channels(list(patterns), self._catalogue.categories)
        named = channels.named
        if not channels.whole:
            found = [self._last[name] for name in named if name in self._last]
            return [
                message
                for message in sorted(found, key=attrgetter("order"))
                if message.order <= until
            ]
        # The channels are in the order of their last change.
        found = []
        for count, message in enumerate(list(self._last.values()), 1):
            if message.category in channels.whole or message.channel in named:
                found.append(message)
            if not count % _COMPARED:
                yield
        return found[: bisect_right(found, until, key=attrgetter("order"))]
