"""A forward scan of Kafka's log that serves the cursors of many clients.

The scan reads and decodes each record once, and adds it to the chunk streams of the cursors that
want it. Clients take the chunks of their stream at their own pace, within bounds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import trio

from odin_ws.history import Pin, ResumeCursor
from odin_ws.hub import Hub
from odin_ws.log_reader import LogReader, Span
from odin_ws.records import Record, TopicPartition
from odin_ws.resume.replay_limits import ScanStats
from odin_ws.resume.scan_chunks import CHUNK_BYTES, ChunkStream, ChunkStreamIndex
from odin_ws.resume.scan_cursor import CLIENT_BYTES, ScanCursor, ScanEnd

__all__ = ["Scan"]

# Bytes that wait in all streams of a scan; each stream has an equal share, 16 KiB at least.
_SCAN_BYTES: Final = 16 << 20
_MIN_BYTES: Final = 16 << 10

# The time for which a scan keeps the event loop, and the number of records (4 us each) or of
# clients woken (50 us each) after which the scan checks the clock.
_SLICE_SECONDS: Final = 0.002
_SLICE_RECORDS: Final = 32
_SLICE_CLIENTS: Final = 32

# The log reader decodes a batch in one piece, which takes some milliseconds, twice the time of the
# scan's own work on it. The scan then pauses for both together, so it has half of the event loop;
# shorter pauses than the first value are saved up, and the second is the longest.
_PAUSE_SECONDS: Final = (0.002, 0.02)
_PAUSE_FACTOR: Final = 3

# A client that does not take its messages is detached after it has held up others for this many
# seconds, or after all clients of the scan together have; checked at the last interval.
_MAX_BLOCKED_SECONDS: Final = 2.0
_MAX_TOTAL_BLOCKED_SECONDS: Final = 10.0
_ROOM_CHECK_SECONDS: Final = 0.25


class Scan:
    """One forward read of some partitions, from the lowest cursor to the begin of the history.

    `is_awaited`: returns whether other clients wait for the end of this scan.
    """

    def __init__(
        self,
        hub: Hub,
        log_reader: LogReader,
        stats: ScanStats,
        is_awaited: Callable[[], bool],
    ) -> None:
        self.cursors: dict[ScanCursor, None] = {}
        self.positions: dict[TopicPartition, int] = {}
        """The offset up to which each partition was read."""
        self.reads = 0
        """Batches of records read so far."""
        self.progressed_at = -math.inf
        """The time of the last read, or of the last work for its clients."""
        self.scope = trio.CancelScope()
        """Cancelled when the last cursor has left."""
        self._hub = hub
        self._history = hub.history
        self._log_reader = log_reader
        self._stats = stats
        self._is_awaited = is_awaited
        self._index: ChunkStreamIndex[ScanCursor] = ChunkStreamIndex()
        self.rewinds = 0
        """The number of times that the scan went back for other cursors."""
        self._has_begun = self._is_reading = self._is_closed = False
        self._spans: Mapping[TopicPartition, Span] = {}
        # The cursors for which the scan is to go back, and the scope that then ends the reading.
        self._behind: dict[ScanCursor, None] = {}
        self._pass = trio.CancelScope()
        # Streams with chunks for which their members were not woken yet.
        self._closed: dict[ChunkStream[ScanCursor], None] = {}
        self._full: dict[ScanCursor, None] = {}
        self._room = trio.Event()
        self._blocked_seconds = 0.0
        # Seconds of pause that are saved up.
        self._pause_owed = 0.0

    # ---- cursors; these methods are synchronous

    def admits(self, resume_cursor: ResumeCursor) -> bool:
        """Return whether the scan is not past the client's position in any needed partition."""
        if self._is_closed:
            return False
        floor = self._history.floor
        for key, offset in resume_cursor.positions().items():
            at = self.positions.get(key)
            if at is None:
                # Until reading begins, a partition can be added at any offset.
                end = floor(key)
                if self._is_reading and end is not None and offset < end:
                    return False
            elif at > offset and self._is_reading:
                return False
        return True

    def attach(self, cursor: ScanCursor) -> None:
        """Add a cursor that `admits` has accepted."""
        floor = self._history.floor
        for key, offset in cursor.resume_cursor.positions().items():
            end = floor(key)
            position = offset if end is None else min(offset, end)
            # A reading scan admits no cursor behind it, so this moves no position back.
            self.positions[key] = min(position, self.positions.get(key, position))
        self.cursors[cursor] = None
        self._stats.clients += 1
        cursor.join(self)
        self.enter_stream(cursor)

    @property
    def all_cursors(self) -> list[ScanCursor]:
        """The cursors on the scan, and the cursors for which the scan will go back."""
        return [*self.cursors, *self._behind]

    def can_rewind(self, lowest: Mapping[TopicPartition, int]) -> bool:
        """Return whether going back to these offsets costs at most the records left to read.

        Then another scan would cost more, and no client of this scan waits more than twice as long.
        """
        if self._is_closed or not self._is_reading:
            return False
        remaining = sum(max(0, end.last - self.positions[key]) for key, end in self._spans.items())
        again = sum(
            max(0, self.positions.get(key, self._history.floor(key) or 0) - offset)
            for key, offset in lowest.items()
        )
        return again <= remaining

    def rewind_for(self, cursors: Iterable[ScanCursor]) -> None:
        """Go back to the lowest of these cursors, and read on for all."""
        for cursor in cursors:
            cursor.join(self)
            self._behind[cursor] = None
        self._pass.cancel()

    def enter_stream(self, cursor: ScanCursor) -> None:
        """Add a cursor to the stream of its patterns."""
        cursor.enter(self._index.enter(cursor, frozenset(cursor.resume_cursor.patterns)))

    def leave_stream(self, cursor: ScanCursor) -> None:
        """Remove a cursor from its stream, with all that was read for it so far."""
        chunk_stream = cursor.chunk_stream
        if chunk_stream is not None:
            self._index.leave(cursor, chunk_stream)
            cursor.leave(self.positions)
            self._forget_full(cursor)

    def leave(self, cursor: ScanCursor) -> None:
        """Remove a cursor; after the last one the scan ends."""
        self.leave_stream(cursor)
        if cursor in self.cursors:
            del self.cursors[cursor]
            self._stats.clients -= 1
        self._behind.pop(cursor, None)
        cursor.detach()
        if self._has_begun and not self.all_cursors:
            self._is_closed = True
            self.scope.cancel()

    def end(self, cursor: ScanCursor, ending: ScanEnd) -> None:
        """Remove a cursor, and wake its client."""
        self.leave(cursor)
        cursor.ended = ending
        cursor.wake()

    def on_chunk_taken(self, cursor: ScanCursor) -> None:
        """Note that a client has taken a chunk."""
        if cursor in self._full and cursor.pending <= self.limit // 2:
            self._forget_full(cursor)

    def _forget_full(self, cursor: ScanCursor) -> None:
        if cursor in self._full:
            del self._full[cursor]
            if not self._full:
                self._room.set()

    @property
    def limit(self) -> int:
        """The bytes that may wait for one client."""
        share = _SCAN_BYTES // max(1, len(self._index))
        return min(CLIENT_BYTES, max(_MIN_BYTES, share))

    # ---- reading

    async def run(self) -> None:
        """Read until the history has the next record of all cursors, or no cursor is left.

        Raises LogUnavailable and RecordsExpired; the cursors then stay on the scan.
        """
        self._has_begun = True
        pin = self._history.pin()
        try:
            while self.cursors and (spans := self._remaining()):
                await self._read(spans)
                if self._behind:
                    await self._rewind()
                if not self._history.holds(pin):
                    pin = self._history.pin()
            await self._end_all(ScanEnd.REACHED, pin)
        finally:
            self._history.unpin(pin, trio.current_time())

    def close(self) -> None:
        """Admit no more cursors."""
        self._is_closed = True

    async def end_all(self, ending: ScanEnd) -> None:
        """Remove all cursors, and wake their clients."""
        await self._end_all(ending, None)

    def _remaining(self) -> dict[TopicPartition, Span]:
        """Return the spans to read up to the history."""
        floor = self._history.floor
        return {
            key: Span(offset + 1, end)
            for key, offset in self.positions.items()
            if (end := floor(key)) is not None and offset < end
        }

    async def _read(self, spans: Mapping[TopicPartition, Span]) -> None:
        """Read up to the end of all spans, or until the scan is to go back."""
        self._spans, self._is_reading = spans, True
        with trio.CancelScope() as self._pass:
            # The spans are of the logs that the hub knows now: see LogReader.
            ids = dict(self._hub.stream.changes.ids)
            async with self._log_reader.read(spans, ids) as batches:
                async for records in batches:
                    begun, before = trio.current_time(), self._stats.seconds
                    await self._match(records)
                    # Time of other tasks does not count, nor does a clock that stands still.
                    took = min(trio.current_time() - begun, self._stats.seconds - before)
                    self._pause_owed += _PAUSE_FACTOR * took
                    self._progress()
                    await self._serve()
                    await self._wait_for_room()
                    await self._pause()
            # Not every offset holds a record.
            for key, span in spans.items():
                self.positions[key] = max(self.positions[key], span.last)
            self._progress()

    async def _pause(self) -> None:
        """Pause for as long as the scan has kept the event loop."""
        least, maximum = _PAUSE_SECONDS
        if self._pause_owed >= least:
            seconds, self._pause_owed = min(maximum, self._pause_owed), 0.0
            await trio.sleep(seconds)

    async def _rewind(self) -> None:
        """Attach the cursors for which the scan goes back; the others skip repeated records."""
        self.rewinds += 1
        # Each cursor leaves its stream and stores its position before `positions` is lowered:
        # otherwise the cursor would get the same records again.
        await self._change(list(self.cursors), self.leave_stream)
        self._is_reading = False
        await self._change(list(self._behind), self._attach_rewound)
        await self._change(list(self.cursors), self._enter_stream_again)

    async def _change(
        self, cursors: Iterable[ScanCursor], change: Callable[[ScanCursor], None]
    ) -> None:
        for number, cursor in enumerate(cursors, 1):
            change(cursor)
            if not number % _SLICE_CLIENTS:
                await self.yield_control()

    def _attach_rewound(self, cursor: ScanCursor) -> None:
        if self._behind.pop(cursor, self) is None and cursor.ended is None:
            self.attach(cursor)

    def _enter_stream_again(self, cursor: ScanCursor) -> None:
        if cursor in self.cursors and cursor.chunk_stream is None:
            self.enter_stream(cursor)

    def _progress(self) -> None:
        self.reads += 1
        self.progressed_at = trio.current_time()

    async def _match(self, records: Sequence[Record]) -> None:
        """Add records to the streams that want them."""
        chunk_bytes = min(CHUNK_BYTES, self.limit)
        over = trio.current_time() + _SLICE_SECONDS
        begun = time.thread_time()
        for number, record in enumerate(records, 1):
            self._add(record, chunk_bytes)
            if not number % _SLICE_RECORDS and trio.current_time() > over:
                self._stats.seconds += time.thread_time() - begun
                await self.yield_control()
                over = trio.current_time() + _SLICE_SECONDS
                begun = time.thread_time()
        self._stats.seconds += time.thread_time() - begun
        self._stats.records += len(records)

    def _add(self, record: Record, chunk_bytes: int) -> None:
        key = TopicPartition(record.topic, record.partition)
        ingest = self._hub.ingest
        token = ingest.token(record)
        if token is not None:
            # Looked up before the value is parsed: most records are of other tokens.
            chunk_streams = self._index.find(
                token, self._hub.stream.catalogue.topics[record.topic].category
            )
            message = ingest.read(record) if chunk_streams else None
            if message is not None:
                self._stats.matched += 1
                for chunk_stream in chunk_streams:
                    if chunk_stream.add(message, key) >= chunk_bytes:
                        chunk_stream.close()
                        self._closed[chunk_stream] = None
        self.positions[key] = record.offset

    async def _serve(self) -> None:
        """Wake the clients with new chunks, and note those with more than `limit` bytes."""
        count, limit = 0, self.limit
        closed, self._closed = self._closed, {}
        for chunk_stream in closed:
            first = chunk_stream.end
            for cursor in list(chunk_stream.members):
                if cursor.chunk_stream is not chunk_stream:
                    continue
                first = min(first, cursor.next)
                if cursor.pending > limit:
                    self._full[cursor] = None
                cursor.wake()
                count += 1
                if not count % _SLICE_CLIENTS:
                    await self.yield_control()
            chunk_stream.forget(first)
        if count:
            # The clients take their chunk before the next one is made.
            await self.yield_control()

    async def _wait_for_room(self) -> None:
        """Wait for clients with too many bytes, and detach those that hold up others."""
        while self._full:
            begun = trio.current_time()
            self._room = trio.Event()
            with trio.move_on_after(_ROOM_CHECK_SECONDS):
                await self._room.wait()
            if self._full and self._blocks_others():
                waited = trio.current_time() - begun
                self._blocked_seconds += waited
                # A client that is not busy waits for a turn of the event loop: it is not slow.
                for cursor in [full for full in self._full if full.busy]:
                    cursor.blocked_seconds += waited
                    if (
                        cursor.blocked_seconds > _MAX_BLOCKED_SECONDS
                        or self._blocked_seconds > _MAX_TOTAL_BLOCKED_SECONDS
                    ):
                        self._stats.detached += 1
                        self.end(cursor, ScanEnd.DETACHED)

    def _blocks_others(self) -> bool:
        """Return whether another client waits for records that the scan could read now."""
        return self._is_awaited() or any(
            cursor not in self._full and not cursor.busy for cursor in self.cursors
        )

    async def _end_all(self, ending: ScanEnd, pin: Pin | None) -> None:
        self._is_closed = True
        for number, cursor in enumerate(self.all_cursors, 1):
            if cursor.scan is self:
                if pin is not None:
                    cursor.pin = self._history.share(pin)
                self.end(cursor, ending)
            if not number % _SLICE_CLIENTS:
                await self.yield_control()

    async def yield_control(self) -> None:
        """Let other tasks run; the scan does not queue behind its clients.

        The scan's work for clients counts as progress, so it does not use up their deadlines.
        """
        await trio.lowlevel.checkpoint()
        self.progressed_at = trio.current_time()
