"""Batches of records as a broker stores them, good ones and others."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final, Literal
from zlib import crc32

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.util import calc_crc32c, encode_varint

__all__ = [
    "CHECKSUM_AT",
    "batch",
    "legacy",
    "legacy_wrapper",
    "raw_batch",
    "raw_record",
    "seal",
    "seal_legacy",
    "sealed",
    "with_epoch",
]

_SNAPPY: Final = 2

# Where a batch has its first offset, its leader epoch, the checksum, and from where it covers.
_OFFSET_BYTES: Final = 8
_EPOCH_AT: Final = 12
CHECKSUM_AT: Final = 17
_COVERED_FROM: Final = 21

_HEADER: Final = struct.Struct(">qiibIhiqqqhii")


def batch(first: int, count: int, *, producer: int = -1, codec: int = _SNAPPY) -> bytes:
    """`count` records from offset `first` on; in a transaction where there is a producer."""
    builder = DefaultRecordBatchBuilder(2, codec, producer >= 0, producer, 0, 0, 1 << 20)
    for number in range(count):
        builder.append(number, 1_000 + first + number, b"BTC", b"%d" % (first + number), [])
    made = bytes(builder.build())
    # The broker writes the offset; the checksum does not cover it.
    return first.to_bytes(_OFFSET_BYTES, "big") + made[_OFFSET_BYTES:]


def with_epoch(made: bytes, epoch: int) -> bytes:
    """A batch as a leader of this epoch has written it."""
    return made[:_EPOCH_AT] + epoch.to_bytes(4, "big", signed=True) + made[_EPOCH_AT + 4 :]


def seal(made: bytes) -> bytes:
    """A batch with the checksum that it must have."""
    checksum = calc_crc32c(made[_COVERED_FROM:])
    sealed: bytes = made[:CHECKSUM_AT] + checksum.to_bytes(4, "big") + made[_COVERED_FROM:]
    return sealed


def raw_batch(  # noqa: PLR0913 -- a header has so many fields
    first: int,
    records: bytes,
    count: int,
    *,
    delta: int | None = None,
    attributes: int = 0,
    timestamps: tuple[int, int] = (1_000, 2_000),
    producer: int = -1,
) -> bytes:
    """A batch with these bytes behind its header, and the right checksum."""
    last = count - 1 if delta is None else delta
    length = _HEADER.size - 12 + len(records)
    header = _HEADER.pack(
        first, length, 0, 2, 0, attributes, last, *timestamps, producer, 0, 0, count
    )
    return seal(header + records)


def raw_record(
    delta: int,
    *,
    key: bytes | None = b"BTC",
    value: bytes | None = b"{}",
    headers: Iterable[tuple[bytes, bytes | None]] = (),
    timestamp: int = 0,
) -> bytes:
    """A record; header keys may be any bytes."""
    body = b"\0" + _varint(timestamp) + _varint(delta) + _nullable(key) + _nullable(value)
    several = list(headers)
    body += _varint(len(several))
    for name, content in several:
        body += _nullable(name) + _nullable(content)
    return _varint(len(body)) + body


def legacy(
    first: int, count: int, *, magic: Literal[0, 1] = 1, codec: int = 0, timestamp: int = 1_000
) -> bytes:
    """Messages of the formats before Kafka 0.11; compressed, they are one batch."""
    builder = LegacyRecordBatchBuilder(magic, codec, 1 << 20)
    for number in range(count):
        offset = number if codec and magic else first + number
        builder.append(offset, timestamp, b"BTC", b"%d" % (first + number))
    made = bytes(builder.build())
    if not codec:
        return made
    # The broker gives a set the offset of its last message.
    return (first + count - 1).to_bytes(_OFFSET_BYTES, "big") + made[_OFFSET_BYTES:]


def legacy_wrapper(last: int, value: bytes, *, magic: Literal[0, 1], codec: int) -> bytes:
    """A message of magic 0 or 1 with this compressed value; `last`: the offset of its last one."""
    builder = LegacyRecordBatchBuilder(magic, 0, 1 << 20)
    builder.append(last, 1_000, None, value)
    made = bytearray(bytes(builder.build()))
    made[17] |= codec
    return seal_legacy(bytes(made))


def seal_legacy(made: bytes) -> bytes:
    """A message of magic 0 or 1 with the checksum that it must have."""
    return made[:12] + crc32(made[16:]).to_bytes(4, "big") + made[16:]


def sealed(data: bytes) -> bytes:
    """Each whole batch with the checksum that it must have."""
    done = bytearray(data)
    at = 0
    while len(done) - at > _COVERED_FROM:
        end = at + 12 + int.from_bytes(done[at + 8 : at + 12], "big", signed=True)
        if not at + _COVERED_FROM < end <= len(done):
            break
        one = bytes(done[at:end])
        done[at:end] = seal(one) if one[16] >= 2 else seal_legacy(one)
        at = end
    return bytes(done)


def _varint(number: int) -> bytes:
    out = bytearray()
    encode_varint(number, out.append)
    return bytes(out)


def _nullable(content: bytes | None) -> bytes:
    return _varint(-1) if content is None else _varint(len(content)) + content
