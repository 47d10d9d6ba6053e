"""Offset queries (ListOffsets) to many brokers; each partition fails separately."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

import attrs
import trio

from odin_ws.kafka.client import Brokers
from odin_ws.kafka.errors import KafkaUnavailable, error_text
from odin_ws.kafka.protocol import ListOffsetsRequest
from odin_ws.records import TopicPartition

__all__ = ["Offsets", "list_offsets"]

_DENIED = "not authorized to see the topic (DESCRIBE)"

# A log in a format of before Kafka 0.10 cannot be searched by time.
_UNSUPPORTED_FOR_MESSAGE_FORMAT: Final = 43


@attrs.frozen
class Offsets:
    """The result of an offset query."""

    found: dict[TopicPartition, int] = attrs.field(factory=dict)
    """Offsets by partition."""
    epochs: dict[TopicPartition, int] = attrs.field(factory=dict)
    """By partition the leader epoch at the offset; -1 if the broker does not know it."""
    failed: dict[TopicPartition, str] = attrs.field(factory=dict)
    """By partition the reason why the offset is unknown, in words."""
    undated: set[TopicPartition] = attrs.field(factory=set)
    """Partitions whose offset of a time is unknown forever: their records have no timestamps."""


async def list_offsets(
    brokers: Brokers,
    times: Mapping[TopicPartition, int],
    leaders: Mapping[TopicPartition, int | None],
    *,
    committed: bool = False,
) -> Offsets:
    """Request the offsets of times (epoch ms, EARLIEST or LATEST) from the leaders.

    `committed`: LATEST is the end of committed records. The offset is -1 if no record is that
    young. Takes as long as the slowest leader; each request has a timeout.
    """
    result = Offsets()
    by_leader: dict[int, dict[TopicPartition, int]] = {}
    for key, at in times.items():
        leader = leaders.get(key)
        if leader is None:
            result.failed[key] = "no leader"
        else:
            by_leader.setdefault(leader, {})[key] = at
    async with trio.open_nursery() as nursery:
        for node, node_times in by_leader.items():
            request = ListOffsetsRequest(node_times, committed)
            nursery.start_soon(partial(_query, brokers, node, request, result))
    return result


async def _query(brokers: Brokers, node: int, request: ListOffsetsRequest, result: Offsets) -> None:
    try:
        response = await brokers.send(node, request)
    except KafkaUnavailable as failure:
        result.failed.update(dict.fromkeys(request.times, str(failure)))
        return
    for key, at in request.times.items():
        partition = response.get(key)
        if partition is None:
            result.failed[key] = "missing in the leader's response"
        elif partition.error == _UNSUPPORTED_FOR_MESSAGE_FORMAT and at >= 0:
            result.undated.add(key)
        elif partition.error:
            result.failed[key] = error_text(partition.error, denied=_DENIED)
        else:
            result.found[key] = partition.offset
            result.epochs[key] = partition.epoch
