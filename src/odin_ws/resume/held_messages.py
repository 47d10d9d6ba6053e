"""The messages that a replay has gathered and not sent yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.records import TopicPartition, topic_partition
from odin_ws.resume.scan_chunks import Chunk
from odin_ws.steps import Steps

__all__ = ["HeldMessages"]


class HeldMessages:
    """A queue of chunks. False without messages."""

    __slots__ = ("_chunks",)

    def __init__(self) -> None:
        self._chunks: deque[Chunk] = deque()

    def __bool__(self) -> bool:
        return bool(self._chunks)

    @property
    def size(self) -> int:
        """The sum of the chunks' sizes, in bytes."""
        return sum(chunk.size for chunk in self._chunks)

    @property
    def count(self) -> int:
        """The number of messages."""
        return sum(len(chunk.messages) for chunk in self._chunks)

    def extend(self, chunks: Iterable[Chunk]) -> int:
        """Append chunks, without empty ones; return the number of their messages."""
        count = 0
        for chunk in chunks:
            if chunk.messages:
                self._chunks.append(chunk)
                count += len(chunk.messages)
        return count

    def take(self) -> Chunk:
        """Remove and return the first chunk."""
        return self._chunks.popleft()

    def remove_beyond(self, ends: Mapping[TopicPartition, int]) -> None:
        """Remove the messages after these offsets, by partition: the log has lost them."""

        def is_there(message: ChannelMessage) -> bool:
            record = message.record
            key = topic_partition(record.topic, record.partition)
            return record.offset <= ends.get(key, record.offset)

        kept = [chunk.filtered(is_there) for chunk in self._chunks]
        self._chunks = deque(chunk for chunk in kept if chunk.messages)

    def keep_patterns(self, patterns: AbstractSet[str]) -> Steps[None]:
        """Remove the messages that match none of the patterns. Nothing may be added meanwhile."""
        kept: deque[Chunk] = deque()
        for chunk in self._chunks:
            remaining = chunk.filtered(lambda message: not patterns.isdisjoint(message.patterns))
            if remaining.messages:
                kept.append(remaining)
            yield
        self._chunks = kept
