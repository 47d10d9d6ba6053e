"""One client's way from where it was to live: the log, then the hot tail, then the index.

Between the last message of the tail and the index there is no await: nothing comes in between.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final, Protocol

import trio

from odin_ws.archive import ArchiveUnavailable, RecordsExpired
from odin_ws.catalogue import matching_patterns
from odin_ws.hub import LiveFrom, Subscriber
from odin_ws.hub.reading import Unreadable, read_token
from odin_ws.protocol.answers import Lost, Replayed
from odin_ws.protocol.envelope import Message
from odin_ws.records import Record, TopicPartition
from odin_ws.resume.delivered import Delivered
from odin_ws.resume.limits import RECOVERED
from odin_ws.resume.plan import Losses
from odin_ws.resume.start import Beginning, ReplayContext, Start, pause

__all__ = ["Caller", "Listener", "NotNow", "Replay"]

# How long a client waits for its answer where the log does not give one, or too many ask.
_PATIENCE_SECONDS: Final = 30.0

# Written at once, then the client must have taken it. Small, so that a slow one is not cut off:
# within WS_OUTBOX_SECONDS 64 KiB are taken at 7 KB a second.
_CHUNK_BYTES: Final = 64 << 10

# What is held of the log's messages to tell how many they are, before the first is sent.
_HELD_BYTES: Final = 1 << 20


class Caller(Protocol):
    """A connection, as a replay sees it."""

    subscriber: Subscriber

    async def drained(self) -> None:
        """Wait until it has taken what it was sent."""
        ...


class NotNow(Exception):
    """A replay cannot begin: the log does not answer, or too many ask. Nothing has changed."""


class Listener(Protocol):
    """Who answers the client."""

    def begun(self, replayed: Replayed, start: Mapping[TopicPartition, int]) -> None:
        """Before the first message; called once. It begins after the offsets of `start`."""
        ...

    def lost(self, count: int, lost: Lost) -> None:
        """After `count` replayed messages: what `begun` could not tell of is lost behind them."""
        ...

    def ended(self, count: int) -> None:
        """After the last of `count` replayed messages."""
        ...


class Replay:
    """Brings a caller what it wants, and makes that live."""

    def __init__(
        self, context: ReplayContext, caller: Caller, beginning: Beginning, listener: Listener
    ) -> None:
        self._context = context
        self._hub = context.hub
        self._caller = caller
        self._beside = Delivered(context.hub, caller.subscriber)
        self._begins: Mapping[str, LiveFrom] = {}
        self._want = beginning.want
        self._beginning = beginning
        self._listener = listener
        self._start = Start(context, beginning.want)
        self._patience = trio.CancelScope()
        self._held: list[Message] = []
        self._held_bytes = 0
        self._has_read = False
        self._first: Mapping[TopicPartition, int] = {}
        self._begun = False
        self._announced: int | None = None
        self._count = 0
        # Up to here it is a replay, beyond it is news that had to wait.
        self._horizon_order = 0
        self._horizon: dict[TopicPartition, int] = {}

    @property
    def patterns(self) -> Iterable[str]:
        """What is to become live."""
        return self._want.patterns

    def drop(self, patterns: Iterable[str]) -> bool:
        """The client has unsubscribed; whether any of these was to become live."""
        self._beside.end(patterns)
        dropped = self._want.drop(patterns)
        left = set(self._want.patterns)
        self._held = [one for one in self._held if not left.isdisjoint(one.patterns)]
        return dropped

    async def run(self) -> None:
        """Until live. Raises NotNow before it has begun; cancelled when the caller goes."""
        stats = self._context.stats
        stats.active += 1
        try:
            await self._run()
        except NotNow:
            stats.not_now += 1
            raise
        finally:
            stats.active -= 1
        self._listener.ended(self._count)

    async def _run(self) -> None:
        # Until it has begun; from then on only the caller's own slowness bounds it.
        with trio.move_on_after(_PATIENCE_SECONDS) as self._patience:
            snapshot = await self._start.find(self._beginning)
            self._held = [message for message in snapshot if not self._beside.has(message)]
            self._first = self._want.positions()
            self._begins = self._beside.begin(self._want)
            await self._deliver()
        if self._patience.cancelled_caught:
            if not self._begun:
                if not self._has_read:
                    raise NotNow
                self._begin(None)
            await self._deliver()

    async def _deliver(self) -> None:
        while True:
            # Not only at the start: a topic may be recreated meanwhile.
            if moved := await self._start.reach(announced=self._begun):
                self._forget(moved)
            if self._begun:
                await self._tell_losses()
            elif len(self._first) < len(self._want.positions()):
                # Partitions were added meanwhile.
                self._first = {**self._want.positions(), **self._first}
            if self._start.below_tail():
                await self._read_archive()
            elif not self._begun:
                self._begin(len(self._held) + self._count_tail())
            elif self._held:
                await self._send_held()
            elif self._send_tail():
                return
            else:
                await self._caller.drained()

    def _forget(self, moved: Mapping[TopicPartition, int]) -> None:
        """What is held of these partitions beyond these offsets is not in the log any more."""
        self._held = [
            one
            for one in self._held
            for key in [TopicPartition(one.record.topic, one.record.partition)]
            if one.record.offset <= moved.get(key, one.record.offset)
        ]
        if not self._begun:
            positions = self._want.positions()
            self._first = {**self._first, **{key: positions[key] for key in moved}}

    async def _tell_losses(self) -> None:
        """A client that is cut off behind a hole must have heard of it, or it never would."""
        if self._start.losses.spans:
            await self._send_held()
            lost = None if self._held else self._lost()
            if lost is not None:
                self._listener.lost(self._count, lost)

    def _begin(self, count: int | None) -> None:
        self._begun = True
        self._patience.deadline = math.inf
        self._announced = count
        self._horizon_order = self._hub.intake.order
        position = self._hub.intake.position
        for key in self._want.positions():
            live = position(key)
            if live is not None:
                self._horizon[key] = live
        reason = self._start.losses.reason
        self._context.stats.results[RECOVERED if reason is None else reason] += 1
        self._listener.begun(Replayed(count, self._lost()), self._first)

    def _lost(self) -> Lost | None:
        """What was lost since it was told last."""
        losses, self._start.losses = self._start.losses, Losses()
        reason = losses.reason
        return None if reason is None else Lost(losses.by_topic(), reason)

    async def _read_archive(self) -> None:
        """Read from the log what the tail does not have; what was read stands if it fails."""
        spans = self._start.below_tail()
        try:
            async with self._context.archive.read(spans) as batches:
                async for records in batches:
                    if self._start.outdated:
                        return
                    await self._take(records)
                    if not self._want.patterns:
                        return
        except ArchiveUnavailable:
            await pause()
        except RecordsExpired:
            needed = self._start.below_tail()
            await self._start.judge()
            if self._start.below_tail() == needed:
                # The log is another than the tail's: the source will notice.
                await pause()
        else:
            # Not every offset holds a record.
            for key, span in spans.items() if not self._start.outdated else ():
                self._want.advance(key, span.last)

    async def _take(self, records: Sequence[Record]) -> None:
        """Hold the records that are wanted; once there are too many to count first, send them."""
        intake = self._hub.intake
        for record in records:
            topic = intake.catalogue.topics[record.topic]
            token = read_token(record)
            # Before the value is parsed: most records are other tokens'.
            if not isinstance(token, Unreadable) and self._want.asks_for(
                matching_patterns(token, topic.category)
            ):
                message = intake.read(record)
                if message is not None:
                    self._hold(message)
            self._want.advance(TopicPartition(record.topic, record.partition), record.offset)
        self._has_read = True
        if not self._begun and self._held_bytes > _HELD_BYTES:
            self._begin(None)
        if self._begun:
            await self._send_held()

    def _hold(self, message: Message) -> None:
        if self._want.includes(message) and not self._beside.has(message):
            self._held.append(message)
            self._held_bytes += len(message.value)
            self._context.stats.from_archive += 1

    def _tail(self) -> Iterator[Message]:
        tail = self._hub.retention.messages(self._want)
        if self._beside:
            return (message for message in tail if not self._beside.has(message))
        return tail

    def _count_tail(self) -> int:
        if self._beside:
            return sum(1 for _ in self._tail())
        return self._hub.retention.count(self._want)

    async def _send_held(self) -> None:
        while self._held:
            await self._caller.drained()
            if self._start.outdated:
                return
            count = size = 0
            while count < len(self._held) and size < _CHUNK_BYTES:
                size += len(self._held[count].value)
                count += 1
            chunk, self._held = self._held[:count], self._held[count:]
            self._send(chunk)
        self._held_bytes = 0

    def _send_tail(self) -> bool:
        """Send a chunk of the hot tail; after the last one the subscriber is live: True."""
        chunk: list[Message] = []
        size = 0
        is_last = True
        for message in self._tail():
            if size >= _CHUNK_BYTES:
                is_last = False
                break
            chunk.append(message)
            size += len(message.value)
        self._context.stats.from_tail += len(chunk)
        self._send(chunk)
        if is_last:
            patterns = list(self._want.patterns)
            self._hub.subscribe(self._caller.subscriber, patterns, self._begins)
            return True
        for message in chunk:
            record = message.record
            self._want.advance(TopicPartition(record.topic, record.partition), record.offset)
        return False

    def _send(self, messages: Sequence[Message]) -> None:
        # What is live and due already comes first: newer messages do not overtake it.
        self._hub.flush(self._caller.subscriber)
        for replay, several in groupby(messages, self._is_replay):
            chunk = list(several)
            self._count += len(chunk) if replay else 0
            self._hub.send(self._caller.subscriber, chunk, replay=replay)

    def _is_replay(self, message: Message) -> bool:
        if message.order:
            return message.order <= self._horizon_order
        # Of the log's messages the hub has made no others.
        record = message.record
        key = TopicPartition(record.topic, record.partition)
        return record.offset <= self._horizon.get(key, record.offset)
