"""One client's way from where it was to live: a scan of the log, then history, then the index.

All of it is work for one client, and is done in time slices. Only between the last message of
history and the index there is no await: nothing comes in between.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import groupby
from typing import Final, Protocol

import trio

from odin_ws.history import Pin
from odin_ws.hub import LiveFrom, Subscriber
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.protocol.responses import Lost, Replayed
from odin_ws.records import TopicPartition
from odin_ws.resume.delivered import Delivered
from odin_ws.resume.gaps import LostSpans
from odin_ws.resume.replay_end import ReplayEnd
from odin_ws.resume.replay_limits import RECOVERED
from odin_ws.resume.scan_chunks import Chunk, chunks_of
from odin_ws.resume.scan_cursor import ScanCursor, ScanEnd
from odin_ws.resume.start_position import ReplayContext, StartPosition, StartPositionFinder, pause
from odin_ws.steps import Steps
from odin_ws.time_slice import TimeSlice

__all__ = ["Replay", "ReplayClient", "ReplayObserver", "ReplayUnavailable"]

# For so long a client waits for its answer while the log makes no progress.
_PATIENCE_SECONDS: Final = 30.0

# Bytes of the log's messages that are held to count them, before the first is sent.
_HELD_BYTES: Final = 1 << 20

# What is held of history at most: a client that is slow keeps as much of it from being let go.
_GATHERED_BYTES: Final = 256 << 10

# With no more messages than that behind what was gathered of history, wanted or not, a client goes
# live at once. Each time that there are more, twice as many will do.
_NEWER: Final = 256

# History is not kept from moving on for a client that takes longer for what it was sent last.
_PINNED_SECONDS: Final = 2.0


class ReplayClient(Protocol):
    """A connection, as a replay sees it."""

    subscriber: Subscriber

    async def drained(self) -> None:
        """Wait until it has taken what it was sent."""
        ...


class ReplayUnavailable(Exception):
    """A replay cannot begin: the log does not answer, or too many ask. Nothing has changed."""


class ReplayObserver(Protocol):
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
        self,
        context: ReplayContext,
        client: ReplayClient,
        start_position: StartPosition,
        observer: ReplayObserver,
    ) -> None:
        self._context = context
        self._hub = context.hub
        self._client = client
        self._delivered = Delivered(context.hub, client.subscriber)
        self._begins: Mapping[str, LiveFrom] = {}
        self._resume_cursor = start_position.resume_cursor
        self._start_position = start_position
        self._observer = observer
        self._finder = StartPositionFinder(context, start_position.resume_cursor)
        self._slice = TimeSlice(context.scans.wait_for_work_slice)
        # The place in the hub's order up to which all that is wanted of history was gathered.
        self._gathered: int | None = None
        self._most_newer = _NEWER
        # Whether the client may not have taken yet what it was sent last.
        self._has_unread = True
        # Whether the client has unsubscribed from something that may be held.
        self._dropped = False
        self._patience = trio.CancelScope()
        self._progressed_at = trio.current_time()
        self._held: deque[Chunk] = deque()
        self._cursor: ScanCursor | None = None
        self._pin: Pin | None = None
        self._has_read = False
        self._first: Mapping[TopicPartition, int] = {}
        self._has_begun = False
        self._announced: int | None = None
        self._count = 0
        self._replay_end = ReplayEnd()

    @property
    def patterns(self) -> Iterable[str]:
        """The patterns that are to become live."""
        return self._resume_cursor.patterns

    def drop(self, patterns: Iterable[str]) -> bool:
        """The client has unsubscribed; whether any of these was to become live."""
        names = list(patterns)
        self._delivered.end(names)
        dropped = (
            self._resume_cursor.drop(names) if self._cursor is None else self._cursor.drop(names)
        )
        # What is held is looked through before it is counted or sent.
        self._dropped |= dropped
        return dropped

    async def run(self) -> None:
        """Until live. Raises ReplayUnavailable before it has begun."""
        stats = self._context.stats
        stats.active += 1
        try:
            await self._run()
        except ReplayUnavailable:
            stats.unavailable += 1
            raise
        finally:
            stats.active -= 1
            self._unpin()
            if not stats.active:
                self._hub.forget_replayed()
        self._observer.ended(self._count)

    async def _run(self) -> None:
        # Until it has begun; from then on only the caller's own slowness bounds it.
        self._progressed_at = trio.current_time()
        with trio.move_on_at(self._progressed_at + _PATIENCE_SECONDS) as self._patience:
            await self._finder.find(self._start_position)
            if self._start_position.snapshot:
                beside = self._delivered.has if self._delivered else None
                self._held.extend(
                    await self._slice.run(self._finder.snapshot(self._start_position, beside))
                )
            self._first = self._resume_cursor.positions()
            self._catch_up()
            self._begins = await self._slice.run(self._delivered.begin(self._resume_cursor))
            await self._deliver()
        if self._patience.cancelled_caught:
            if not self._has_begun:
                self._give_up_counting()
            await self._deliver()

    def _give_up_counting(self) -> None:
        """Begin without a count after all. Raises ReplayUnavailable where nothing was read yet."""
        if not self._has_read:
            raise ReplayUnavailable
        self._begin(None)

    async def _deliver(self) -> None:
        while True:
            # Not only at the start: a topic may be recreated meanwhile.
            self._catch_up()
            await self._finder.wait_until_reached()
            if self._has_begun:
                await self._tell_losses()
            if self._finder.is_outdated:
                continue
            if self._finder.missing_from_history():
                self._gathered = None
                await self._read_log()
            elif not self._has_begun:
                await self._count_and_begin()
            elif self._held:
                await self._send_held()
            elif self._gathered is None and self._has_unread:
                # In a crowd that takes seconds. History is gathered after the wait, not before it:
                # so little comes in between, and the client goes live with what was gathered.
                await self._drained()
            elif self._gathered is None:
                await self._gather()
            elif self._go_live(self._gathered):
                return

    def _catch_up(self) -> None:
        """Go on in the log as it is now. Not while a cursor is open: the wants move."""
        if moved := self._finder.catch_up(announced=self._has_begun):
            self._forget(moved)
            self._gathered = None
        if not self._has_begun:
            # Partitions may have been added.
            self._first = {**self._resume_cursor.positions(), **self._first}

    def _forget(self, moved: Mapping[TopicPartition, int]) -> None:
        """Drop held messages beyond these offsets: the log does not have them any more."""

        def is_there(message: ChannelMessage) -> bool:
            record = message.record
            key = TopicPartition(record.topic, record.partition)
            return record.offset <= moved.get(key, record.offset)

        kept = (chunk.filtered(is_there) for chunk in self._held)
        self._held = deque(chunk for chunk in kept if chunk.messages)
        if not self._has_begun:
            positions = self._resume_cursor.positions()
            self._first = {**self._first, **{key: positions[key] for key in moved}}
        self._replay_end.cut(moved)

    async def _tell_losses(self) -> None:
        """A client that is cut off behind a hole must have heard of it, or it never would."""
        if self._finder.lost_spans.spans:
            await self._send_held()
            lost = None if self._held else self._lost()
            if lost is not None:
                self._observer.lost(self._count, lost)

    def _begin(self, count: int | None) -> None:
        if self._cursor is None:
            self._catch_up()
        self._has_begun = True
        self._patience.deadline = math.inf
        self._announced = count
        if count is None:
            self._look_ahead()
        reason = self._finder.lost_spans.reason
        self._context.stats.results[RECOVERED if reason is None else reason] += 1
        self._observer.begun(Replayed(count, self._lost()), self._first)

    def _look_ahead(self) -> None:
        """What has come up to now is replayed, and to be gathered; what comes later is news."""
        self._gathered = None
        self._replay_end.move(self._hub.ingest, self._resume_cursor.positions())

    def _lost(self) -> Lost | None:
        """The records lost since the client was told last."""
        lost_spans, self._finder.lost_spans = self._finder.lost_spans, LostSpans()
        reason = lost_spans.reason
        return None if reason is None else Lost(lost_spans.by_topic(), reason)

    async def _read_log(self) -> None:
        """Let a scan read what history does not have; records read stand if it fails."""
        scans = self._context.scans
        needed = self._finder.missing_from_history()
        cursor = self._cursor = scans.open(self._resume_cursor, self._progressed_at)
        # From here on there is patience for as long as there is progress.
        self._patience.deadline = math.inf
        try:
            # A log that has changed is not read on before `wait_until_reached` has looked at it.
            while cursor.ended is None and not self._finder.is_outdated:
                await self._follow(cursor)
        finally:
            self._cursor = None
            scans.close(cursor)
            self._unpin()
            self._pin = cursor.pin
        self._has_read |= cursor.has_read
        # Many may have reached history together. Each begins a time slice at its turn: the old
        # slices are over since the wait for the scan, and all would wait for another one.
        waited_since = trio.current_time()
        await scans.wait_for_read()
        self._slice.begin()
        # The wait for a turn is queueing, and no lack of progress.
        self._progressed_at = cursor.progressed_at + trio.current_time() - waited_since
        while (chunk := cursor.take()) is not None:
            self._hold_of_log(chunk)
            if self._slice.expired:
                await self._slice.yield_control()
        if not self._has_begun:
            self._patience.deadline = self._progressed_at + _PATIENCE_SECONDS
            if self._held_size() > _HELD_BYTES:
                self._begin(None)
        if cursor.ended is ScanEnd.EXPIRED:
            await self._finder.apply_log_bounds()
            if self._finder.missing_from_history() == needed:
                # The log is another than the tail's: the source will notice.
                await pause()

    async def _follow(self, cursor: ScanCursor) -> None:
        """Take what a scan has read and send it, or wait for the scan to read more."""
        if self._has_begun:
            await self._send_held()
        chunk = cursor.take()
        if chunk is not None:
            self._hold_of_log(chunk)
            if not self._has_begun and self._held_size() > cursor.limit:
                self._begin(None)
        elif self._has_begun:
            await cursor.wait()
        elif not await self._wait(cursor):
            self._has_read |= cursor.has_read
            if not self._finder.is_outdated:
                self._give_up_counting()
                cursor.flush()

    async def _wait(self, cursor: ScanCursor) -> bool:
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
        self._context.stats.from_log += self._hold(chunk)

    def _hold(self, chunk: Chunk) -> int:
        """Keep what the client is to be sent of a chunk; returns how many messages that are."""
        if self._delivered:
            chunk = chunk.filtered(lambda message: not self._delivered.has(message))
        if chunk.messages:
            self._held.append(chunk)
        return len(chunk.messages)

    # ---- history

    async def _count_and_begin(self) -> None:
        """Say how many messages follow, unless history moves on while they are counted."""
        self._look_ahead()
        until = self._replay_end.order
        if self._held_size() < _HELD_BYTES and not await self._gather(until):
            return
        count = 0
        if self._gathered is None:
            # Beside live subscriptions it would be known of each message only.
            if self._delivered:
                self._begin(None)
                return
            count = await self._slice.run(self._hub.history.count(self._resume_cursor, until))
        await self._drop_held()
        if not self._moved_on:
            self._begin(count + sum(len(one.messages) for one in self._held))

    @property
    def _moved_on(self) -> bool:
        """Whether the log or the history is another than when it was looked at last."""
        return self._finder.is_outdated or bool(self._finder.missing_from_history())

    async def _gather(self, until: int | None = None) -> bool:
        """Hold what comes next of history, of all that there is or up to a place in its order.

        Returns whether it does: not if history moves on meanwhile.
        """
        until = self._hub.ingest.order if until is None else until
        history = self._hub.history
        found = await self._slice.run(history.gather(self._resume_cursor, until, _GATHERED_BYTES))
        beside = self._delivered.has if self._delivered else None
        chunks = await self._slice.run(chunks_of(found.messages, beside))
        if self._moved_on:
            return False
        for key, last in found.lasts.items():
            self._resume_cursor.advance(key, last)
        self._held.extend(chunks)
        self._context.stats.from_history += sum(len(one.messages) for one in chunks)
        self._gathered = until if found.is_whole else None
        return True

    async def _drop_held(self) -> None:
        """Let go of what is held of patterns that the client has unsubscribed from."""
        while self._dropped:
            self._dropped = False
            held = await self._slice.run(
                _without_dropped(self._held, set(self._resume_cursor.patterns))
            )
            self._held = deque(one for one in held if one.messages)

    async def _send_held(self) -> None:
        while self._held:
            if self._has_unread:
                await self._drained()
            if self._finder.is_outdated:
                return
            if self._dropped:
                await self._drop_held()
            elif self._held:
                self._send_chunk(self._held.popleft())
                self._has_unread = True

    async def _drained(self) -> None:
        """Wait until the client has taken what it was sent, then for a turn."""
        cursor = self._cursor
        if cursor is not None:
            cursor.busy = True
        try:
            if self._pin is not None:
                with trio.move_on_after(_PINNED_SECONDS) as scope:
                    await self._client.drained()
                if scope.cancelled_caught:
                    self._unpin()
                    await self._client.drained()
            else:
                await self._client.drained()
        finally:
            if cursor is not None:
                cursor.busy = False
        # To send a chunk that many share takes a part of a time slice. A crowd that waits for a
        # slice per chunk takes longer for the log than memory reaches, and reads it again.
        await self._context.scans.wait_for_read()
        self._slice.begin()
        self._has_unread = False

    def _unpin(self) -> None:
        """Let history move on."""
        pin, self._pin = self._pin, None
        if pin is not None:
            self._hub.history.unpin(pin, trio.current_time())

    def _go_live(self, gathered: int) -> bool:
        """Send what has come since history was gathered, and be live; False if that is too much."""
        newer = self._hub.history.newer(gathered, self._most_newer)
        if newer is None:
            self._gathered = None
            self._most_newer *= 2
            return False
        chunk = [message for message in newer if self._resume_cursor.includes(message)]
        if self._delivered:
            chunk = [message for message in chunk if not self._delivered.has(message)]
        self._context.stats.from_history += len(chunk)
        self._send(chunk)
        self._hub.subscribe(
            self._client.subscriber, list(self._resume_cursor.patterns), self._begins
        )
        return True

    def _send_chunk(self, chunk: Chunk) -> None:
        begun = trio.current_time()
        if self._replay_end.covers(chunk):
            # The list is shared by all who get the same, and so is what is made of it.
            self._hub.flush(self._client.subscriber)
            self._count += len(chunk.messages)
            self._hub.replay(self._client.subscriber, chunk.messages)
        else:
            self._send(chunk.messages)
        self._context.stats.send_seconds += trio.current_time() - begun

    def _send(self, messages: Sequence[ChannelMessage]) -> None:
        # Live messages that are due already come first: newer messages do not overtake them.
        self._hub.flush(self._client.subscriber)
        for replay, several in groupby(messages, self._replay_end.includes):
            chunk = list(several)
            if replay:
                self._count += len(chunk)
                self._hub.replay(self._client.subscriber, chunk)
            else:
                self._hub.send(self._client.subscriber, chunk)


def _without_dropped(held: Iterable[Chunk], left: AbstractSet[str]) -> Steps[list[Chunk]]:
    """Chunks without the messages of which no pattern is left."""
    kept = []
    for chunk in list(held):
        kept.append(chunk.filtered(lambda message: not left.isdisjoint(message.patterns)))
        yield
    return kept
