"""The end of a replay: messages up to it are replayed, later ones are live."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from odin_ws.hub import Stream
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.records import TopicPartition
from odin_ws.resume.scan_chunks import Chunk

__all__ = ["ReplayEnd"]


class ReplayEnd:
    """The position of the hub when a replay began.

    `order`: this position as a place in the hub's order.
    """

    __slots__ = ("_positions", "order")

    def __init__(self) -> None:
        self.order = 0
        self._positions: dict[TopicPartition, int] = {}

    def move(self, stream: Stream, partitions: Iterable[TopicPartition]) -> None:
        """Move the end to the present position of the hub."""
        self.order = stream.order
        for key in partitions:
            position = stream.position(key)
            if position is not None:
                self._positions[key] = position

    def cut(self, moved: Mapping[TopicPartition, int]) -> None:
        """Move the end back to these offsets, after which partitions were truncated."""
        for key in self._positions.keys() & moved.keys():
            self._positions[key] = min(self._positions[key], moved[key])

    def covers(self, chunk: Chunk) -> bool:
        """Return whether all messages of a chunk are replayed."""
        positions = self._positions
        return all(last <= positions.get(key, last) for key, last in chunk.lasts.items())

    def includes(self, message: ChannelMessage) -> bool:
        """Return whether a message is replayed."""
        if message.order:
            return message.order <= self.order
        # A message that a scan has read has no place in the hub's order.
        record = message.record
        key = TopicPartition(record.topic, record.partition)
        return record.offset <= self._positions.get(key, record.offset)
