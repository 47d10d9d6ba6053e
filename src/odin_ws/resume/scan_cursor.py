"""The scan cursor: one client's place in the log while a scan reads it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Final

import attrs
import trio

from odin_ws.backoff import Backoff
from odin_ws.history import Pin, ResumeCursor
from odin_ws.records import TopicPartition
from odin_ws.resume.scan_chunks import Chunk, ChunkStream

if TYPE_CHECKING:
    from odin_ws.resume.scan import Scan

__all__ = ["CLIENT_BYTES", "ScanCursor", "ScanEnd", "WaitingGroup"]

# The bytes that may wait for one client.
CLIENT_BYTES: Final = 1 << 20


class ScanEnd(Enum):
    """The end of a scan for one cursor."""

    REACHED = "reached"
    """The scan has reached the history, which is pinned from there on."""

    DETACHED = "detached"
    """The client did not take its messages: it continues on a later scan."""

    EXPIRED = "expired"
    """The log no longer has the next records of the scan."""


@attrs.define(eq=False)
class WaitingGroup:
    """Cursors that wait for the same scan. Times are Trio's, in seconds."""

    since: float
    """The time at which the first cursor joined."""
    joined_at: float
    """The time at which the last cursor joined."""
    backoff: Backoff | None = None
    """The back-off since the log answered last; None if it did not fail."""
    not_before: float = -math.inf
    """When the next scan may begin, after a failure."""
    cursors: dict[ScanCursor, None] = attrs.field(factory=dict)
    lowest: dict[TopicPartition, int] = attrs.field(factory=dict)
    """The offsets at which the scan would begin."""

    def add(self, cursor: ScanCursor, now: float) -> None:
        """Add a cursor."""
        self.cursors[cursor] = None
        self.joined_at = now
        cursor.group = self
        for key, offset in cursor.resume_cursor.positions().items():
            self.lowest[key] = min(offset, self.lowest.get(key, offset))


class ScanCursor:
    """One client's place in the log: it is on a scan or waits for one.

    `resume_cursor` advances when the cursor leaves the scan, not while it is on it.
    """

    def __init__(self, resume_cursor: ResumeCursor, since: float) -> None:
        self.resume_cursor = resume_cursor
        self.ended: ScanEnd | None = None
        self.pin: Pin | None = None
        """After REACHED: the pin of the history; the replay that takes it releases it."""
        self.busy = False
        """True if the client has not yet received what it was sent last."""
        self.blocked_seconds = 0.0
        """Seconds for which the client has held up others on its scan."""
        self.scan: Scan | None = None
        self.group: WaitingGroup | None = None
        """The group in which it waits, while it is on no scan."""
        self.chunk_stream: ChunkStream[ScanCursor] | None = None
        self.next = 0
        """The number of the next chunk of its stream."""
        self._since = since
        self._reads = 0
        self._has_read = False
        self._taken = 0
        self._starts: Mapping[TopicPartition, int] = {}
        self._is_uniform = False
        self._rest: deque[Chunk] = deque()
        self._news = trio.Event()

    @property
    def progressed_at(self) -> float:
        """The time of the last read for the client, or of the beginning of its wait."""
        return self._since if self.scan is None else max(self._since, self.scan.progressed_at)

    @property
    def has_read(self) -> bool:
        """True if a scan has read a batch since the cursor joined it."""
        return self._has_read or (self.scan is not None and self.scan.reads > self._reads)

    @property
    def limit(self) -> int:
        """The bytes that may wait for the client."""
        return CLIENT_BYTES if self.scan is None else self.scan.limit

    @property
    def pending(self) -> int:
        """The bytes that wait for the client."""
        rest = sum(chunk.size for chunk in self._rest)
        return rest if self.chunk_stream is None else rest + self.chunk_stream.total - self._taken

    def flush(self) -> None:
        """Publish the records read so far, even if they do not fill a chunk."""
        if self.chunk_stream is not None:
            self.chunk_stream.close()

    def has_waited(self, until: float) -> None:
        """Note that there was progress until `until` while the client waited for a scan."""
        self._since = max(self._since, until)

    def join(self, scan: Scan) -> None:
        """Note the scan that the cursor is on."""
        self.scan, self._reads = scan, scan.reads

    def detach(self) -> None:
        """Note that the cursor is on no scan."""
        self._since, self._has_read, self.scan = self.progressed_at, self.has_read, None

    def wake(self) -> None:
        """Wake the client: there is a chunk, or the scan has ended for it."""
        self._news.set()

    async def wait(self) -> None:
        """Wait for `wake`; return at once if the scan has ended."""
        if self.ended is None:
            await self._news.wait()
            self._news = trio.Event()

    def take(self) -> Chunk | None:
        """Return the wanted messages of the next chunk; None if no chunk is there yet."""
        while self._rest:
            if (rest := self._rest.popleft()).messages:
                return rest
        while self.chunk_stream is not None and self.scan is not None:
            chunk = self.chunk_stream.chunk(self.next)
            if chunk is None:
                break
            self.next += 1
            self._taken += chunk.size
            self.scan.on_chunk_taken(self)
            if (mine := self._wanted_of(chunk)).messages:
                return mine
        return None

    def drop(self, patterns: Collection[str]) -> bool:
        """Remove patterns; return whether the cursor had any of them."""
        scan, was_in_stream = self.scan, self.chunk_stream is not None
        if scan is not None:
            scan.leave_stream(self)
        dropped = self.resume_cursor.drop(patterns)
        remaining = set(self.resume_cursor.patterns)
        self._rest = deque(
            chunk.filtered(lambda message: not remaining.isdisjoint(message.patterns))
            for chunk in self._rest
        )
        if not remaining:
            self.ended = self.ended or ScanEnd.DETACHED
            self.wake()
        elif scan is not None and was_in_stream:
            scan.enter_stream(self)
        return dropped

    def enter(self, chunk_stream: ChunkStream[ScanCursor]) -> None:
        """Take the chunks of a stream from its end on."""
        self.chunk_stream, self.next, self._taken = (
            chunk_stream,
            chunk_stream.end,
            chunk_stream.total,
        )
        self._is_uniform = self.resume_cursor.is_uniform
        self._starts = self.resume_cursor.highest()

    def leave(self, positions: Mapping[TopicPartition, int]) -> None:
        """Keep the remaining chunks of the stream, and advance to the scan's positions."""
        chunk_stream, self.chunk_stream = self.chunk_stream, None
        while chunk_stream is not None and (chunk := chunk_stream.chunk(self.next)) is not None:
            self.next += 1
            self._rest.append(self._wanted_of(chunk))
        for key in list(self.resume_cursor.positions()):
            if key in positions:
                self.resume_cursor.advance(key, positions[key])

    def _wanted_of(self, chunk: Chunk) -> Chunk:
        if not self._is_uniform:
            return chunk.filtered(self.resume_cursor.includes)
        # The stream has the messages of exactly the client's patterns, which share one mapping of
        # positions: the offset alone decides.
        starts = self._starts
        if all(key in starts and first > starts[key] for key, first in chunk.firsts.items()):
            return chunk
        return chunk.after(starts)
