"""Finds the offset to continue from after out-of-range, truncation or an election (KIP-320).

Requests the log's bounds and, if the epoch of the last record read is known, the end offset of that
epoch (KIP-320): a leader that was elected without the last records ends the epoch before our
position.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from odin_ws.kafka.client import Brokers
from odin_ws.kafka.errors import KafkaUnavailable, RequestUnsupported, error_text
from odin_ws.kafka.fetch_result import Effect
from odin_ws.kafka.partition import OffsetReset, Partition
from odin_ws.kafka.protocol import (
    EARLIEST,
    LATEST,
    NO_EPOCH,
    EpochEndOffset,
    ListOffsetsRequest,
    OffsetForLeaderEpochRequest,
    OffsetFound,
)
from odin_ws.records import GapReason, TopicPartition

__all__ = ["apply_outcome", "look_up", "resolve"]

# After how long a truncation is looked up again.
_CONFIRM_SECONDS: Final = 0.3

_NO_EPOCH_END: Final = EpochEndOffset(0, NO_EPOCH, -1)


async def look_up(
    brokers: Brokers, node: int, partitions: Sequence[Partition]
) -> dict[TopicPartition, OffsetReset | str | None]:
    """Return by partition the reset, None to continue as before, or why that is unknown now."""
    try:
        return await _look_up(brokers, node, partitions)
    except KafkaUnavailable as failure:
        return {partition.key: str(failure) for partition in partitions}


async def _look_up(
    brokers: Brokers, node: int, partitions: Sequence[Partition]
) -> dict[TopicPartition, OffsetReset | str | None]:
    # After a leader change the epoch is enough; otherwise the bounds are needed too.
    keys = [
        partition.key
        for partition in partitions
        if partition.is_out_of_range or partition.lookup is not None
    ]
    firsts, ends = await _bounds(brokers, node, keys)
    epochs = {
        partition.key: partition.record_epoch
        for partition in partitions
        if partition.record_epoch != NO_EPOCH and partition.lookup is not GapReason.RECREATED
    }
    current = {partition.key: partition.leader_epoch for partition in partitions}
    epoch_ends: Mapping[TopicPartition, EpochEndOffset] = {}
    if epochs:
        # Brokers without this request have no usable epochs.
        with suppress(RequestUnsupported):
            epoch_ends = await brokers.send(node, OffsetForLeaderEpochRequest(epochs, current))
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
    """Return by partition the log's first and end offset; with an error for missing partitions."""
    if not keys:
        return {}, {}
    firsts = await brokers.send(node, ListOffsetsRequest(dict.fromkeys(keys, EARLIEST)))
    ends = await brokers.send(node, ListOffsetsRequest(dict.fromkeys(keys, LATEST)))
    missing = dict.fromkeys(keys, OffsetFound(3, -1))
    return missing | firsts, missing | ends


def resolve(
    partition: Partition,
    first: OffsetFound | None,
    end: OffsetFound | None,
    epoch_end: EpochEndOffset,
) -> OffsetReset | str | None:
    """Return the reset, None to continue at the position, or why that is unknown now.

    `first`, `end`: the log's bounds, None if not requested. `epoch_end`: the end of the epoch of
    the last record read; without an epoch if that is unknown.
    """
    error = next(
        (response.error for response in (first, end, epoch_end) if response and response.error), 0
    )
    if error:
        return error_text(error)
    first_offset = 0 if first is None else first.offset
    if partition.lookup is GapReason.RECREATED:
        # No record of the new log was read.
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
        # Not at the beginning: the records there were delivered, as far as known.
        return OffsetReset(end.offset, GapReason.TRUNCATED)
    return None


def apply_outcome(partition: Partition, outcome: OffsetReset | str | None, now: float) -> Effect:
    """Apply the result of `look_up` to a partition that still waits for it."""
    if isinstance(outcome, str):
        partition.fail(outcome, now)
        return Effect.REFRESH_METADATA | Effect.EVALUATE | Effect.REPLAN
    if outcome is None:
        partition.keep_position()
        return Effect.NONE
    if not partition.confirm(outcome):
        partition.fail(f"the log may end before offset {partition.position}", now, _CONFIRM_SECONDS)
        return Effect.EVALUATE | Effect.REPLAN
    partition.reset(outcome)
    return Effect.TAKE
