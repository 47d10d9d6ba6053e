"""How far a replay reaches: what is behind it is replayed, what is beyond it is news."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from odin_ws.hub import Ingest
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.records import TopicPartition
from odin_ws.resume.scan_chunks import Chunk

__all__ = ["ReplayEnd"]


class ReplayEnd:
    """Where the hub was when a replay began.

    `order`: the place in the hub's order.
    """

    __slots__ = ("_positions", "order")

    def __init__(self) -> None:
        self.order = 0
        self._positions: dict[TopicPartition, int] = {}

    def move(self, ingest: Ingest, partitions: Iterable[TopicPartition]) -> None:
        """Reach up to where the hub is now."""
        self.order = ingest.order
        for key in partitions:
            position = ingest.position(key)
            if position is not None:
                self._positions[key] = position

    def cut(self, moved: Mapping[TopicPartition, int]) -> None:
        """Partitions have nothing beyond these offsets any more: what follows is news."""
        for key in self._positions.keys() & moved.keys():
            self._positions[key] = min(self._positions[key], moved[key])

    def covers(self, chunk: Chunk) -> bool:
        """Whether all messages of a chunk are replayed."""
        positions = self._positions
        return all(last <= positions.get(key, last) for key, last in chunk.lasts.items())

    def includes(self, message: ChannelMessage) -> bool:
        """Whether a message is replayed."""
        if message.order:
            return message.order <= self.order
        # Of the log's messages the hub has made no others.
        record = message.record
        key = TopicPartition(record.topic, record.partition)
        return record.offset <= self._positions.get(key, record.offset)
