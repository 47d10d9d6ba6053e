"""Decoding of batches in tests, and what holds of decoded bytes, whatever they are."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from typing import Final

import cramjam

from odin_ws.kafka.record_batches import Decoded, read_batches
from odin_ws.records import InvalidBatch, Record, TopicPartition

__all__ = [
    "COMPRESS",
    "CONTROL",
    "GZIP",
    "INT64_MAX",
    "KEY",
    "LZ4",
    "SNAPPY",
    "TRANSACTIONAL",
    "ZSTD",
    "check_decoding",
    "offsets",
    "read",
    "reasons",
]

INT64_MAX: Final = (1 << 63) - 1
KEY: Final = TopicPartition("odin.trades", 3)
GZIP, SNAPPY, LZ4, ZSTD = range(1, 5)
CONTROL, TRANSACTIONAL = 0x20, 0x10

COMPRESS: dict[int, Callable[[bytes], bytes]] = {
    GZIP: gzip.compress,
    SNAPPY: lambda data: bytes(cramjam.snappy.compress_raw(data)),
    LZ4: lambda data: bytes(cramjam.lz4.compress(data)),
    ZSTD: lambda data: bytes(cramjam.zstd.compress(data)),
}


def read(
    data: bytes,
    offset: int = 0,
    aborted: list[tuple[int, int]] | None = None,
    *,
    skip: bool = False,
    log_end: int | None = None,
) -> Decoded:
    """Decode one answer."""
    return read_batches(KEY, data, offset, aborted, skip_corrupt=skip, log_end=log_end)


def offsets(
    data: bytes,
    offset: int = 0,
    aborted: list[tuple[int, int]] | None = None,
    *,
    log_end: int | None = None,
) -> list[int]:
    """The offsets of the records."""
    return [record.offset for record in read(data, offset, aborted, log_end=log_end).records]


def reasons(decoded: Decoded) -> list[tuple[int, InvalidBatch | None]]:
    """Each record's offset, with the reason of those that are none."""
    return [(record.offset, record.invalid) for record in decoded.records]


def check_decoding(
    data: bytes, offset: int, aborted: Sequence[tuple[int, int]], log_end: int | None = None
) -> None:
    """Nothing is raised, offsets ascend, and the position moves or the caller knows why."""
    for skip in (False, True):
        decoded = read_batches(
            KEY, data, offset, aborted, skip_corrupt=skip, is_largest=skip, log_end=log_end
        )
        found = [record.offset for record in decoded.records]
        assert found == sorted(set(found))
        assert all(offset <= one < decoded.next_offset for one in found)
        assert offset <= decoded.next_offset <= INT64_MAX
        assert -(1 << 31) <= decoded.last_epoch < 1 << 31
        for record in decoded.records:
            _check_record(record)
        if decoded.next_offset == offset:
            reported = decoded.corrupt is not None or decoded.incomplete
            assert reported or not data
            assert not skip or decoded.corrupt is None


def _check_record(record: Record) -> None:
    """What the hub relies on."""
    assert isinstance(record.timestamp, int)
    assert -(1 << 63) <= record.timestamp <= INT64_MAX
    assert record.key is None or type(record.key) is bytes
    assert record.value is None or type(record.value) is bytes
    assert record.invalid is None or isinstance(record.invalid, InvalidBatch)
