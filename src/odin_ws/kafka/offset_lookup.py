"""Finds the offset to continue from after out-of-range, truncation or an election (KIP-320).

The log is asked for its bounds and, where the epoch of the last record read is known, for the end
of that epoch (KIP-320): a leader that was elected without the last records ends it before our
position.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, TypeVar

from odin_ws.kafka.errors import KafkaUnavailable, RequestUnsupported, error_text
from odin_ws.kafka.offset_queries import Brokers
from odin_ws.kafka.partition import OffsetReset, Partition
from odin_ws.kafka.protocol import (
    EARLIEST,
    LATEST,
    NO_EPOCH,
    EpochEnd,
    EpochEndsRequest,
    ListOffsetsRequest,
    OffsetFound,
)
from odin_ws.records import GapReason, TopicPartition

__all__ = ["look_up", "resolve"]

T = TypeVar("T")

_NO_EPOCH_END: Final = EpochEnd(0, NO_EPOCH, -1)


async def look_up(
    brokers: Brokers, node: int, partitions: Sequence[Partition]
) -> dict[TopicPartition, OffsetReset | str | None]:
    """By partition: the jump to make, None to go on as before, or why that is not known now."""
    try:
        return await _look_up(brokers, node, partitions)
    except KafkaUnavailable as failure:
        return {partition.key: str(failure) for partition in partitions}


async def _look_up(
    brokers: Brokers, node: int, partitions: Sequence[Partition]
) -> dict[TopicPartition, OffsetReset | str | None]:
    # After a change of leaders the epoch alone tells; else the log's bounds do, too.
    keys = [one.key for one in partitions if one.is_out_of_range or one.lookup is not None]
    firsts, ends = await _bounds(brokers, node, keys)
    epochs = {
        partition.key: partition.record_epoch
        for partition in partitions
        if partition.record_epoch != NO_EPOCH and partition.lookup is not GapReason.RECREATED
    }
    current = {partition.key: partition.leader_epoch for partition in partitions}
    epoch_ends: Mapping[TopicPartition, EpochEnd] = {}
    if epochs:
        # Brokers without the request have no epochs that could tell.
        with suppress(RequestUnsupported):
            epoch_ends = await brokers.ask(node, EpochEndsRequest(epochs, current))
    return {
        partition.key: resolve(
            partition,
            firsts.get(partition.key),
            ends.get(partition.key),
            epoch_ends.get(partition.key, _NO_EPOCH_END),
        )
        for partition in partitions
    }


async def _bounds(
    brokers: Brokers, node: int, keys: Sequence[TopicPartition]
) -> tuple[dict[TopicPartition, OffsetFound], dict[TopicPartition, OffsetFound]]:
    """By partition where the log begins and ends; with an error where the answer leaves it out."""
    if not keys:
        return {}, {}
    firsts = await brokers.ask(node, ListOffsetsRequest(dict.fromkeys(keys, EARLIEST)))
    ends = await brokers.ask(node, ListOffsetsRequest(dict.fromkeys(keys, LATEST)))
    missing = dict.fromkeys(keys, OffsetFound(3, -1))
    return missing | firsts, missing | ends


def resolve(
    partition: Partition, first: OffsetFound | None, end: OffsetFound | None, epoch_end: EpochEnd
) -> OffsetReset | str | None:
    """The jump to make, None to go on at the position, or why that is not known now.

    `first`, `end`: the log's bounds, None where they were not asked for. `epoch_end`: where the
    epoch of the last record read ends; without an epoch where that is not known.
    """
    error = next((one.error for one in (first, end, epoch_end) if one and one.error), 0)
    if error:
        return error_text(error)
    first_offset = 0 if first is None else first.offset
    if partition.lookup is GapReason.RECREATED:
        # Everything that the new log has is news.
        return OffsetReset(first_offset, GapReason.RECREATED)
    at = partition.position
    knows_epoch = epoch_end.epoch != NO_EPOCH
    if at < first_offset:
        return OffsetReset(first_offset, GapReason.EXPIRED)
    if knows_epoch and epoch_end.offset < at:
        offset = max(epoch_end.offset, first_offset)
        epoch = epoch_end.epoch if offset == epoch_end.offset else NO_EPOCH
        return OffsetReset(offset, GapReason.TRUNCATED, epoch)
    if end is not None and at > end.offset and not knows_epoch:
        # Never back to the beginning: the records there were delivered, as far as can be known.
        return OffsetReset(end.offset, GapReason.TRUNCATED)
    return None
