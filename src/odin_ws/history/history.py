"""The hot tail: messages of the last while, kept for clients that come back."""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import islice
from operator import attrgetter
from typing import Final, TypeVar

import attrs

from odin_ws.catalogue import Catalogue
from odin_ws.history.resume_cursor import ResumeCursor
from odin_ws.pattern import find_channels
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.records import TopicPartition
from odin_ws.steps import STEP_ITEMS, STEP_MESSAGES, Steps

T = TypeVar("T")

__all__ = ["Gathered", "History", "Pin", "retained_bytes"]

# What a message costs besides its value: the objects around it and its places in three queues.
_OVERHEAD_BYTES: Final = 900

# Forgotten places at the front of a queue are cleared away when they are half of it, and at least
# so many: a queue of few messages costs more to move than to keep.
_CLEAR_AT: Final = 32

# Pinned, the history may grow by as much as its limit, and by this at least: 5,000 records of 330
# bytes, 25 s at 200 records a second.
_PINNED_BYTES: Final = 8 << 20

# When the last pin is released the surplus goes in steps: of 64 MiB at once it would be 60 ms.
_STEP_BYTES: Final = 1 << 20

_ORDER = attrgetter("order")


def retained_bytes(message: ChannelMessage) -> int:
    """What keeping a message takes: its value stands in the record and in what is sent of it."""
    return 2 * len(message.value) + _OVERHEAD_BYTES


class _Queue:
    """Messages of one partition, by offset and by order; read from any place, let go in front.

    `let_go`: the offset of the last one that was let go for want of room or for its age.
    """

    __slots__ = ("_first", "_messages", "append", "let_go")

    def __init__(self) -> None:
        self._messages: list[ChannelMessage] = []
        self._first = 0
        self.append = self._messages.append
        self.let_go: int | None = None

    def __len__(self) -> int:
        return len(self._messages) - self._first

    def forget_first(self) -> None:
        self._first += 1
        if self._first >= _CLEAR_AT and self._first * 2 >= len(self._messages):
            del self._messages[: self._first]
            self._first = 0

    def after_offset(self, offset: int) -> int:
        """The place of the first message beyond an offset."""
        return bisect_right(self._messages, offset, self._first, key=_offset)

    def after_order(self, order: int) -> int:
        """The place of the first message beyond a place in the hub's order."""
        return bisect_right(self._messages, order, self._first, key=_ORDER)

    def count(self, place: int, until: int) -> int:
        """How many messages there are from a place on, up to a place in the hub's order."""
        return max(0, self.after_order(until) - place)

    def copy(self, place: int, until: int) -> list[ChannelMessage]:
        """The messages from a place on, up to a place in the hub's order."""
        return self._messages[place : self.after_order(until)]

    def channels(self) -> set[str]:
        """The channels of its messages."""
        return {message.channel for message in self._messages[self._first :]}


def _offset(message: ChannelMessage) -> int:
    return message.record.offset


@attrs.frozen
class Gathered:
    """Wanted messages of the history, in order.

    `lasts`: by partition the offset of the last of them. `is_whole`: whether there are no more.
    """

    messages: Sequence[ChannelMessage]
    lasts: Mapping[TopicPartition, int]
    is_whole: bool


class Pin:
    """Keeps the history's floors where they are, for clients that are about to go live from it."""

    __slots__ = ("users",)

    def __init__(self) -> None:
        self.users = 1
        """How many hold it; the history may move on when nobody does."""


class History:
    """Messages of all connections' past, up to a size and an age; the oldest go first.

    `max_bytes`: of `retained_bytes`. `max_age`: seconds, by the clock given to `keep`. Messages are
    found by channel and by partition, without a scan.

    While there is a pin nothing is let go, until the history is twice `max_bytes` (at least 8 MiB
    more than `max_bytes`): then all pins are broken, and those who held one read on from the log.
    """

    def __init__(self, catalogue: Catalogue, max_bytes: int, max_age: float) -> None:
        self.size = 0
        self._catalogue = catalogue
        self._max_bytes = max_bytes
        self._max_age = max_age
        # When each came, how large it is, and the queues of its partition and its channel.
        self._kept: deque[tuple[float, int, ChannelMessage, _Queue, _Queue]] = deque()
        self._channels: dict[str, dict[int, _Queue]] = {}
        self._partitions: dict[str, dict[int, _Queue]] = {}
        self._floors: dict[TopicPartition, int] = {}
        self._pins: set[Pin] = set()
        # Since the last pin was released: there may be more than `max_bytes`.
        self._shrinking = False
        self.broken_pins = 0

    def __len__(self) -> int:
        """How many messages are kept."""
        return len(self._kept)

    @property
    def oldest(self) -> float | None:
        """When the oldest message was kept, by the clock given to `keep`; None where none is."""
        return self._kept[0][0] if self._kept else None

    def pin(self) -> Pin:
        """Keep the floors where they are until the pin is released as often as it is shared."""
        pin = Pin()
        self._pins.add(pin)
        return pin

    def holds(self, pin: Pin) -> bool:
        """Whether a pin is not broken."""
        return pin in self._pins

    def share(self, pin: Pin) -> Pin:
        """Let one more hold a pin."""
        pin.users += 1
        return pin

    def unpin(self, pin: Pin, now: float) -> None:
        """Let one less hold a pin; it may be broken."""
        pin.users -= 1
        if not pin.users and pin in self._pins:
            self._pins.remove(pin)
            self._shrinking = not self._pins
            self.trim(now)

    def begin(self, key: TopicPartition, offset: int) -> None:
        """From now on a partition's messages after `offset` are given to `keep`, all of them."""
        self.drop(key)
        self._floors[key] = offset

    def drop(self, key: TopicPartition) -> None:
        """Forget a partition."""
        self._floors.pop(key, None)
        gone = self._partitions.get(key.topic, {}).pop(key.partition, None)
        if not gone:
            return
        self._kept = deque(one for one in self._kept if one[3] is not gone)
        self.size = sum(size for _, size, *_ in self._kept)
        for channel in gone.channels():
            self._forget_queue(channel, key.partition)

    def keep(self, message: ChannelMessage, now: float) -> None:
        """Keep one more message, and let go of what is too much or too old."""
        record = message.record
        partition = record.partition
        size = retained_bytes(message)
        try:
            of_partition = self._partitions[record.topic][partition]
        except KeyError:
            of_partition = _new_queue(self._partitions, record.topic, partition)
        try:
            of_channel = self._channels[message.channel][partition]
        except KeyError:
            of_channel = _new_queue(self._channels, message.channel, partition)
        of_partition.append(message)
        of_channel.append(message)
        self._kept.append((now, size, message, of_partition, of_channel))
        self.size += size
        if self.size > self._max_bytes or self._kept[0][0] < now - self._max_age:
            self.trim(now)

    def trim(self, now: float) -> None:
        """Let go of what is too much or too old, and is not pinned."""
        if self._pins:
            if self.size <= self._max_bytes + max(self._max_bytes, _PINNED_BYTES):
                return
            self.broken_pins += len(self._pins)
            self._pins.clear()
            self._shrinking = False
        kept = self._kept
        too_old = now - self._max_age
        # Some more than is needed at a time: this is called for each record once it is full.
        maximum = (
            self._max_bytes - self._max_bytes // 64 if self.size > self._max_bytes else self.size
        )
        if self._shrinking:
            maximum = max(maximum, self.size - max(_STEP_BYTES, self._max_bytes // 16))
            self._shrinking = maximum > self._max_bytes
        left = self.size
        while kept and (left > maximum or kept[0][0] < too_old):
            _, size, message, of_partition, of_channel = kept.popleft()
            left -= size
            of_partition.let_go = message.record.offset
            of_partition.forget_first()
            of_channel.forget_first()
            if not of_channel:
                self._forget_queue(message.channel, message.record.partition)
        self.size = left

    def floor(self, key: TopicPartition) -> int | None:
        """The offset after which all of a partition's messages are here; None for no partition."""
        queue = self._partitions.get(key.topic, {}).get(key.partition)
        if queue is not None and queue.let_go is not None:
            return queue.let_go
        return self._floors.get(key)

    def count(self, resume_cursor: ResumeCursor, until: int) -> Steps[int]:
        """How many of the messages up to a place in the hub's order are wanted."""
        found = yield from self._places(
            resume_cursor.patterns, _wanted_place(resume_cursor), _Queue.count, until
        )
        return sum(found)

    def gather(self, resume_cursor: ResumeCursor, until: int, max_bytes: int) -> Steps[Gathered]:
        """The first wanted messages up to a place in the hub's order: `max_bytes` of values.

        What is let go of between two steps is missing: the caller has to look at the floors after.
        """
        runs = yield from self._places(
            resume_cursor.patterns, _wanted_place(resume_cursor), _Queue.copy, until
        )
        messages: list[ChannelMessage] = []
        lasts: dict[TopicPartition, int] = {}
        size = 0
        for count, message in enumerate(_merged(runs), 1):
            if size >= max_bytes:
                return Gathered(messages, lasts, is_whole=False)
            messages.append(message)
            size += len(message.value)
            record = message.record
            lasts[TopicPartition(record.topic, record.partition)] = record.offset
            if not count % STEP_MESSAGES:
                yield
        return Gathered(messages, lasts, is_whole=True)

    def newer(self, order: int, maximum: int) -> list[ChannelMessage] | None:
        """All messages behind a place in the hub's order; None for over `maximum`."""
        newer: list[ChannelMessage] = []
        for _, _, message, *_ in islice(reversed(self._kept), maximum + 1):
            if message.order <= order:
                return newer[::-1]
            newer.append(message)
        return newer[::-1] if len(newer) <= maximum else None

    def since(
        self, patterns: Collection[str], order: int, until: int
    ) -> Steps[list[ChannelMessage]]:
        """The messages of these patterns behind `order`, up to `until`, in order.

        What is let go of between two steps is left out with all that is older than it.
        """

        def place(_pattern: str, _key: TopicPartition, queue: _Queue) -> int:
            return queue.after_order(order)

        runs = yield from self._places(patterns, place, _Queue.copy, until)
        messages: list[ChannelMessage] = []
        for count, message in enumerate(_merged(runs), 1):
            messages.append(message)
            if not count % STEP_MESSAGES:
                yield
        oldest = self._kept[0][2].order if self._kept else until + 1
        return messages[bisect_left(messages, oldest, key=_ORDER) :]

    def _forget_queue(self, channel: str, partition: int) -> None:
        """There is no end of tokens, and most are quiet."""
        queues = self._channels[channel]
        del queues[partition]
        if not queues:
            del self._channels[channel]

    def _places(
        self,
        patterns: Iterable[str],
        place: Callable[[str, TopicPartition, _Queue], int | None],
        take: Callable[[_Queue, int, int], T],
        until: int,
    ) -> Steps[list[T]]:
        """What `take` makes of each queue of these patterns, from its place on, up to `until`.

        A place is only good until the queue changes, so it is used in the same step.
        """
        found = []
        count = 0
        for pattern, topic, queues in (yield from self._matching(list(patterns))):
            for partition, queue in list(queues.items()):
                begin = place(pattern, TopicPartition(topic, partition), queue)
                if begin is not None:
                    found.append(take(queue, begin, until))
                count += 1
                if not count % STEP_ITEMS:
                    yield
        return found

    def _matching(
        self, patterns: Collection[str]
    ) -> Steps[list[tuple[str, str, dict[int, _Queue]]]]:
        """By pattern and topic: a topic's partitions for `*`, else a channel's; no overlaps."""
        categories = self._catalogue.categories
        channels = yield from find_channels(patterns, categories)
        names = {category: categories[category].name for category in channels.whole}
        found = [
            (pattern, names[category], self._partitions[names[category]])
            for category, pattern in channels.whole.items()
            if names[category] in self._partitions
        ]
        for count, (channel, (category, pattern)) in enumerate(channels.named.items(), 1):
            queues = self._channels.get(channel)
            if queues is not None:
                found.append((pattern, categories[category].name, queues))
            if not count % STEP_ITEMS:
                yield
        return found


def _wanted_place(
    resume_cursor: ResumeCursor,
) -> Callable[[str, TopicPartition, _Queue], int | None]:
    """Where the wanted messages of a queue begin; None where none of them is wanted."""

    def place(pattern: str, key: TopicPartition, queue: _Queue) -> int | None:
        after = resume_cursor.after(pattern, key)
        return None if after is None else queue.after_offset(after)

    return place


def _new_queue(queues: dict[str, dict[int, _Queue]], name: str, partition: int) -> _Queue:
    """Make the queue of a topic or a channel in one partition."""
    queue = queues.setdefault(name, {})[partition] = _Queue()
    return queue


def _merged(runs: Sequence[Sequence[ChannelMessage]]) -> Iterable[ChannelMessage]:
    runs = [run for run in runs if run]
    return runs[0] if len(runs) == 1 else heapq.merge(*runs, key=_ORDER)
