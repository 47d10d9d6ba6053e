"""Parses the records of one batch of magic 2 (since Kafka 0.11).

aiokafka's reader in C takes some 0.5 us a record, and gives up a batch for one header key that is
not UTF-8. Such a batch is read here record by record, at some 5 us each, without the headers,
which nobody needs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from operator import lt
from typing import Any, Final, NamedTuple

from aiokafka.errors import CorruptRecordException

from odin_ws.kafka.aiokafka_internals import DefaultRecordBatch
from odin_ws.kafka.decompression import decompress
from odin_ws.kafka.errors import BatchDecodeError
from odin_ws.records import InvalidBatch, Record, TopicPartition

__all__ = [
    "CONTROL",
    "ENOUGH",
    "HEADER_BYTES",
    "MAGIC",
    "MAX_RAW_BYTES",
    "OVERHEAD_BYTES",
    "PADDING",
    "RECORD_COST",
    "UNCOMMITTED",
    "BatchHeader",
    "Usual",
    "read_header",
    "read_records",
    "read_usual",
]

# Base offset, length, leader epoch, magic, checksum, attributes, last offset's delta, first and
# last timestamp, producer's id, its epoch and sequence, count of records.
_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
HEADER_BYTES: Final = _HEADER.size

MAGIC: Final = 2

# Base offset and length are not counted in the length.
OVERHEAD_BYTES: Final = 12
_MIN_LENGTH: Final = HEADER_BYTES - OVERHEAD_BYTES

# Bytes that are kept of those that make no record: enough to see what they are.
MAX_RAW_BYTES: Final = 64 << 10

_CODEC_MASK: Final = 0x07
_LOG_APPEND_TIME: Final = 0x08
_TRANSACTIONAL: Final = 0x10
CONTROL: Final = 0x20

# With one of these attributes a batch is looked at, if transactions were aborted.
UNCOMMITTED: Final = _TRANSACTIONAL | CONTROL

# The place of the attributes, with the codec.
_CODEC_AT: Final = 21
_CODEC: Final = struct.Struct(">h")

# Length, attributes, timestamp, offset, key, value and headers have a byte each at least.
_MIN_RECORD_BYTES: Final = 7

# As many as one batch may have. Each takes some 300 bytes, and 4 us where it is read slowly: half
# a second in which nothing else runs.
_MAX_RECORDS: Final = 1 << 17

# The work of one call before it leaves the rest of the data to the next fetch: expanded bytes, and
# for each record the number of bytes that take as long. A fetch brings some megabytes, which highly
# compressed batches, also bad ones, would make gigabytes of, and minutes.
ENOUGH: Final = 64 << 20
RECORD_COST: Final = 1 << 10

# No log has had so many; below it a sum with a count of records stays within 63 bits.
_MAX_USUAL_OFFSET: Final = 1 << 62

# aiokafka makes objects of headers of two bytes each, some 60 bytes large: it gets no more at once.
_MAX_FAST_BYTES: Final = 4 << 20

# aiokafka checks that a varint begins within the batch, not that it ends there: it may read two
# varints of ten bytes behind the end.
PADDING: Final = bytes(32)
_PADDING_BYTES: Final = len(PADDING)

# The shift of the tenth byte of a varint, which has the last of 64 bits.
_MAX_SHIFT: Final = 63

_INT64: Final = range(-(1 << 63), 1 << 63)

# aiokafka's own error; header keys that are not UTF-8, and varints that are too long in its reader
# in Python; the end of the data in that; lengths near 2^63.
_GIVEN_UP: Final = (CorruptRecordException, ValueError, IndexError, OverflowError, MemoryError)


class BatchHeader(NamedTuple):
    """The header of a batch; nothing of it has been checked."""

    base_offset: int
    length: int
    epoch: int
    magic: int
    checksum: int
    attributes: int
    last_delta: int
    first_timestamp: int
    max_timestamp: int
    producer: int
    producer_epoch: int
    sequence: int
    size: int

    @property
    def is_transactional(self) -> bool:
        """Whether the records belong to a transaction."""
        return bool(self.attributes & _TRANSACTIONAL)

    @property
    def is_control(self) -> bool:
        """Whether the batch holds a marker of the broker's, and no records."""
        return bool(self.attributes & CONTROL)


def read_header(data: bytes, start: int) -> BatchHeader:
    """The header that begins at `start`; of magic 0 and 1, only the first three fields are."""
    return BatchHeader._make(_HEADER.unpack_from(data, start))


class Usual(NamedTuple):
    """The place where `read_usual` stopped: in the bytes, in the partition; the last leader epoch.

    `spent`: see ENOUGH.
    """

    at: int
    next_offset: int
    epoch: int
    spent: int


def read_usual(
    key: TopicPartition, data: memoryview, place: Usual, unusual: int, records: list[Record]
) -> Usual:
    """Append the records of batches of which everything is as usual, up to the first other one.

    That is one cut off, corrupt, malformed, begun before the wanted offset, with a hole in its
    offsets, or with a bit of `unusual` in its attributes. It is a loop of its own for the sake of
    small batches: a call for each of them and its checks would double their cost.
    """
    at, offset, last_epoch, spent = place
    size = len(data) - _PADDING_BYTES
    unpack, read = _HEADER.unpack_from, DefaultRecordBatch
    while size - at >= HEADER_BYTES and spent < ENOUGH:
        base, length, epoch, magic, _, attributes, delta, first_timestamp, _, _, _, _, count = (
            unpack(data, at)
        )
        end = at + OVERHEAD_BYTES + length
        if (
            magic != MAGIC
            or not _MIN_LENGTH <= length <= _MAX_FAST_BYTES
            or end > size
            or not offset <= base < _MAX_USUAL_OFFSET
            or not 0 < count == delta + 1 <= _MAX_RECORDS
            or first_timestamp < 0
            or attributes & unusual
        ):
            break
        batch = data[at:end]
        reader = read(batch)
        if not reader.validate_crc():
            break
        if attributes & _CODEC_MASK:
            batch = _expanded_or_nothing(batch, attributes)
            reader = read(batch) if batch else ()
        found = _read_fast(key, reader, base, count)
        if not found:
            break
        records += found
        at, offset, last_epoch = end, base + count, epoch
        spent += len(batch) + RECORD_COST * count
    return Usual(at, offset, last_epoch, spent)


def read_records(
    key: TopicPartition, batch: memoryview, header: BatchHeader, offset: int
) -> tuple[list[Record], int]:
    """The records from `offset` on, and their cost: see ENOUGH. Raises BatchDecodeError."""
    if header.last_delta < 0:
        raise BatchDecodeError(InvalidBatch.MALFORMED_BATCH)
    if header.attributes & _CODEC_MASK:
        batch = _expanded(batch, header.attributes)
    size = len(batch) - HEADER_BYTES
    if not 0 <= header.size * _MIN_RECORD_BYTES <= size:
        raise BatchDecodeError(InvalidBatch.MALFORMED_BATCH, size)
    if header.size > _MAX_RECORDS:
        raise BatchDecodeError(InvalidBatch.BATCH_TOO_LARGE, size)
    cost = size + RECORD_COST * header.size
    try:
        records = list(_read_slowly(key, header, batch[HEADER_BYTES:]))
        _check_offsets(header, records)
    except BatchDecodeError as bad:
        bad.cost = cost
        raise
    # A batch is given whole, also to a consumer that asks for its second half.
    return [one for one in records if one.offset >= offset], cost


def _expanded(batch: memoryview, attributes: int) -> memoryview:
    """The batch with its records decompressed, and with padding behind its end."""
    payload = decompress(attributes & _CODEC_MASK, batch[HEADER_BYTES:])
    plain = _CODEC.pack(attributes & ~_CODEC_MASK)
    parts = (batch[:_CODEC_AT], plain, batch[_CODEC_AT + _CODEC.size : HEADER_BYTES], payload)
    return memoryview(b"".join((*parts, PADDING)))[:-_PADDING_BYTES]


def _expanded_or_nothing(batch: memoryview, attributes: int) -> memoryview:
    """As `_expanded`; empty for a batch that is not for aiokafka."""
    with suppress(BatchDecodeError):
        expanded = _expanded(batch, attributes)
        if len(expanded) <= _MAX_FAST_BYTES:
            return expanded
    return batch[:0]


def _read_fast(
    key: TopicPartition, reader: Iterable[Any], base: int, count: int
) -> list[Record] | None:
    """The records, by aiokafka; None where it has found something that needs a closer look."""
    topic, partition = key
    try:
        records = [
            Record(topic, partition, one.offset, one.timestamp, one.key, one.value)
            for one in reader
        ]
    except _GIVEN_UP:
        return None
    if count == 1 == len(records):
        # Many publishers send each record at once.
        (record,) = records
        return records if record.offset == base and (record.timestamp or 0) > 0 else None
    # A record without a timestamp has None; a sum beyond 64 bits has become negative.
    timestamps = [one.timestamp for one in records]
    if None in timestamps or min(timestamps, default=0) < 0:
        return None
    return records if [one.offset for one in records] == list(range(base, base + count)) else None


# ---- record by record


def _check_offsets(header: BatchHeader, records: list[Record]) -> None:
    """Offsets ascend, within the batch. Raises BatchDecodeError.

    Records behind a wrong one would be taken for records that have been delivered.
    """
    offsets = [one.offset for one in records]
    ascending = all(map(lt, offsets, islice(offsets, 1, None)))
    first, last = header.base_offset, header.base_offset + header.last_delta
    if offsets and not (ascending and first <= offsets[0] and offsets[-1] <= last):
        raise BatchDecodeError(InvalidBatch.MALFORMED_BATCH)


def _read_slowly(key: TopicPartition, header: BatchHeader, records: memoryview) -> Iterator[Record]:
    at, end = 0, len(records)
    offset = header.base_offset - 1
    for _ in range(header.size):
        try:
            length, at = _varint(records, at)
        except IndexError as error:
            raise BatchDecodeError(InvalidBatch.MALFORMED_BATCH) from error
        if not 0 <= length <= end - at:
            raise BatchDecodeError(InvalidBatch.MALFORMED_BATCH)
        record = _read_record(key, header, records[at : at + length], offset + 1)
        yield record
        offset = record.offset
        at += length
    if at != end:
        raise BatchDecodeError(InvalidBatch.MALFORMED_BATCH)


def _read_record(key: TopicPartition, header: BatchHeader, data: memoryview, offset: int) -> Record:
    """One record; an invalid one, with `offset` where it has none, if it is malformed."""
    timestamp = header.max_timestamp
    try:
        # The first byte has attributes, and none are defined.
        delta, at = _varint(data, 1)
        offset_delta, at = _varint(data, at)
        offset = header.base_offset + offset_delta
        if not header.attributes & _LOG_APPEND_TIME:
            timestamp = _in_64_bits(header.first_timestamp + delta)
        record_key, at = _nullable(data, at)
        value, _ = _nullable(data, at)
    except IndexError:
        raw = bytes(data[:MAX_RAW_BYTES])
        return Record(*key, offset, timestamp, None, raw, InvalidBatch.MALFORMED_RECORD)
    return Record(*key, offset, timestamp, record_key, value)


def _nullable(data: memoryview, at: int) -> tuple[bytes | None, int]:
    length, at = _varint(data, at)
    if length < 0:
        return None, at
    if length > len(data) - at:
        raise IndexError
    return bytes(data[at : at + length]), at + length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """A number in zigzag code and the place behind it. Raises IndexError, also for a long one."""
    value = shift = 0
    byte = 0x80
    while byte & 0x80:
        if shift > _MAX_SHIFT:
            raise IndexError
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
    return _in_64_bits((value >> 1) ^ -(value & 1)), at


def _in_64_bits(number: int) -> int:
    if number not in _INT64:
        raise IndexError
    return number
