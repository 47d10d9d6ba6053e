"""Applies to one partition's state its part of a fetch response, and its leader. No I/O."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from enum import Flag, auto
from typing import Final

from odin_ws.kafka.errors import error_text
from odin_ws.kafka.fetch_plan import LARGEST_PARTITION_BYTES, PARTITION_BYTES
from odin_ws.kafka.partition import Partition
from odin_ws.kafka.protocol import FetchedPartition, PartitionLayout
from odin_ws.kafka.record_batches import read_batches
from odin_ws.kafka.record_headers import NO_NAMES

__all__ = ["Effect", "apply_fetched", "apply_layout"]

_OUT_OF_RANGE: Final = 1

_LEADER_NOT_AVAILABLE: Final = 5

# Error codes after which the metadata may have changed: unknown topic or partition, no leader,
# another leader, replica or disk offline, fenced or unknown leader epoch, new leader, unknown or
# inconsistent topic id.
_REFRESH_METADATA: Final = {3, 5, 6, 9, 56, 74, 75, 78, 100, 103}


class Effect(Flag):
    """The next steps of the fetcher after a response was applied to a partition."""

    NONE = 0
    TAKE = auto()
    """The partition has records to take, or has skipped offsets without records."""
    REFRESH_METADATA = auto()
    """The cluster's layout may have changed: request metadata."""
    EVALUATE = auto()
    """The partition's problem has begun or ended."""
    REPLAN = auto()
    """The partition's position must be looked up, in another task than the fetches."""
    SUSPECT_GAP = auto()
    """The leader's log has offsets after the position, which the next response may not have."""


def apply_fetched(
    partition: Partition,
    fetched: FetchedPartition,
    now: float,
    header_names: AbstractSet[str] = NO_NAMES,
) -> Effect:
    """Apply the part of a fetch response to its partition, at a time of Trio's clock.

    `header_names`: the headers that records keep.
    """
    if fetched.error == _OUT_OF_RANGE:
        return _apply_out_of_range(partition, now)
    if fetched.error:
        partition.fail(error_text(fetched.error), now)
        asks = fetched.error in _REFRESH_METADATA
        return Effect.EVALUATE | Effect.REFRESH_METADATA if asks else Effect.EVALUATE
    partition.high_watermark, partition.last_stable_offset = (
        fetched.high_watermark,
        fetched.last_stable_offset,
    )
    partition.out_of_range_at = None
    if fetched.data:
        return _apply_data(partition, fetched, now, header_names)
    effect = Effect.EVALUATE if partition.mark_fetched() else Effect.NONE
    return (
        effect | Effect.SUSPECT_GAP if fetched.last_stable_offset > partition.position else effect
    )


def _apply_out_of_range(partition: Partition, now: float) -> Effect:
    """Look up a position that was out of range twice.

    Redpanda also responds so for a moment after a change of leaders.
    """
    at = partition.position
    if partition.out_of_range_at == at:
        partition.out_of_range_at = None
        partition.look_up()
        return Effect.REPLAN
    partition.out_of_range_at = at
    partition.fail(f"offset {at} is out of range", now)
    return Effect.EVALUATE


def _apply_data(
    partition: Partition, fetched: FetchedPartition, now: float, header_names: AbstractSet[str]
) -> Effect:
    at = partition.position
    skip = partition.corrupt_at == at
    is_largest = partition.fetch_bytes == LARGEST_PARTITION_BYTES
    partition.corrupt_at = None
    found = read_batches(
        partition.key,
        fetched.data,
        at,
        fetched.aborted,
        skip_corrupt=skip,
        is_largest=is_largest,
        log_end=fetched.high_watermark,
        header_names=header_names,
    )
    if found.next_offset == at:
        if found.corrupt is None:
            size = partition.fetch_bytes or PARTITION_BYTES
            partition.fetch_bytes = min(2 * size, LARGEST_PARTITION_BYTES)
            return Effect.NONE
        # The batch may be intact the next time, from this broker or another.
        partition.corrupt_at = at
        partition.fail(_corrupt_text(at, is_too_large=found.incomplete), now)
        return Effect.EVALUATE
    partition.fetch_bytes = None
    effect = Effect.TAKE | (Effect.EVALUATE if partition.mark_fetched() else Effect.NONE)
    partition.position = found.next_offset
    if found.last_epoch >= 0:
        partition.record_epoch = found.last_epoch
    if found.records:
        partition.buffer(found.records, max(len(fetched.data), found.size))
    # The next response leaves the partition out if it has no news.
    is_behind = found.next_offset < fetched.last_stable_offset
    return effect | Effect.SUSPECT_GAP if is_behind else effect


def _corrupt_text(at: int, *, is_too_large: bool) -> str:
    if is_too_large:
        return f"the batch after offset {at - 1} is larger than {LARGEST_PARTITION_BYTES >> 20} MiB"
    return f"wrong checksum after offset {at - 1}"


def apply_layout(partition: Partition, layout: PartitionLayout, now: float) -> Effect:
    """Apply the leader in the metadata; without one the partition fails and backs off."""
    if layout.leader is not None:
        partition.set_leader(layout.leader, layout.epoch)
        return Effect.NONE
    partition.leader = None
    partition.fail(error_text(layout.error or _LEADER_NOT_AVAILABLE), now)
    return Effect.REFRESH_METADATA | Effect.EVALUATE | Effect.REPLAN
