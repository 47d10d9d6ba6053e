"""Malformed or oversized compressed batches are skipped at a bounded cost."""

from __future__ import annotations

import gzip
import io
import struct
import time
import tracemalloc

import cramjam
import pytest

from odin_ws.kafka.decompression import MAX_EXPANDED_BYTES
from odin_ws.records import InvalidBatch
from tests.kafka.batch_decoders import (
    COMPRESS,
    GZIP,
    SNAPPY,
    ZSTD,
    offsets,
    read,
    reasons,
)
from tests.kafka.batches import (
    batch,
    raw_batch,
    raw_record,
)


@pytest.mark.parametrize("codec", range(1, 8))
@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff" * 100, b"\x00" * 100])
def test_undecompressable_batch_is_skipped(codec: int, content: bytes) -> None:
    """One invalid record at its last offset; also for an unknown codec."""
    data = batch(3, 1) + raw_batch(4, content, 5, attributes=codec) + batch(9, 1)
    decoded = read(data, 3)
    ((_, _), (offset, reason), (last, _)) = reasons(decoded)
    assert (offset, last, decoded.next_offset, decoded.corrupt) == (8, 9, 10, None)
    assert reason in {InvalidBatch.BAD_COMPRESSION, InvalidBatch.MALFORMED_BATCH}


def test_skipped_batch_keeps_its_first_bytes() -> None:
    """For the dead letter, with a size limit."""
    data = raw_batch(0, b"\xff" * 100_000, 5, attributes=ZSTD)
    (bad,) = read(data).records
    assert (bad.key, bad.value, bad.timestamp) == (None, data[: 64 << 10], 2_000)


def xerial(block: bytes, length: int | None = None) -> bytes:
    """Java's framing of snappy."""
    size = len(block) if length is None else length
    return b"\x82SNAPPY\x00" + struct.pack(">iii", 1, 1, size) + block


@pytest.mark.parametrize("length", [-1, -8, 0, 1 << 30])
def test_snappy_block_with_false_length_is_skipped(length: int) -> None:
    """The decoder neither loops nor reads past the end."""
    block = bytes(cramjam.snappy.compress_raw(raw_record(0)))
    assert offsets(raw_batch(0, xerial(block), 1, attributes=SNAPPY)) == [0]
    bad = raw_batch(0, xerial(block, length), 1, attributes=SNAPPY)
    assert reasons(read(bad)) == [(0, InvalidBatch.BAD_COMPRESSION)]


def bomb(codec: int) -> bytes:
    """Some kilobytes that expand to more than is allowed."""
    size = MAX_EXPANDED_BYTES + 1
    if codec == SNAPPY:
        # It says so first, and need not have it.
        return b"\xff\xff\xff\xff\x0f" + bytes(50)
    if codec == GZIP:
        out = io.BytesIO()
        with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as file:
            file.write(bytes(size))
        return out.getvalue()
    return COMPRESS[codec](bytes(size))


@pytest.mark.parametrize("codec", COMPRESS)
def test_decompression_bomb_is_skipped_within_memory_limit(codec: int) -> None:
    """One batch may expand to 64 MiB; detection takes little more."""
    data = raw_batch(0, bomb(codec), 5, attributes=codec)
    tracemalloc.start()
    try:
        decoded = read(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reasons(decoded) == [(4, InvalidBatch.BATCH_TOO_LARGE)]
    assert peak < 3 * MAX_EXPANDED_BYTES


def test_many_large_batches_are_decoded_in_several_fetches() -> None:
    """One call stops at its limit and returns the next offset."""
    record = raw_record(0, value=b" " * (30 << 20))
    data = b"".join(raw_batch(n, COMPRESS[ZSTD](record), 1, attributes=ZSTD) for n in range(6))
    decoded = read(data)
    assert 2 <= len(decoded.records) <= 4
    assert decoded.next_offset == len(decoded.records)
    assert decoded.corrupt is None


@pytest.mark.parametrize("codec", COMPRESS)
def test_many_bombs_are_skipped_in_several_fetches(codec: int) -> None:
    """The cost of detection counts like that of decoding."""
    content = bomb(codec) if codec != SNAPPY else COMPRESS[SNAPPY](bytes(40 << 20))
    data = b"".join(raw_batch(n, content, 1, attributes=codec) for n in range(6))
    decoded = read(data)
    assert 1 <= decoded.next_offset == len(decoded.records) <= 2
    assert read(data, 5).next_offset == 6


@pytest.mark.parametrize("codec", range(8))
def test_thousand_malformed_batches_are_cheap(codec: int) -> None:
    """Each is detected by its content."""
    data = b"".join(raw_batch(n, b"garbage" * 9, 1, attributes=codec) for n in range(1000))
    began = time.perf_counter()
    decoded = read(data)
    assert time.perf_counter() - began < 1
    assert [record.invalid is None for record in decoded.records] == [False] * 1000


def test_batch_of_millions_of_records_is_skipped() -> None:
    """A batch of a kilobyte would become millions of objects."""
    count = 1_000_000
    records = COMPRESS[ZSTD](b"\x0c\0\0\0\x01\x01\0" * count)
    data = raw_batch(0, records, count, attributes=ZSTD)
    assert reasons(read(data)) == [(count - 1, InvalidBatch.BATCH_TOO_LARGE)]


def test_thousand_gzip_members_are_cheap() -> None:
    """Zlib would copy all following members for each."""
    data = raw_batch(0, gzip.compress(b"") * 50_000, 1, attributes=GZIP)
    began = time.perf_counter()
    assert reasons(read(data)) == [(0, InvalidBatch.BAD_COMPRESSION)]
    assert time.perf_counter() - began < 1
