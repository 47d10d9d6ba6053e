"""Decodes message sets of magic 0 and 1 (before Kafka 0.11).

A message is a batch of its own, or a wrapper whose value is a compressed set of messages.
"""

from __future__ import annotations

import struct
from typing import Final

from odin_ws.kafka.batch_records import RECORD_COST
from odin_ws.kafka.decompression import decompress, with_lz4_header_checksum
from odin_ws.kafka.errors import BatchDecodeError
from odin_ws.records import InvalidBatch, Record, TopicPartition

__all__ = ["MIN_MESSAGE_BYTES", "read_messages"]

# Offset, length, checksum, magic, attributes; in magic 1 followed by a timestamp.
_HEADER: Final = struct.Struct(">qiIbb")
_MAGIC_AT: Final = 16
_TIMESTAMP: Final = struct.Struct(">q")
_LENGTH: Final = struct.Struct(">i")

# The length field does not count offset and length.
_OVERHEAD: Final = 12

# After those: checksum, magic, attributes, and the lengths of key and value.
MIN_MESSAGE_BYTES: Final = 14

_CODEC_MASK: Final = 0x07
_LZ4: Final = 3
_LOG_APPEND_TIME: Final = 0x08

_MAX_MESSAGES: Final = 1 << 17


def read_messages(key: TopicPartition, view: memoryview, offset: int) -> tuple[list[Record], int]:
    """Return the records from `offset` on, and their cost. Raises BatchDecodeError."""
    wrapper, attributes = _read_wrapper(key, view)
    codec = attributes & _CODEC_MASK
    if not codec:
        return [wrapper] if wrapper.offset >= offset else [], len(view) + RECORD_COST
    if wrapper.value is None:
        raise BatchDecodeError(InvalidBatch.MALFORMED_BATCH)
    compressed = memoryview(wrapper.value)
    if codec == _LZ4:
        compressed = with_lz4_header_checksum(compressed)
    inside = memoryview(decompress(codec, compressed))
    records: list[Record] = []
    try:
        _read_set(key, inside, records)
        _place(wrapper, records, is_relative=bool(view[_MAGIC_AT]))
    except (BatchDecodeError, struct.error) as error:
        reason = (
            error.reason if isinstance(error, BatchDecodeError) else InvalidBatch.MALFORMED_BATCH
        )
        raise BatchDecodeError(reason, len(inside) + RECORD_COST * len(records)) from error
    if attributes & _LOG_APPEND_TIME:
        for record in records:
            record.timestamp = wrapper.timestamp
    cost = len(inside) + RECORD_COST * len(records)
    return [record for record in records if record.offset >= offset], cost


def _read_wrapper(key: TopicPartition, view: memoryview) -> tuple[Record, int]:
    """Decode the only message of a batch and its attributes. Raises BatchDecodeError."""
    try:
        wrapper, attributes, end = _read_message(key, view, 0)
    except struct.error as error:
        # The message ends before its last field.
        raise BatchDecodeError(InvalidBatch.MALFORMED_BATCH) from error
    if end != len(view):
        raise BatchDecodeError(InvalidBatch.MALFORMED_BATCH)
    return wrapper, attributes


def _read_set(key: TopicPartition, inside: memoryview, records: list[Record]) -> None:
    """Append the messages of a set. Raises BatchDecodeError, struct.error."""
    at = 0
    while at < len(inside):
        record, attributes, at = _read_message(key, inside, at)
        if attributes & _CODEC_MASK:
            raise BatchDecodeError(InvalidBatch.MALFORMED_BATCH)
        if len(records) == _MAX_MESSAGES:
            raise BatchDecodeError(InvalidBatch.BATCH_TOO_LARGE)
        records.append(record)
    if not records:
        raise BatchDecodeError(InvalidBatch.MALFORMED_BATCH)


def _place(wrapper: Record, records: list[Record], *, is_relative: bool) -> None:
    """Set offsets, ascending to the wrapper's, which is the last; in magic 1 they are relative."""
    shift = wrapper.offset - records[-1].offset if is_relative else 0
    before = -1
    for record in records:
        record.offset += shift
        if not before < record.offset <= wrapper.offset:
            raise BatchDecodeError(InvalidBatch.MALFORMED_BATCH)
        before = record.offset


def _read_message(key: TopicPartition, data: memoryview, at: int) -> tuple[Record, int, int]:
    """Return a message, its attributes, and the position after it. Raises as `_read_set`."""
    offset, length, _, magic, attributes = _HEADER.unpack_from(data, at)
    end = at + _OVERHEAD + length
    if magic not in {0, 1} or not at < end <= len(data):
        raise BatchDecodeError(InvalidBatch.MALFORMED_BATCH)
    timestamp = -1
    at += _HEADER.size
    if magic:
        (timestamp,) = _TIMESTAMP.unpack_from(data, at)
        at += _TIMESTAMP.size
    record_key, at = _nullable(data, at, end)
    value, at = _nullable(data, at, end)
    if at != end:
        raise BatchDecodeError(InvalidBatch.MALFORMED_BATCH)
    return Record(*key, offset, timestamp, record_key, value), attributes, end


def _nullable(data: memoryview, at: int, end: int) -> tuple[bytes | None, int]:
    (length,) = _LENGTH.unpack_from(data, at)
    at += _LENGTH.size
    if length < 0:
        return None, at
    if length > end - at:
        raise BatchDecodeError(InvalidBatch.MALFORMED_BATCH)
    return bytes(data[at : at + length]), at + length
