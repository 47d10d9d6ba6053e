"""From a source's items to messages: positions move, and the past is kept."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping

import attrs
import structlog
import trio

from odin_ws.archive import Span
from odin_ws.catalogue import Catalogue, Topic, channel_name
from odin_ws.hub.last import LastMessages
from odin_ws.hub.reading import Unreadable, read_message, read_token
from odin_ws.hub.retention import Retention
from odin_ws.hub.stats import HubStats
from odin_ws.protocol.envelope import Message
from odin_ws.records import Assignment, Batch, Item, Record, TopicPartition

__all__ = ["Intake", "Jumps"]

log = structlog.get_logger("odin_ws.hub")

# A broken publisher may send nothing else: one line of each kind in so many seconds tells it.
_REPORT_SECONDS = 30.0


@attrs.frozen
class Jumps:
    """Where positions did not go on. `over`: records that the log deleted before we read them.

    `back`: what there is in partitions that began anew, up to where they are live.
    """

    over: Mapping[TopicPartition, Span]
    back: Mapping[TopicPartition, Span]


class Intake:
    """Takes what the source hands on, keeps the past, and knows how far that is.

    `order` counts the messages there ever were. `even_order`: since that place in it, all that came
    was news and nothing of it was taken back. `filled` is set once the first assignment's history
    has come: from then on retention is complete. `jumped` is called where positions do not go on,
    `passed_by` with a record that is news and cannot be delivered.
    """

    def __init__(
        self, catalogue: Catalogue, retention: Retention, last: LastMessages, max_record_bytes: int
    ) -> None:
        self.stats = HubStats()
        self.catalogue = catalogue
        self.retention = retention
        self.last = last
        self.max_record_bytes = max_record_bytes
        self.partial = False
        self.order = self.even_order = 0
        self.filled = trio.Event()
        self.jumped: Callable[[Jumps], None] = _tell_nobody
        self.passed_by: Callable[[Record, Unreadable], None] = _keep_none
        self._positions: dict[str, dict[int, int]] = {}
        self._moved = trio.Event()
        self._next_report: dict[Unreadable, float] = {}

    @property
    def positions(self) -> Mapping[str, Mapping[int, int]]:
        """By topic and partition the last offset taken; -1 before a partition's first."""
        return self._positions

    def position(self, key: TopicPartition) -> int | None:
        """The last offset taken of a partition; None for one that is not read here."""
        return self._positions.get(key.topic, {}).get(key.partition)

    async def wait_moved(self) -> None:
        """Wait until positions have moved."""
        await self._moved.wait()

    def take(self, left: deque[Item], messages: list[Message], room: int) -> int:
        """Append the messages of the first item, up to `room` bytes; returns the bytes it read.

        What there was no room for stays in `left`.
        """
        item = left.popleft()
        if isinstance(item, Batch):
            size, count = self._take_records(item, messages, room)
            if count < len(item.records):
                left.appendleft(Batch(item.records[count:]))
        else:
            size = 0
            if isinstance(item, Assignment):
                self._assign(item)
            else:
                self.filled.set()
            self.even_order = self.order
        self._moved.set()
        self._moved = trio.Event()
        return size

    def _take_records(self, batch: Batch, messages: list[Message], room: int) -> tuple[int, int]:
        size = count = 0
        received = self.stats.received
        now = trio.current_time()
        for record in batch.records:
            count += 1
            received[record.topic] += 1
            positions = self._positions.setdefault(record.topic, {})
            # History is remembered and not delivered; nor is anything delivered twice.
            is_news = record.offset > positions.get(record.partition, -1)
            if is_news:
                positions[record.partition] = record.offset
            message = self._read(record, self.catalogue.topics[record.topic], is_news=is_news)
            if message is None:
                continue
            self.order += 1
            message.order = self.order
            self.retention.keep(message, now)
            self.last.remember(message)
            if is_news:
                messages.append(message)
            else:
                self.even_order = self.order
            size += len(message.value)
            if size >= room:
                break
        return size, count

    def _assign(self, assignment: Assignment) -> None:
        before = {
            TopicPartition(topic, partition): offset
            for topic, partitions in self._positions.items()
            for partition, offset in partitions.items()
        }
        self.partial = assignment.partial
        self._positions = {}
        for key, offset in assignment.positions.items():
            self._positions.setdefault(key.topic, {})[key.partition] = offset
            if key in assignment.history:
                self.retention.begin(key, assignment.history[key])
            elif before.get(key) != offset:
                self.retention.begin(key, offset)
        for key in before.keys() - assignment.positions.keys():
            self.retention.drop(key)
        # A member of a group goes on where another one stopped.
        if not assignment.partial:
            self._tell_of_jumps(before, assignment.positions)

    def _tell_of_jumps(
        self, before: Mapping[TopicPartition, int], now: Mapping[TopicPartition, int]
    ) -> None:
        both = [(key, before[key], now[key]) for key in before.keys() & now.keys()]
        jumps = Jumps(
            over={key: Span(old + 1, new) for key, old, new in both if old < new},
            back={key: Span(0, new) for key, old, new in both if new < old},
        )
        for key in jumps.back:
            self.last.forget_category(self.catalogue.topics[key.topic].category)
        if jumps.over or jumps.back:
            self.jumped(jumps)

    def _read(self, record: Record, topic: Topic, *, is_news: bool) -> Message | None:
        content = read_message(record, topic, self.max_record_bytes)
        if isinstance(content, Unreadable):
            self._pass_by(record, content)
            if is_news:
                self.passed_by(record, content)
            token = read_token(record)
            if content is Unreadable.TOMBSTONE and not isinstance(token, Unreadable):
                self.last.forget(channel_name(token, topic.category))
            return None
        message, event = content
        # Delivered all the same: new publishers must not need a new server.
        self.stats.unknown_types += event not in topic.events
        return message

    def _pass_by(self, record: Record, reason: Unreadable) -> None:
        """Count a record that cannot be a message; of each reason one is logged now and then."""
        unreadable = self.stats.unreadable
        unreadable[reason] += 1
        now = trio.current_time()
        if now >= self._next_report.get(reason, -math.inf):
            self._next_report[reason] = now + _REPORT_SECONDS
            log.warning(
                "passed by a record",
                reason=reason,
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                so_far=unreadable[reason],
            )


def _tell_nobody(_jumps: Jumps) -> None:
    """Where nobody is connected yet."""


def _keep_none(_record: Record, _reason: Unreadable) -> None:
    """Where there is no topic for dead letters."""
