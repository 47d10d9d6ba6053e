"""Chunks of messages that a scan has read, shared by all cursors with the same patterns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Generic, TypeVar

from odin_ws.pattern import matching_patterns
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.records import TopicPartition, topic_partition
from odin_ws.steps import STEP_ITEMS, STEP_MESSAGES, Steps

__all__ = ["CHUNK_BYTES", "MESSAGE_BYTES", "Chunk", "ChunkStream", "ChunkStreamIndex", "chunks_of"]

T = TypeVar("T")

# A chunk is written at once, and the next one when the client has received it. Small, so that a
# slow client is not closed: within WS_WRITE_TIMEOUT_SECONDS it receives 64 KiB at 7 KB a second.
CHUNK_BYTES: Final = 64 << 10

# The least that a message counts, in bytes: to encode 512 messages takes half a millisecond.
MESSAGE_BYTES: Final = 128

# Cached look-ups of streams by key: a platform has fewer than 65,536 keys.
_MAX_KNOWN: Final = 1 << 16


class Chunk:
    """Messages in the order of the log, with their first and last offsets by partition."""

    __slots__ = ("firsts", "lasts", "messages", "size")

    def __init__(self, messages: Iterable[ChannelMessage] = ()) -> None:
        self.messages: list[ChannelMessage] = []
        self.size = 0
        """Bytes of the messages' values; each counts `MESSAGE_BYTES` at least."""
        self.firsts: dict[TopicPartition, int] = {}
        self.lasts: dict[TopicPartition, int] = {}
        for message in messages:
            record = message.record
            self.add(message, topic_partition(record.topic, record.partition))

    def add(self, message: ChannelMessage, key: TopicPartition) -> None:
        """Add the next message of a partition."""
        offset = message.record.offset
        self.messages.append(message)
        self.size += max(MESSAGE_BYTES, len(message.value))
        self.firsts.setdefault(key, offset)
        self.lasts[key] = offset

    def filtered(self, keep: Callable[[ChannelMessage], bool]) -> Chunk:
        """Return this chunk, or a copy without the messages for which `keep` is false."""
        kept = [message for message in self.messages if keep(message)]
        return self if len(kept) == len(self.messages) else Chunk(kept)

    def after(self, starts: Mapping[TopicPartition, int]) -> Chunk:
        """Return the messages after these offsets; none of partitions without one."""
        begins: dict[tuple[str, int], int] = {
            key: starts.get(key, last) for key, last in self.lasts.items()
        }
        if all(last <= begins[key] for key, last in self.lasts.items()):
            return Chunk()
        return Chunk(
            message
            for message in self.messages
            for record in (message.record,)
            if record.offset > begins[record.topic, record.partition]
        )


def chunks_of(
    messages: Iterable[ChannelMessage], leave_out: Callable[[ChannelMessage], bool] | None = None
) -> Steps[list[Chunk]]:
    """Return messages as chunks of `CHUNK_BYTES`, without those for which `leave_out` is true."""
    chunks: list[Chunk] = []
    chunk = Chunk()
    # `leave_out` looks up each pattern of a message.
    step = STEP_MESSAGES if leave_out is None else STEP_ITEMS
    for count, message in enumerate(messages, 1):
        if leave_out is None or not leave_out(message):
            record = message.record
            chunk.add(message, topic_partition(record.topic, record.partition))
            if chunk.size >= CHUNK_BYTES:
                chunks.append(chunk)
                chunk = Chunk()
        if not count % step:
            yield
    if chunk.messages:
        chunks.append(chunk)
    return chunks


class ChunkStream(Generic[T]):
    """The chunks of one set of patterns, for all cursors that have exactly these patterns.

    `total`: the bytes of all chunks so far.
    """

    __slots__ = ("_base", "_chunks", "_open", "members", "patterns", "total")

    def __init__(self, patterns: frozenset[str]) -> None:
        self.patterns = patterns
        self.members: dict[T, None] = {}
        self.total = 0
        self._chunks: list[Chunk] = []
        self._base = 0
        self._open = Chunk()

    @property
    def end(self) -> int:
        """The number of the next chunk."""
        return self._base + len(self._chunks)

    def add(self, message: ChannelMessage, key: TopicPartition) -> int:
        """Add a message to the open chunk; return the bytes of the chunk."""
        self._open.add(message, key)
        return self._open.size

    def close(self) -> bool:
        """Publish the open chunk to the members; return whether it had messages."""
        if not self._open.messages:
            return False
        self._chunks.append(self._open)
        self.total += self._open.size
        self._open = Chunk()
        return True

    def chunk(self, number: int) -> Chunk | None:
        """Return a chunk by its number; None if it is not published yet."""
        return self._chunks[number - self._base] if number < self.end else None

    def forget(self, first: int) -> None:
        """Delete the chunks before `first`, which all members have taken."""
        del self._chunks[: max(0, first - self._base)]
        self._base = max(self._base, first)


class ChunkStreamIndex(Generic[T]):
    """The streams by pattern: a record's streams are found by its token and category."""

    def __init__(self) -> None:
        self._chunk_streams: dict[frozenset[str], ChunkStream[T]] = {}
        self._by_pattern: dict[str, dict[ChunkStream[T], None]] = {}
        # Cached streams by token and category, until streams are added or removed.
        self._known: dict[tuple[str, str], Sequence[ChunkStream[T]]] = {}

    def __len__(self) -> int:
        """Return the number of streams."""
        return len(self._chunk_streams)

    def enter(self, member: T, patterns: frozenset[str]) -> ChunkStream[T]:
        """Add a member to the stream of its patterns, after the chunks that the stream has."""
        chunk_stream = self._chunk_streams.get(patterns)
        if chunk_stream is None:
            chunk_stream = self._chunk_streams[patterns] = ChunkStream(patterns)
            self._known.clear()
            for pattern in patterns:
                self._by_pattern.setdefault(pattern, {})[chunk_stream] = None
        chunk_stream.close()
        chunk_stream.members[member] = None
        return chunk_stream

    def leave(self, member: T, chunk_stream: ChunkStream[T]) -> None:
        """Remove a member from its stream; it may still take the chunks so far."""
        chunk_stream.close()
        del chunk_stream.members[member]
        if not chunk_stream.members:
            del self._chunk_streams[chunk_stream.patterns]
            self._known.clear()
            for pattern in chunk_stream.patterns:
                chunk_streams = self._by_pattern[pattern]
                del chunk_streams[chunk_stream]
                if not chunk_streams:
                    del self._by_pattern[pattern]

    def find(self, token: str, category: str) -> Sequence[ChunkStream[T]]:
        """Return the streams that want the records of a token and category, each once."""
        found = self._known.get((token, category))
        if found is None:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            chunk_streams: dict[ChunkStream[T], None] = {}
            for pattern in matching_patterns(token, category):
                chunk_streams.update(self._by_pattern.get(pattern, {}))
            found = self._known[token, category] = list(chunk_streams)
        return found
