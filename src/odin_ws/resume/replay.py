"""One client's way from where it was to live: a scan of the log, then history, then the index.

Between the last message of history and the index there is no await: nothing comes in between.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final, Protocol

import trio

from odin_ws.hub import LiveFrom, Pin, Subscriber
from odin_ws.protocol.answers import Lost, Replayed
from odin_ws.protocol.envelope import Message
from odin_ws.records import TopicPartition
from odin_ws.resume.cursor import Cursor, Ending
from odin_ws.resume.delivered import Delivered
from odin_ws.resume.lanes import CHUNK_BYTES, Chunk, chunks_of
from odin_ws.resume.limits import RECOVERED
from odin_ws.resume.plan import Losses
from odin_ws.resume.start import Beginning, ReplayContext, Start, pause

__all__ = ["Caller", "Listener", "NotNow", "Replay"]

# For so long a client waits for its answer while the log makes no progress.
_PATIENCE_SECONDS: Final = 30.0

# Bytes of the log's messages that are held to count them, before the first is sent.
_HELD_BYTES: Final = 1 << 20

# History is not kept from moving on for a client that takes longer for what it was sent last.
_PINNED_SECONDS: Final = 2.0


class Caller(Protocol):
    """A connection, as a replay sees it."""

    subscriber: Subscriber

    async def drained(self) -> None:
        """Wait until it has taken what it was sent."""
        ...


class NotNow(Exception):
    """A replay cannot begin: the log does not answer, or too many ask. Nothing has changed."""


class Listener(Protocol):
    """The part of a connection that answers the client."""

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
        self._progressed_at = trio.current_time()
        self._held: deque[Chunk] = deque()
        self._cursor: Cursor | None = None
        self._pin: Pin | None = None
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
        """The patterns that are to become live."""
        return self._want.patterns

    def drop(self, patterns: Iterable[str]) -> bool:
        """The client has unsubscribed; whether any of these was to become live."""
        names = list(patterns)
        self._beside.end(names)
        dropped = self._want.drop(names) if self._cursor is None else self._cursor.drop(names)
        left = set(self._want.patterns)
        kept = (one.filtered(lambda one: not left.isdisjoint(one.patterns)) for one in self._held)
        self._held = deque(one for one in kept if one.messages)
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
            self._unpin()
            if not stats.active:
                self._hub.forget_replayed()
        self._listener.ended(self._count)

    async def _run(self) -> None:
        # Until it has begun; from then on only the caller's own slowness bounds it.
        self._progressed_at = trio.current_time()
        with trio.move_on_at(self._progressed_at + _PATIENCE_SECONDS) as self._patience:
            snapshot = await self._start.find(self._beginning)
            for chunk in chunks_of(snapshot):
                self._hold(chunk)
            self._first = self._want.positions()
            self._catch_up()
            self._begins = self._beside.begin(self._want)
            await self._deliver()
        if self._patience.cancelled_caught:
            if not self._begun:
                self._give_up_counting()
            await self._deliver()

    def _give_up_counting(self) -> None:
        """Begin without a count after all. Raises NotNow where nothing was read yet."""
        if not self._has_read:
            raise NotNow
        self._begin(None)

    async def _deliver(self) -> None:
        while True:
            # Not only at the start: a topic may be recreated meanwhile.
            self._catch_up()
            await self._start.reach()
            if self._begun:
                await self._tell_losses()
            if self._start.outdated:
                continue
            if self._start.below_tail():
                await self._read_log()
            elif not self._begun:
                self._begin(sum(len(one.messages) for one in self._held) + self._count_tail())
            elif self._held:
                await self._send_held()
            elif self._send_tail():
                return
            else:
                await self._drained()

    def _catch_up(self) -> None:
        """Go on in the log as it is now. Not while a cursor is open: the wants move."""
        if moved := self._start.catch_up(announced=self._begun):
            self._forget(moved)
        if not self._begun:
            # Partitions may have been added.
            self._first = {**self._want.positions(), **self._first}

    def _forget(self, moved: Mapping[TopicPartition, int]) -> None:
        """Drop held messages beyond these offsets: the log does not have them any more."""

        def is_there(message: Message) -> bool:
            record = message.record
            key = TopicPartition(record.topic, record.partition)
            return record.offset <= moved.get(key, record.offset)

        kept = (chunk.filtered(is_there) for chunk in self._held)
        self._held = deque(chunk for chunk in kept if chunk.messages)
        if not self._begun:
            positions = self._want.positions()
            self._first = {**self._first, **{key: positions[key] for key in moved}}
        for key in self._horizon.keys() & moved.keys():
            self._horizon[key] = min(self._horizon[key], moved[key])

    async def _tell_losses(self) -> None:
        """A client that is cut off behind a hole must have heard of it, or it never would."""
        if self._start.losses.spans:
            await self._send_held()
            lost = None if self._held else self._lost()
            if lost is not None:
                self._listener.lost(self._count, lost)

    def _begin(self, count: int | None) -> None:
        if self._cursor is None:
            self._catch_up()
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
        """The records lost since the client was told last."""
        losses, self._start.losses = self._start.losses, Losses()
        reason = losses.reason
        return None if reason is None else Lost(losses.by_topic(), reason)

    async def _read_log(self) -> None:
        """Let a scan read what history does not have; records read stand if it fails."""
        scans = self._context.scans
        needed = self._start.below_tail()
        cursor = self._cursor = scans.open(self._want, self._progressed_at)
        # From here on there is patience for as long as there is progress.
        self._patience.deadline = math.inf
        try:
            # A log that has changed is not read on before `reach` has looked at it.
            while cursor.ended is None and not self._start.outdated:
                await self._follow(cursor)
        finally:
            self._cursor = None
            scans.close(cursor)
            self._unpin()
            self._pin = cursor.pin
        self._progressed_at = cursor.progressed_at
        self._has_read |= cursor.has_read
        while (chunk := cursor.take()) is not None:
            self._hold_of_log(chunk)
        if not self._begun:
            self._patience.deadline = self._progressed_at + _PATIENCE_SECONDS
            if self._held_size() > _HELD_BYTES:
                self._begin(None)
        if cursor.ended is Ending.EXPIRED:
            await self._start.judge()
            if self._start.below_tail() == needed:
                # The log is another than the tail's: the source will notice.
                await pause()
        # Many may have reached history together.
        await scans.turn()

    async def _follow(self, cursor: Cursor) -> None:
        """Take what a scan has read and send it, or wait for the scan to read more."""
        if self._begun:
            await self._send_held()
        chunk = cursor.take()
        if chunk is not None:
            self._hold_of_log(chunk)
            if not self._begun and self._held_size() > cursor.limit:
                self._begin(None)
        elif self._begun:
            await cursor.wait()
        elif not await self._wait(cursor):
            self._has_read |= cursor.has_read
            if not self._start.outdated:
                self._give_up_counting()
                cursor.flush()

    async def _wait(self, cursor: Cursor) -> bool:
        """Wait for news of a scan; False where the log makes no progress for too long."""
        while True:
            until = self._context.scans.progressed_at(cursor) + _PATIENCE_SECONDS
            with trio.move_on_at(until):
                await cursor.wait()
                return True
            if self._context.scans.progressed_at(cursor) + _PATIENCE_SECONDS <= trio.current_time():
                return False

    def _held_size(self) -> int:
        return sum(chunk.size for chunk in self._held)

    def _hold_of_log(self, chunk: Chunk) -> None:
        self._context.stats.from_archive += self._hold(chunk)

    def _hold(self, chunk: Chunk) -> int:
        """Keep what the client is to be sent of a chunk; returns how many messages that are."""
        if self._beside:
            chunk = chunk.filtered(lambda message: not self._beside.has(message))
        if chunk.messages:
            self._held.append(chunk)
        return len(chunk.messages)

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
            await self._drained()
            if self._start.outdated:
                return
            if self._held:
                self._send_chunk(self._held.popleft())

    async def _drained(self) -> None:
        """Wait until the client has taken what it was sent, then for a turn."""
        cursor = self._cursor
        if cursor is not None:
            cursor.busy = True
        try:
            if self._pin is not None:
                with trio.move_on_after(_PINNED_SECONDS) as scope:
                    await self._caller.drained()
                if scope.cancelled_caught:
                    self._unpin()
                    await self._caller.drained()
            else:
                await self._caller.drained()
        finally:
            if cursor is not None:
                cursor.busy = False
        await self._context.scans.turn()

    def _unpin(self) -> None:
        """Let history move on."""
        pin, self._pin = self._pin, None
        if pin is not None:
            self._hub.retention.unpin(pin, trio.current_time())

    def _send_tail(self) -> bool:
        """Send a chunk of the hot tail; after the last one the subscriber is live: True."""
        chunk: list[Message] = []
        size = 0
        is_last = True
        for message in self._tail():
            if size >= CHUNK_BYTES:
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

    def _send_chunk(self, chunk: Chunk) -> None:
        horizon = self._horizon
        if all(last <= horizon.get(key, last) for key, last in chunk.lasts.items()):
            # The list is shared by all who get the same, and so is what is made of it.
            self._hub.flush(self._caller.subscriber)
            self._count += len(chunk.messages)
            self._hub.send(self._caller.subscriber, chunk.messages, replay=True)
        else:
            self._send(chunk.messages)

    def _send(self, messages: Sequence[Message]) -> None:
        # Live messages that are due already come first: newer messages do not overtake them.
        self._hub.flush(self._caller.subscriber)
        for replay, several in groupby(messages, self._is_replay):
            chunk = list(several)
            self._count += len(chunk) if replay else 0
            self._hub.send(self._caller.subscriber, chunk, replay=replay)

    def _is_replay(self, message: Message) -> bool:
        if message.order:
            return message.order <= self._horizon_order
        # The hub has made no other messages of the log's records.
        record = message.record
        key = TopicPartition(record.topic, record.partition)
        return record.offset <= self._horizon.get(key, record.offset)
