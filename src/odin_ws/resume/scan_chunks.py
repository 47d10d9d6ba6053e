"""Chunks of messages that a scan has read, shared by the cursors that want the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Generic, TypeVar

from odin_ws.pattern import matching_patterns
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.records import TopicPartition
from odin_ws.steps import STEP_ITEMS, STEP_MESSAGES, Steps

__all__ = ["CHUNK_BYTES", "MESSAGE_BYTES", "Chunk", "ChunkStream", "ChunkStreamIndex", "chunks_of"]

T = TypeVar("T")

# Written at once, then the client must have taken it. Small, so that a slow one is not cut off:
# within WS_WRITE_TIMEOUT_SECONDS 64 KiB are taken at 7 KB a second.
CHUNK_BYTES: Final = 64 << 10

# A message counts this much at least: to encode 512 of them takes half a millisecond.
MESSAGE_BYTES: Final = 128

# The lanes of a key are looked up once; 65,536 keys of the log are more than a platform has.
_MAX_KNOWN: Final = 1 << 16


class Chunk:
    """Messages in the order of the log; `firsts` and `lasts` are their offsets by partition."""

    __slots__ = ("firsts", "lasts", "messages", "size")

    def __init__(self, messages: Iterable[ChannelMessage] = ()) -> None:
        self.messages: list[ChannelMessage] = []
        self.size = 0
        """Bytes of the messages' values, of each `MESSAGE_BYTES` at least."""
        self.firsts: dict[TopicPartition, int] = {}
        self.lasts: dict[TopicPartition, int] = {}
        for message in messages:
            record = message.record
            self.add(message, TopicPartition(record.topic, record.partition))

    def add(self, message: ChannelMessage, key: TopicPartition) -> None:
        """Add the next message of a partition."""
        offset = message.record.offset
        self.messages.append(message)
        self.size += max(MESSAGE_BYTES, len(message.value))
        self.firsts.setdefault(key, offset)
        self.lasts[key] = offset

    def filtered(self, keep: Callable[[ChannelMessage], bool]) -> Chunk:
        """This chunk, or one without the messages that are not to be kept."""
        kept = [message for message in self.messages if keep(message)]
        return self if len(kept) == len(self.messages) else Chunk(kept)

    def after(self, starts: Mapping[TopicPartition, int]) -> Chunk:
        """The messages behind these offsets; none of a partition that has no offset there."""
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
    """Messages as chunks that can be written at once, without those that are to be left out."""
    chunks: list[Chunk] = []
    chunk = Chunk()
    # To decide whether a message is left out takes some look-ups.
    step = STEP_MESSAGES if leave_out is None else STEP_ITEMS
    for count, message in enumerate(messages, 1):
        if leave_out is None or not leave_out(message):
            record = message.record
            chunk.add(message, TopicPartition(record.topic, record.partition))
            if chunk.size >= CHUNK_BYTES:
                chunks.append(chunk)
                chunk = Chunk()
        if not count % step:
            yield
    if chunk.messages:
        chunks.append(chunk)
    return chunks


class ChunkStream(Generic[T]):
    """The messages of one set of patterns, for all cursors that have exactly these.

    `total`: bytes of all its chunks so far.
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
        """Add a message; returns the bytes of the open chunk."""
        self._open.add(message, key)
        return self._open.size

    def close(self) -> bool:
        """Let the members have what the open chunk holds; whether it holds something."""
        if not self._open.messages:
            return False
        self._chunks.append(self._open)
        self.total += self._open.size
        self._open = Chunk()
        return True

    def chunk(self, number: int) -> Chunk | None:
        """A chunk; None where that is the next one."""
        return self._chunks[number - self._base] if number < self.end else None

    def forget(self, first: int) -> None:
        """Let go of the chunks before `first`: all members have them."""
        del self._chunks[: max(0, first - self._base)]
        self._base = max(self._base, first)


class ChunkStreamIndex(Generic[T]):
    """Lanes by pattern: a record is looked up by token and category, however many wait for it."""

    def __init__(self) -> None:
        self._chunk_streams: dict[frozenset[str], ChunkStream[T]] = {}
        self._by_pattern: dict[str, dict[ChunkStream[T], None]] = {}
        # Lanes by token and category, of those looked up; until lanes come or go.
        self._known: dict[tuple[str, str], Sequence[ChunkStream[T]]] = {}

    def __len__(self) -> int:
        """The number of lanes."""
        return len(self._chunk_streams)

    def enter(self, member: T, patterns: frozenset[str]) -> ChunkStream[T]:
        """Put a member in the lane of its patterns, behind all that the lane has so far."""
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
        """Take a member out of its lane; the lane's messages so far can still be had from it."""
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
        """The lanes that want the records of a token and a category, each once."""
        found = self._known.get((token, category))
        if found is None:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            chunk_streams: dict[ChunkStream[T], None] = {}
            for pattern in matching_patterns(token, category):
                chunk_streams.update(self._by_pattern.get(pattern, {}))
            found = self._known[token, category] = list(chunk_streams)
        return found
