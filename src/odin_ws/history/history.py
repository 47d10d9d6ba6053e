"""The in-memory history: the recent messages of all channels, kept for clients that resume."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Final, TypeVar

import attrs

from odin_ws.catalogue import Catalogue
from odin_ws.history.message_queue import BY_ORDER, MessageQueue
from odin_ws.history.resume_cursor import ResumeCursor
from odin_ws.log_reader import Span
from odin_ws.pattern import find_channels
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.records import RecordHeaders, TopicPartition, topic_partition
from odin_ws.steps import STEP_ITEMS, STEP_MESSAGES, Steps

T = TypeVar("T")

__all__ = ["Gathered", "History", "Pin", "retained_bytes"]

# Bytes of a kept message besides its value: its objects, and its entries in three queues.
_OVERHEAD_BYTES: Final = 900

# Bytes of a kept header besides its name and value.
_HEADER_BYTES: Final = 200

# While pinned the history may grow by its limit, and by at least this: 5,000 records of 330 bytes,
# which come in 25 s at 200 records a second.
_PINNED_BYTES: Final = 8 << 20

# After the last pin is released the history drops at most this much per kept record: to drop 64 MiB
# at once would keep the event loop for 60 ms.
_STEP_BYTES: Final = 1 << 20


def retained_bytes(message: ChannelMessage) -> int:
    """Return the bytes that a kept message takes; its value is there twice, record and frame."""
    size = 2 * len(message.value) + _OVERHEAD_BYTES
    headers = message.record.headers
    return size + _size_of(headers) if headers else size


def _size_of(headers: RecordHeaders) -> int:
    return sum(_HEADER_BYTES + 2 * (len(name) + len(value or b"")) for name, value in headers)


@attrs.frozen
class Gathered:
    """Messages of the history that a resume cursor wants, in the hub's order."""

    messages: Sequence[ChannelMessage]
    lasts: Mapping[TopicPartition, int]
    """By partition the offset of its last message in `messages`."""
    is_whole: bool
    """True if the history has no further wanted messages."""


class Pin:
    """Keeps the history from dropping messages, for clients that are about to go live from it."""

    __slots__ = ("users",)

    def __init__(self) -> None:
        self.users = 1
        """The number of holders; with none the history may drop messages again."""


class History:
    """The recent messages of all channels, up to a size and an age; the oldest are dropped first.

    Messages are found by channel and by partition, without a scan.

    While a pin is held nothing is dropped, until the history is twice `max_bytes` (at least 8 MiB
    more than `max_bytes`). Then all pins are broken, and their holders read on from the log.

    Args:
        max_bytes: the limit of the sum of `retained_bytes`.
        max_age: seconds, by the clock that `keep` is given.
    """

    def __init__(self, catalogue: Catalogue, max_bytes: int, max_age: float) -> None:
        self.size = 0
        self._catalogue = catalogue
        self._max_bytes = max_bytes
        self._max_age = max_age
        # By message: arrival time, size, the message, the queues of its partition and channel.
        self._kept: deque[tuple[float, int, ChannelMessage, MessageQueue, MessageQueue]] = deque()
        self._channels: dict[str, dict[int, MessageQueue]] = {}
        self._partitions: dict[str, dict[int, MessageQueue]] = {}
        # By partition the offset after which all of it is kept.
        self._floors: dict[TopicPartition, int] = {}
        self._pins: set[Pin] = set()
        # True if the history may exceed `max_bytes`, since the last pin was released.
        self._shrinking = False
        self.broken_pins = 0

    def __len__(self) -> int:
        """Return the number of messages."""
        return len(self._kept)

    @property
    def oldest(self) -> float | None:
        """The time of the oldest message, by the clock of `keep`; None without messages."""
        return self._kept[0][0] if self._kept else None

    def pin(self) -> Pin:
        """Return a pin: nothing is dropped until each of its holders has released it."""
        pin = Pin()
        self._pins.add(pin)
        return pin

    def holds(self, pin: Pin) -> bool:
        """Return whether a pin is not broken."""
        return pin in self._pins

    def share(self, pin: Pin) -> Pin:
        """Add a holder to a pin."""
        pin.users += 1
        return pin

    def unpin(self, pin: Pin, now: float) -> None:
        """Remove a holder from a pin, which may be broken."""
        pin.users -= 1
        if not pin.users and pin in self._pins:
            self._pins.remove(pin)
            self._shrinking = not self._pins
            self.trim(now)

    def begin(self, key: TopicPartition, offset: int) -> None:
        """Begin a partition: `keep` will get all of its messages after `offset`."""
        self.drop(key)
        self._floors[key] = offset

    def drop(self, key: TopicPartition) -> None:
        """Forget a partition."""
        self._floors.pop(key, None)
        gone = self._partitions.get(key.topic, {}).pop(key.partition, None)
        if not gone:
            return
        self._kept = deque(entry for entry in self._kept if entry[3] is not gone)
        self.size = sum(size for _, size, *_ in self._kept)
        for channel in gone.channels():
            self._forget_queue(channel, key.partition)

    def keep(self, message: ChannelMessage, now: float) -> None:
        """Keep a message, and drop the oldest ones beyond the size and the age."""
        record = message.record
        partition = record.partition
        size = retained_bytes(message)
        try:
            of_partition = self._partitions[record.topic][partition]
        except KeyError:
            key = topic_partition(record.topic, partition)
            of_partition = _new_queue(self._partitions, record.topic, key)
        try:
            of_channel = self._channels[message.channel][partition]
        except KeyError:
            key = topic_partition(record.topic, partition)
            of_channel = _new_queue(self._channels, message.channel, key)
        of_partition.append(message)
        of_channel.append(message)
        self._kept.append((now, size, message, of_partition, of_channel))
        self.size += size
        if self.size > self._max_bytes or self._kept[0][0] < now - self._max_age:
            self.trim(now)

    def trim(self, now: float) -> None:
        """Drop the oldest messages beyond the size and the age, unless they are pinned."""
        if self._pins:
            if self.size <= self._max_bytes + max(self._max_bytes, _PINNED_BYTES):
                return
            self.broken_pins += len(self._pins)
            self._pins.clear()
            self._shrinking = False
        kept = self._kept
        too_old = now - self._max_age
        # A full history is trimmed for each record: a 64th more than needed makes that rare.
        maximum = (
            self._max_bytes - self._max_bytes // 64 if self.size > self._max_bytes else self.size
        )
        if self._shrinking:
            maximum = max(maximum, self.size - max(_STEP_BYTES, self._max_bytes // 16))
            self._shrinking = maximum > self._max_bytes
        remaining = self.size
        while kept and (remaining > maximum or kept[0][0] < too_old):
            _, size, message, of_partition, of_channel = kept.popleft()
            remaining -= size
            self._floors[of_partition.key] = message.record.offset
            of_partition.forget_first()
            of_channel.forget_first()
            if not of_channel:
                self._forget_queue(message.channel, message.record.partition)
        self.size = remaining

    def floor(self, key: TopicPartition) -> int | None:
        """Return the offset after which all of a partition is kept; None if it is unknown."""
        return self._floors.get(key)

    def lacks(self, positions: Mapping[TopicPartition, int]) -> dict[TopicPartition, Span]:
        """Return by partition the offsets after these positions that are not kept any more."""
        floor = self._floors.get
        return {
            key: Span(offset + 1, end)
            for key, offset in positions.items()
            if (end := floor(key)) is not None and offset < end
        }

    def count(self, resume_cursor: ResumeCursor, until: int) -> Steps[int]:
        """Return the number of wanted messages up to a place in the hub's order."""
        found = yield from self._select(
            resume_cursor.patterns, _wanted_place(resume_cursor), MessageQueue.count, until
        )
        return sum(found)

    def gather(self, resume_cursor: ResumeCursor, until: int, max_bytes: int) -> Steps[Gathered]:
        """Return the first wanted messages up to a place in the hub's order: `max_bytes` of values.

        Messages that are dropped between two steps are missing: the caller compares the floors
        afterwards.
        """
        runs = yield from self._select(
            resume_cursor.patterns, _wanted_place(resume_cursor), MessageQueue.copy, until
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
            lasts[topic_partition(record.topic, record.partition)] = record.offset
            if not count % STEP_MESSAGES:
                yield
        return Gathered(messages, lasts, is_whole=True)

    def newer(self, order: int, maximum: int) -> list[ChannelMessage] | None:
        """Return all messages after a place in the hub's order; None if they are over `maximum`."""
        newer: list[ChannelMessage] = []
        for _, _, message, *_ in islice(reversed(self._kept), maximum + 1):
            if message.order <= order:
                return newer[::-1]
            newer.append(message)
        return newer[::-1] if len(newer) <= maximum else None

    def newest(self, since: float, maximum: int) -> tuple[list[ChannelMessage], float]:
        """Return the messages kept after `since`, newest first, and the time of the oldest of them.

        Without messages the time is `since`.
        """
        newest: list[ChannelMessage] = []
        last = since
        # No tuple per message: thousands of new objects would start a garbage collection.
        for kept in islice(reversed(self._kept), maximum):
            if kept[0] <= since:
                break
            newest.append(kept[2])
            last = kept[0]
        return newest, last

    def since(
        self, patterns: Collection[str], order: int, until: int
    ) -> Steps[list[ChannelMessage]]:
        """Return the messages of these patterns after `order` and up to `until`, in order.

        If messages are dropped between two steps, they and all older ones are left out.
        """

        def first_index(_pattern: str, queue: MessageQueue) -> int:
            return queue.after_order(order)

        runs = yield from self._select(patterns, first_index, MessageQueue.copy, until)
        messages: list[ChannelMessage] = []
        for count, message in enumerate(_merged(runs), 1):
            messages.append(message)
            if not count % STEP_MESSAGES:
                yield
        oldest = self._kept[0][2].order if self._kept else until + 1
        return messages[bisect_left(messages, oldest, key=BY_ORDER) :]

    def _forget_queue(self, channel: str, partition: int) -> None:
        """Forget an empty queue: the number of tokens has no limit, and most are quiet."""
        queues = self._channels[channel]
        del queues[partition]
        if not queues:
            del self._channels[channel]

    def _select(
        self,
        patterns: Iterable[str],
        first_index: Callable[[str, MessageQueue], int | None],
        take: Callable[[MessageQueue, int, int], T],
        until: int,
    ) -> Steps[list[T]]:
        """Return `take(queue, index, until)` for each queue of these patterns.

        An index holds until the queue changes, so `take` uses it in the same step.
        """
        found = []
        count = 0
        for pattern, queues in (yield from self._matching(list(patterns))):
            for queue in list(queues.values()):
                begin = first_index(pattern, queue)
                if begin is not None:
                    found.append(take(queue, begin, until))
                count += 1
                if not count % STEP_ITEMS:
                    yield
        return found

    def _matching(
        self, patterns: Collection[str]
    ) -> Steps[list[tuple[str, dict[int, MessageQueue]]]]:
        """Return per pattern and topic its queues: a whole topic's, or a channel's; no overlaps."""
        categories = self._catalogue.categories
        channels = yield from find_channels(patterns, categories)
        names = {category: categories[category].name for category in channels.whole}
        found = [
            (pattern, self._partitions[names[category]])
            for category, pattern in channels.whole.items()
            if names[category] in self._partitions
        ]
        for count, (channel, (_, pattern)) in enumerate(channels.named.items(), 1):
            queues = self._channels.get(channel)
            if queues is not None:
                found.append((pattern, queues))
            if not count % STEP_ITEMS:
                yield
        return found


def _wanted_place(resume_cursor: ResumeCursor) -> Callable[[str, MessageQueue], int | None]:
    """Return a function: the index of a queue's first wanted message; None if none is wanted."""

    def first_index(pattern: str, queue: MessageQueue) -> int | None:
        after = resume_cursor.after(pattern, queue.key)
        return None if after is None else queue.after_offset(after)

    return first_index


def _new_queue(
    queues: dict[str, dict[int, MessageQueue]], name: str, key: TopicPartition
) -> MessageQueue:
    """Create and return the queue of a topic or a channel in one partition."""
    queue = queues.setdefault(name, {})[key.partition] = MessageQueue(key)
    return queue


def _merged(runs: Sequence[Sequence[ChannelMessage]]) -> Iterable[ChannelMessage]:
    runs = [run for run in runs if run]
    return runs[0] if len(runs) == 1 else heapq.merge(*runs, key=BY_ORDER)
