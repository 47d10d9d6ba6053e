"""The committed offsets of a consumer group, and its coordinator, in memory."""

from __future__ import annotations

from collections.abc import Collection

import attrs

from odin_ws.kafka.protocol import CommittedOffset, CommittedOffsets, Coordinator
from odin_ws.records import TopicPartition

__all__ = ["GroupOffsets"]

NOT_COORDINATOR = 16


@attrs.define(eq=False)
class GroupOffsets:
    """What a coordinator responds to OffsetFetch."""

    offsets: dict[TopicPartition, int] = attrs.field(factory=dict)
    metadata: dict[TopicPartition, str] = attrs.field(factory=dict)
    coordinator: Coordinator = attrs.field(factory=lambda: Coordinator(0, 0))
    error: int = 0
    """The error code of the whole response."""
    errors: dict[TopicPartition, int] = attrs.field(factory=dict)
    """Error codes of partitions."""
    left_out: set[TopicPartition] = attrs.field(factory=set)
    """Partitions that the response lacks."""

    def response(self, node: int, partitions: Collection[TopicPartition]) -> CommittedOffsets:
        """Return the response of a broker to OffsetFetch."""
        if node != self.coordinator.node:
            return CommittedOffsets(NOT_COORDINATOR, {})
        if self.error:
            return CommittedOffsets(self.error, {})
        return CommittedOffsets(
            0,
            {
                key: CommittedOffset(
                    self.errors.get(key, 0), self.offsets.get(key, -1), self.metadata.get(key, "")
                )
                for key in partitions
                if key not in self.left_out
            },
        )
