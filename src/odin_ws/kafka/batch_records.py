"""Decodes the records of one batch of magic 2 (Kafka 0.11 and newer).

aiokafka's decoder in C takes about 0.5 us per record, but rejects a whole batch for one header key
that is not UTF-8. `_read_slowly` decodes such a batch record by record in about 5 us each, and its
headers only if some are selected.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import suppress
from itertools import islice
from operator import lt
from typing import Any, Final, NamedTuple

from aiokafka.errors import CorruptRecordException

from odin_ws.kafka.aiokafka_internals import DefaultRecordBatch
from odin_ws.kafka.decompression import decompress
from odin_ws.kafka.errors import BatchDecodeError
from odin_ws.kafka.record_headers import NO_NAMES, select_headers
from odin_ws.records import InvalidBatch, Record, TopicPartition

__all__ = [
    "BASE_OFFSET",
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
    "ReadProgress",
    "read_header",
    "read_plain_batches",
    "read_records",
]

# Base offset, length, leader epoch, magic, checksum, attributes, last offset delta, first and last
# timestamp, producer id, producer epoch, base sequence, record count.
_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
HEADER_BYTES: Final = _HEADER.size

MAGIC: Final = 2

# The length field does not count base offset and length.
OVERHEAD_BYTES: Final = 12
_MIN_LENGTH: Final = HEADER_BYTES - OVERHEAD_BYTES

# Bytes that are kept of an undecodable record, to show what it is.
MAX_RAW_BYTES: Final = 64 << 10

_CODEC_MASK: Final = 0x07
_LOG_APPEND_TIME: Final = 0x08
_TRANSACTIONAL: Final = 0x10
CONTROL: Final = 0x20

# A batch with one of these attributes is examined if transactions were aborted.
UNCOMMITTED: Final = _TRANSACTIONAL | CONTROL

# Offset of the attributes, which contain the codec.
_CODEC_AT: Final = 21
_CODEC: Final = struct.Struct(">h")

# Minimum size: a byte each for length, attributes, timestamp, offset, key, value and headers.
_MIN_RECORD_BYTES: Final = 7

# Record limit of one batch. A record takes some 300 bytes, and 4 us in the slow decoder: half a
# second in which the event loop is blocked.
_MAX_RECORDS: Final = 1 << 17

# Limit on the work of one call: expanded bytes, plus for each record the bytes that take as long.
# The rest of the data is left to the next fetch. A fetch has a few megabytes, which highly
# compressed or malicious batches could expand to gigabytes and minutes.
ENOUGH: Final = 64 << 20
RECORD_COST: Final = 1 << 10

# The first offset of a batch of magic 2, which its checksum does not cover.
BASE_OFFSET: Final = struct.Struct(">q")
_BASE_OFFSET_BYTES: Final = BASE_OFFSET.size

# No log has such offsets; below it the sum with a record count stays within 63 bits.
_MAX_PLAIN_OFFSET: Final = 1 << 62

# aiokafka creates objects of about 60 bytes for headers of two bytes: batches with more headers are
# not given to it.
_MAX_FAST_BYTES: Final = 4 << 20

# aiokafka checks that a varint starts within the batch, not that it ends there: it may read two
# varints of ten bytes past the end.
PADDING: Final = bytes(32)
_PADDING_BYTES: Final = len(PADDING)

# The shift of the tenth byte of a varint, which has the last of 64 bits.
_MAX_SHIFT: Final = 63

_INT64: Final = range(-(1 << 63), 1 << 63)

# aiokafka's own error; header keys that are not UTF-8 and varints that are too long in its Python
# decoder; the end of the data in that decoder; lengths near 2^63.
_GIVEN_UP: Final = (CorruptRecordException, ValueError, IndexError, OverflowError, MemoryError)


class BatchHeader(NamedTuple):
    """The header of a batch, not validated yet."""

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
        """True if the records belong to a transaction."""
        return bool(self.attributes & _TRANSACTIONAL)

    @property
    def is_control(self) -> bool:
        """True if the batch is a control batch: a transaction marker without records."""
        return bool(self.attributes & CONTROL)


def read_header(data: bytes, start: int) -> BatchHeader:
    """Read the header at `start`; for magic 0 and 1 only the first three fields are valid."""
    return BatchHeader._make(_HEADER.unpack_from(data, start))


class ReadProgress(NamedTuple):
    """Where `read_plain_batches` stopped."""

    at: int
    """The position in the bytes."""
    next_offset: int
    epoch: int
    """The leader epoch of the last batch."""
    spent: int
    """Work so far, in the unit of ENOUGH."""


def read_plain_batches(  # noqa: PLR0913, PLR0917 -- no object per response, in the hot path
    key: TopicPartition,
    data: memoryview,
    progress: ReadProgress,
    special_bits: int,
    log_end: int | None,
    records: list[Record],
    header_names: AbstractSet[str] = NO_NAMES,
) -> ReadProgress:
    """Append the records of plain batches; stop at the first batch that needs a closer look.

    Such a batch is truncated, corrupt or malformed, begins before the wanted offset, has a gap in
    its offsets, is behind a gap and followed by a batch with lower offsets or after the log's end,
    or has a bit of `special_bits` in its attributes. One loop for all batches: a call with its
    checks for each would double the cost of small batches.
    """
    at, offset, last_epoch, spent = progress
    end_offset = _MAX_PLAIN_OFFSET if log_end is None else log_end
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
            or not offset <= base < _MAX_PLAIN_OFFSET
            or not 0 < count == delta + 1 <= _MAX_RECORDS
            or first_timestamp < 0
            or attributes & special_bits
        ):
            break
        if base > offset:
            # The checksum does not cover the first offset.
            if base + count > end_offset:
                break
            if end + _BASE_OFFSET_BYTES <= size:
                (following,) = BASE_OFFSET.unpack_from(data, end)
                if offset <= following <= base:
                    break
        batch = data[at:end]
        reader = read(batch)
        if not reader.validate_crc():
            break
        if attributes & _CODEC_MASK:
            batch = _expanded_or_nothing(batch, attributes)
            reader = read(batch) if batch else ()
        found = _read_fast(key, reader, base, count, header_names)
        if not found:
            break
        records += found
        at, offset, last_epoch = end, base + count, epoch
        spent += len(batch) + RECORD_COST * count
    return ReadProgress(at, offset, last_epoch, spent)


def read_records(
    key: TopicPartition,
    batch: memoryview,
    header: BatchHeader,
    offset: int,
    header_names: AbstractSet[str] = NO_NAMES,
) -> tuple[list[Record], int]:
    """Return the records from `offset` on and their cost (see ENOUGH). Raises BatchDecodeError."""
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
        records = list(_read_slowly(key, header, batch[HEADER_BYTES:], header_names))
        _check_offsets(header, records)
    except BatchDecodeError as bad:
        bad.cost = cost
        raise
    # The batch is decoded whole, also for a fetch that wants only its second half.
    return [record for record in records if record.offset >= offset], cost


def _expanded(batch: memoryview, attributes: int) -> memoryview:
    """Return the batch with its records decompressed and padding after its end."""
    payload = decompress(attributes & _CODEC_MASK, batch[HEADER_BYTES:])
    plain = _CODEC.pack(attributes & ~_CODEC_MASK)
    parts = (batch[:_CODEC_AT], plain, batch[_CODEC_AT + _CODEC.size : HEADER_BYTES], payload)
    return memoryview(b"".join((*parts, PADDING)))[:-_PADDING_BYTES]


def _expanded_or_nothing(batch: memoryview, attributes: int) -> memoryview:
    """As `_expanded`, but empty if the batch is not for aiokafka."""
    with suppress(BatchDecodeError):
        expanded = _expanded(batch, attributes)
        if len(expanded) <= _MAX_FAST_BYTES:
            return expanded
    return batch[:0]


def _read_fast(
    key: TopicPartition,
    reader: Iterable[Any],
    base: int,
    count: int,
    header_names: AbstractSet[str],
) -> list[Record] | None:
    """Decode the records with aiokafka; None if it found something that needs the slow decoder."""
    topic, partition = key
    try:
        if header_names:
            records = [
                Record(
                    topic,
                    partition,
                    record.offset,
                    record.timestamp,
                    record.key,
                    record.value,
                    headers=select_headers(record.headers, header_names),
                )
                for record in reader
            ]
        else:
            records = [
                Record(topic, partition, record.offset, record.timestamp, record.key, record.value)
                for record in reader
            ]
    except _GIVEN_UP:
        return None
    if count == 1 == len(records):
        # Many publishers send one record per batch.
        (record,) = records
        return records if record.offset == base and (record.timestamp or 0) > 0 else None
    # A record without a timestamp has None; a sum beyond 64 bits is negative.
    timestamps = [record.timestamp for record in records]
    if None in timestamps or min(timestamps, default=0) < 0:
        return None
    return (
        records
        if [record.offset for record in records] == list(range(base, base + count))
        else None
    )


# ---- slow decoder, record by record


def _check_offsets(header: BatchHeader, records: list[Record]) -> None:
    """Check that offsets ascend within the batch. Raises BatchDecodeError.

    Records after a wrong offset would count as already delivered.
    """
    offsets = [record.offset for record in records]
    ascending = all(map(lt, offsets, islice(offsets, 1, None)))
    first, last = header.base_offset, header.base_offset + header.last_delta
    if offsets and not (ascending and first <= offsets[0] and offsets[-1] <= last):
        raise BatchDecodeError(InvalidBatch.MALFORMED_BATCH)


def _read_slowly(
    key: TopicPartition, header: BatchHeader, records: memoryview, header_names: AbstractSet[str]
) -> Iterator[Record]:
    at, end = 0, len(records)
    offset = header.base_offset - 1
    for _ in range(header.size):
        try:
            length, at = _varint(records, at)
        except IndexError as error:
            raise BatchDecodeError(InvalidBatch.MALFORMED_BATCH) from error
        if not 0 <= length <= end - at:
            raise BatchDecodeError(InvalidBatch.MALFORMED_BATCH)
        record, rest = _read_record(key, header, records[at : at + length], offset + 1)
        if header_names:
            record.headers = select_headers(_read_headers(rest), header_names)
        yield record
        offset = record.offset
        at += length
    if at != end:
        raise BatchDecodeError(InvalidBatch.MALFORMED_BATCH)


def _read_record(
    key: TopicPartition, header: BatchHeader, data: memoryview, offset: int
) -> tuple[Record, memoryview]:
    """Decode one record; returns the record, and the bytes of its headers undecoded.

    A malformed record is marked as invalid, at `offset` if its own offset cannot be read.
    """
    timestamp = header.max_timestamp
    try:
        # The first byte has attributes; none are defined.
        delta, at = _varint(data, 1)
        offset_delta, at = _varint(data, at)
        offset = header.base_offset + offset_delta
        if not header.attributes & _LOG_APPEND_TIME:
            timestamp = _in_64_bits(header.first_timestamp + delta)
        record_key, at = _nullable(data, at)
        value, at = _nullable(data, at)
    except IndexError:
        raw = bytes(data[:MAX_RAW_BYTES])
        invalid = InvalidBatch.MALFORMED_RECORD
        return Record(*key, offset, timestamp, None, raw, invalid), data[:0]
    return Record(*key, offset, timestamp, record_key, value), data[at:]


def _read_headers(data: memoryview) -> Iterator[tuple[str, bytes | None]]:
    """Yield the headers before the first malformed one, without names that are not UTF-8."""
    with suppress(IndexError):
        number, at = _varint(data, 0)
        for _ in range(min(number, len(data))):
            name, at = _nullable(data, at)
            value, at = _nullable(data, at)
            with suppress(UnicodeDecodeError):
                yield (name or b"").decode(), value


def _nullable(data: memoryview, at: int) -> tuple[bytes | None, int]:
    length, at = _varint(data, at)
    if length < 0:
        return None, at
    if length > len(data) - at:
        raise IndexError
    return bytes(data[at : at + length]), at + length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return a zigzag number and the position after it. Raises IndexError, also for a long one."""
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
