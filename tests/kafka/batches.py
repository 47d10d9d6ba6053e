"""Batches of records as a broker stores them."""

from __future__ import annotations

from typing import Final

from aiokafka.record.default_records import DefaultRecordBatchBuilder

__all__ = ["CHECKSUM_AT", "batch"]

_SNAPPY: Final = 2

# Where a batch has its first offset, and the checksum.
_OFFSET_BYTES: Final = 8
CHECKSUM_AT: Final = 17


def batch(first: int, count: int, *, producer: int = -1, codec: int = _SNAPPY) -> bytes:
    """`count` records from offset `first` on; in a transaction where there is a producer."""
    builder = DefaultRecordBatchBuilder(2, codec, producer >= 0, producer, 0, 0, 1 << 20)
    for number in range(count):
        builder.append(number, 1_000 + first + number, b"BTC", b"%d" % (first + number), [])
    made = bytes(builder.build())
    # The broker writes the offset; the checksum does not cover it.
    return first.to_bytes(_OFFSET_BYTES, "big") + made[_OFFSET_BYTES:]
