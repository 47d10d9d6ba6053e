"""Where reading goes on in partitions whose position may not be in the log any more.

The log is asked for its bounds and, where the epoch of the last record read is known, for the end
of that epoch (KIP-320): a leader that was elected without the last records ends it before our
position.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, Protocol, TypeVar

from odin_ws.kafka.errors import KafkaUnavailable, RequestUnsupported, error_text
from odin_ws.kafka.partition import Jump, Partition
from odin_ws.kafka.protocol import (
    EARLIEST,
    LATEST,
    NO_EPOCH,
    EpochEnd,
    EpochEndsRequest,
    KafkaRequest,
    ListOffsetsRequest,
    OffsetFound,
)
from odin_ws.records import JumpReason, TopicPartition

__all__ = ["Brokers", "judge", "look_up"]

T = TypeVar("T")

_NO_EPOCH_END: Final = EpochEnd(0, NO_EPOCH, -1)


class Brokers(Protocol):
    """What a look-up asks of a KafkaClient."""

    async def ask(self, node: int, request: KafkaRequest[T]) -> T:
        """Send a request to one broker. Raises KafkaUnavailable."""
        ...


async def look_up(
    brokers: Brokers, partitions: Sequence[Partition]
) -> dict[TopicPartition, Jump | str | None]:
    """By partition: the jump to make, None to go on as before, or why that is not known now."""
    by_leader: dict[int, list[Partition]] = {}
    for partition in partitions:
        if partition.leader is not None:
            by_leader.setdefault(partition.leader, []).append(partition)
    found: dict[TopicPartition, Jump | str | None] = {}
    for node, several in by_leader.items():
        try:
            found |= await _look_up_at(brokers, node, several)
        except KafkaUnavailable as failure:
            found |= {partition.key: str(failure) for partition in several}
    return found


async def _look_up_at(
    brokers: Brokers, node: int, partitions: Sequence[Partition]
) -> dict[TopicPartition, Jump | str | None]:
    keys = [partition.key for partition in partitions]
    firsts = await brokers.ask(node, ListOffsetsRequest(dict.fromkeys(keys, EARLIEST)))
    ends = await brokers.ask(node, ListOffsetsRequest(dict.fromkeys(keys, LATEST)))
    epochs = {
        partition.key: partition.record_epoch
        for partition in partitions
        if partition.record_epoch != NO_EPOCH and partition.lookup is not JumpReason.RECREATED
    }
    current = {partition.key: partition.leader_epoch for partition in partitions}
    epoch_ends: Mapping[TopicPartition, EpochEnd] = {}
    if epochs:
        # Brokers without the request have no epochs that could tell.
        with suppress(RequestUnsupported):
            epoch_ends = await brokers.ask(node, EpochEndsRequest(epochs, current))
    missing = OffsetFound(3, -1)
    return {
        partition.key: judge(
            partition,
            firsts.get(partition.key, missing),
            ends.get(partition.key, missing),
            epoch_ends.get(partition.key, _NO_EPOCH_END),
        )
        for partition in partitions
    }


def judge(
    partition: Partition, first: OffsetFound, end: OffsetFound, epoch_end: EpochEnd
) -> Jump | str | None:
    """The jump to make, None to go on at the position, or why that is not known now.

    `epoch_end`: where the epoch of the last record read ends; without an epoch where that is not
    known.
    """
    error = first.error or end.error or epoch_end.error
    if error:
        return error_text(error)
    if partition.lookup is JumpReason.RECREATED:
        # Everything that the new log has is news.
        return Jump(first.offset, JumpReason.RECREATED)
    at = partition.position
    if epoch_end.epoch != NO_EPOCH and epoch_end.offset < at:
        return Jump(max(epoch_end.offset, first.offset), JumpReason.TRUNCATED)
    if at < first.offset:
        return Jump(first.offset, JumpReason.EXPIRED)
    if at > end.offset:
        # Never back to the beginning: what is there was delivered, as far as can be known.
        return Jump(end.offset, JumpReason.TRUNCATED)
    return None
