"""From the bytes of a fetched partition to its records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import aiokafka
import attrs
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords

from odin_ws.records import Record, TopicPartition

__all__ = ["Decoded", "read_batches"]


@attrs.frozen
class Decoded:
    """Temporary, until the decoder is merged."""

    records: list[Record]
    next_offset: int
    last_epoch: int = -1
    corrupt: bool = False


def read_batches(
    key: TopicPartition, data: bytes, offset: int, aborted: Sequence[Any], *, skip_corrupt=False
) -> Decoded:
    return Decoded(
        *_read(key, data, offset, aborted), int.from_bytes(data[12:16], "big", signed=True)
    )


def _read(
    key: TopicPartition, data: bytes, offset: int, aborted: Sequence[Any]
) -> tuple[list[Record], int]:
    """The records from `offset` on, and the offset behind all that `data` holds.

    That is also behind what is no record: the end of a transaction takes up an offset. `aborted`:
    the transactions in it that were taken back, as the broker gives them. The last batch may be cut
    off; it comes again. Raises CorruptRecordException where a checksum is wrong.
    """
    if aborted:
        return _without(aborted, key, data, offset)
    # aiokafka's reader makes an object of its own of each record first, of which nothing is
    # needed here. Without transactions taken back there is nothing in it.
    topic, partition = key
    records: list[Record] = []
    batches = MemoryRecords(data)
    while batches.has_next():
        batch = batches.next_batch()
        if not batch.validate_crc():
            raise CorruptRecordException(f"wrong checksum in {topic} {partition}")
        if not batch.is_control_batch:
            records += [
                Record(topic, partition, one.offset, one.timestamp, one.key, one.value)
                for one in batch
                # A batch is given whole, also to who asks for its second half.
                if one.offset >= offset
            ]
        offset = max(offset, batch.next_offset)
    return records, offset


def _without(
    aborted: Sequence[Any], key: TopicPartition, data: bytes, offset: int
) -> tuple[list[Record], int]:
    found = PartitionRecords(
        aiokafka.TopicPartition(*key),
        MemoryRecords(data),
        aborted,
        offset,
        None,  # keys and values stay bytes
        None,
        True,  # noqa: FBT003 -- check the checksums
        READ_COMMITTED,
    )
    records = [Record(*key, one.offset, one.timestamp, one.key, one.value) for one in found]
    return records, found.next_fetch_offset
