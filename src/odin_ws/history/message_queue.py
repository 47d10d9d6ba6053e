"""A queue of the history: the messages of one partition, of a topic or of a channel."""

from __future__ import annotations

from bisect import bisect_right
from operator import attrgetter
from typing import Final

from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.records import TopicPartition

__all__ = ["BY_ORDER", "MessageQueue"]

# A queue deletes its forgotten entries once they are half of its entries and at least this many: a
# short list costs more to move than to keep.
_CLEAR_AT: Final = 32

BY_ORDER: Final = attrgetter("order")


class MessageQueue:
    """Messages of one partition in offset order; read from any index, dropped at the front."""

    __slots__ = ("_first", "_messages", "append", "key")

    def __init__(self, key: TopicPartition) -> None:
        self.key = key
        """The partition."""
        self._messages: list[ChannelMessage] = []
        self._first = 0
        self.append = self._messages.append

    def __len__(self) -> int:
        """Return the number of messages."""
        return len(self._messages) - self._first

    def forget_first(self) -> None:
        """Drop the oldest message."""
        self._first += 1
        if self._first >= _CLEAR_AT and self._first * 2 >= len(self._messages):
            del self._messages[: self._first]
            self._first = 0

    def after_offset(self, offset: int) -> int | None:
        """Return the index of the first message after an offset; None if there is none."""
        messages = self._messages
        # A client that resumes has missed records of few partitions.
        if not messages or messages[-1].record.offset <= offset:
            return None
        return bisect_right(messages, offset, self._first, key=_offset)

    def after_order(self, order: int) -> int:
        """Return the index of the first message after a place in the hub's order."""
        messages = self._messages
        if messages and messages[-1].order <= order:
            return len(messages)
        return bisect_right(messages, order, self._first, key=BY_ORDER)

    def count(self, first: int, until: int) -> int:
        """Return the number of messages from an index up to a place in the hub's order."""
        return max(0, self.after_order(until) - first)

    def copy(self, first: int, until: int) -> list[ChannelMessage]:
        """Return the messages from an index up to a place in the hub's order."""
        return self._messages[first : self.after_order(until)]

    def channels(self) -> set[str]:
        """Return the channels of the messages."""
        return {message.channel for message in self._messages[self._first :]}


def _offset(message: ChannelMessage) -> int:
    return message.record.offset
