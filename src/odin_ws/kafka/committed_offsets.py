"""Reads the committed offsets of a consumer group from its coordinator."""

from __future__ import annotations

import attrs
import structlog

from odin_ws.kafka.client import KafkaClient
from odin_ws.kafka.errors import KafkaUnavailable, error_text
from odin_ws.kafka.log_mark import LogMark
from odin_ws.kafka.protocol import Coordinator, FindCoordinatorRequest, OffsetFetchRequest
from odin_ws.kafka.topic_layout import Layout
from odin_ws.records import TopicPartition

__all__ = ["CommittedOffsetReader", "CommittedPositions"]

log = structlog.get_logger("odin_ws.kafka")


@attrs.frozen
class CommittedPositions:
    """The committed offsets of some partitions, as far as they are of the present topics."""

    found: dict[TopicPartition, int] = attrs.field(factory=dict)
    """Offsets by partition; without the partitions that have none."""
    epochs: dict[TopicPartition, int] = attrs.field(factory=dict)
    """By partition the leader epoch that was committed with its offset."""
    failed: dict[TopicPartition, str] = attrs.field(factory=dict)
    """By partition the reason why its offset is unknown, in words."""


@attrs.frozen
class CommittedOffsetReader:
    """Reads the committed offsets of one group; each partition fails separately."""

    _group: str
    _client: KafkaClient
    _layout: Layout

    async def _find_coordinator(self) -> Coordinator:
        """Request the coordinator from any broker. Raises KafkaUnavailable."""
        reason = "no broker is known"
        for node in list(self._client.brokers):
            try:
                return await self._client.send(node, FindCoordinatorRequest(self._group))
            except KafkaUnavailable as failure:
                reason = str(failure)
        raise KafkaUnavailable(reason)

    async def fetch(self, partitions: frozenset[TopicPartition]) -> CommittedPositions:
        """Request committed offsets from the coordinator. Raises KafkaUnavailable."""
        coordinator = await self._find_coordinator()
        if coordinator.error:
            raise KafkaUnavailable(f"group coordinator: {error_text(coordinator.error)}")
        request = OffsetFetchRequest(self._group, partitions)
        response = await self._client.send(coordinator.node, request)
        if response.error:
            # Different from no committed offset, which would start at the end.
            raise KafkaUnavailable(f"committed offsets: {error_text(response.error)}")
        result = CommittedPositions()
        for key in partitions:
            committed = response.partitions.get(key)
            if committed is None or committed.error:
                result.failed[key] = error_text(committed.error if committed else 3)
            elif committed.offset >= 0 and self._is_same_log(
                key, mark := LogMark.parse(committed.metadata)
            ):
                result.found[key] = committed.offset
                result.epochs[key] = mark.epoch
        return result

    def _is_same_log(self, key: TopicPartition, mark: LogMark) -> bool:
        """Return whether a committed position is of the topic's present log."""
        topic_id = self._layout.topic_ids.get(key.topic)
        is_same = topic_id is None or mark.topic_id in {None, topic_id}
        if not is_same:
            log.warning(
                "topic recreated since the group's last commit",
                topic=key.topic,
                partition=key.partition,
            )
        return is_same
