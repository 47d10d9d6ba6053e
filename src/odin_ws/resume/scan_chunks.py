"""Chunks of messages that a scan has read, shared by the cursors that want the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Generic, TypeVar

from odin_ws.pattern import matching_patterns
from odin_ws.protocol.envelope import Message
from odin_ws.records import TopicPartition
from odin_ws.steps import STEP_ITEMS, STEP_MESSAGES, Steps

__all__ = ["CHUNK_BYTES", "MESSAGE_BYTES", "Chunk", "Lane", "LaneIndex", "chunks_of"]

T = TypeVar("T")

# Written at once, then the client must have taken it. Small, so that a slow one is not cut off:
# within WS_OUTBOX_SECONDS 64 KiB are taken at 7 KB a second.
CHUNK_BYTES: Final = 64 << 10

# A message counts this much at least: to encode 512 of them takes half a millisecond.
MESSAGE_BYTES: Final = 128

# The lanes of a key are looked up once; 65,536 keys of the log are more than a platform has.
_MAX_KNOWN: Final = 1 << 16


class Chunk:
    """Messages in the order of the log; `firsts` and `lasts` are their offsets by partition."""

    __slots__ = ("firsts", "lasts", "messages", "size")

    def __init__(self, messages: Iterable[Message] = ()) -> None:
        self.messages: list[Message] = []
        self.size = 0
        """Bytes of the messages' values, of each `MESSAGE_BYTES` at least."""
        self.firsts: dict[TopicPartition, int] = {}
        self.lasts: dict[TopicPartition, int] = {}
        for message in messages:
            record = message.record
            self.add(message, TopicPartition(record.topic, record.partition))

    def add(self, message: Message, key: TopicPartition) -> None:
        """Add the next message of a partition."""
        offset = message.record.offset
        self.messages.append(message)
        self.size += max(MESSAGE_BYTES, len(message.value))
        self.firsts.setdefault(key, offset)
        self.lasts[key] = offset

    def filtered(self, keep: Callable[[Message], bool]) -> Chunk:
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
    messages: Iterable[Message], leave_out: Callable[[Message], bool] | None = None
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


class Lane(Generic[T]):
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

    def add(self, message: Message, key: TopicPartition) -> int:
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


class LaneIndex(Generic[T]):
    """Lanes by pattern: a record is looked up by token and category, however many wait for it."""

    def __init__(self) -> None:
        self._lanes: dict[frozenset[str], Lane[T]] = {}
        self._by_pattern: dict[str, dict[Lane[T], None]] = {}
        # Lanes by token and category, of those looked up; until lanes come or go.
        self._known: dict[tuple[str, str], Sequence[Lane[T]]] = {}

    def __len__(self) -> int:
        """The number of lanes."""
        return len(self._lanes)

    def enter(self, member: T, patterns: frozenset[str]) -> Lane[T]:
        """Put a member in the lane of its patterns, behind all that the lane has so far."""
        lane = self._lanes.get(patterns)
        if lane is None:
            lane = self._lanes[patterns] = Lane(patterns)
            self._known.clear()
            for pattern in patterns:
                self._by_pattern.setdefault(pattern, {})[lane] = None
        lane.close()
        lane.members[member] = None
        return lane

    def leave(self, member: T, lane: Lane[T]) -> None:
        """Take a member out of its lane; the lane's messages so far can still be had from it."""
        lane.close()
        del lane.members[member]
        if not lane.members:
            del self._lanes[lane.patterns]
            self._known.clear()
            for pattern in lane.patterns:
                lanes = self._by_pattern[pattern]
                del lanes[lane]
                if not lanes:
                    del self._by_pattern[pattern]

    def find(self, token: str, category: str) -> Sequence[Lane[T]]:
        """The lanes that want the records of a token and a category, each once."""
        found = self._known.get((token, category))
        if found is None:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            lanes: dict[Lane[T], None] = {}
            for pattern in matching_patterns(token, category):
                lanes.update(self._by_pattern.get(pattern, {}))
            found = self._known[token, category] = list(lanes)
        return found
