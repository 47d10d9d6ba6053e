"""Compressed batches that are garbage, or expand to too much, are skipped at a bounded cost."""

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
def test_garbage_instead_of_compressed_records_is_skipped(codec: int, content: bytes) -> None:
    """One reason for the batch, at its last offset; also for a codec that does not exist."""
    data = batch(3, 1) + raw_batch(4, content, 5, attributes=codec) + batch(9, 1)
    decoded = read(data, 3)
    ((_, _), (offset, reason), (last, _)) = reasons(decoded)
    assert (offset, last, decoded.next_offset, decoded.corrupt) == (8, 9, 10, None)
    assert reason in {InvalidBatch.BAD_COMPRESSION, InvalidBatch.MALFORMED_BATCH}


def test_what_is_skipped_keeps_the_beginning_of_its_bytes() -> None:
    """For the dead letter: bounded, whatever the batch has."""
    data = raw_batch(0, b"\xff" * 100_000, 5, attributes=ZSTD)
    (bad,) = read(data).records
    assert (bad.key, bad.value, bad.timestamp) == (None, data[: 64 << 10], 2_000)


def xerial(block: bytes, length: int | None = None) -> bytes:
    """Java's framing of snappy."""
    size = len(block) if length is None else length
    return b"\x82SNAPPY\x00" + struct.pack(">iii", 1, 1, size) + block


@pytest.mark.parametrize("length", [-1, -8, 0, 1 << 30])
def test_a_block_of_snappy_may_lie_about_its_length(length: int) -> None:
    """It neither loops nor reads elsewhere."""
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
def test_a_decompression_bomb_is_skipped_without_its_memory(codec: int) -> None:
    """One batch may expand to 64 MiB, and takes not much more than that to find out."""
    data = raw_batch(0, bomb(codec), 5, attributes=codec)
    tracemalloc.start()
    try:
        decoded = read(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reasons(decoded) == [(4, InvalidBatch.BATCH_TOO_LARGE)]
    assert peak < 3 * MAX_EXPANDED_BYTES


def test_many_small_bombs_are_read_in_several_fetches() -> None:
    """Each is allowed; one call stops when it has expanded enough, and says where."""
    record = raw_record(0, value=b" " * (30 << 20))
    data = b"".join(raw_batch(n, COMPRESS[ZSTD](record), 1, attributes=ZSTD) for n in range(6))
    decoded = read(data)
    assert 2 <= len(decoded.records) <= 4
    assert decoded.next_offset == len(decoded.records)
    assert decoded.corrupt is None


@pytest.mark.parametrize("codec", COMPRESS)
def test_many_bad_bombs_are_passed_in_several_fetches(codec: int) -> None:
    """What it takes to find out counts like what is good."""
    content = bomb(codec) if codec != SNAPPY else COMPRESS[SNAPPY](bytes(40 << 20))
    data = b"".join(raw_batch(n, content, 1, attributes=codec) for n in range(6))
    decoded = read(data)
    assert 1 <= decoded.next_offset == len(decoded.records) <= 2
    assert read(data, 5).next_offset == 6


@pytest.mark.parametrize("codec", range(8))
def test_a_thousand_batches_of_garbage_cost_no_seconds(codec: int) -> None:
    """Each is found out with what it brings."""
    data = b"".join(raw_batch(n, b"garbage" * 9, 1, attributes=codec) for n in range(1000))
    began = time.perf_counter()
    decoded = read(data)
    assert time.perf_counter() - began < 1
    assert [one.invalid is None for one in decoded.records] == [False] * 1000


def test_a_bomb_of_tiny_records_is_skipped() -> None:
    """A batch of a kilobyte would make millions of objects."""
    count = 1_000_000
    records = COMPRESS[ZSTD](b"\x0c\0\0\0\x01\x01\0" * count)
    data = raw_batch(0, records, count, attributes=ZSTD)
    assert reasons(read(data)) == [(count - 1, InvalidBatch.BATCH_TOO_LARGE)]


def test_a_thousand_gzip_members_cost_no_seconds() -> None:
    """Each would be copied with all that are behind it."""
    data = raw_batch(0, gzip.compress(b"") * 50_000, 1, attributes=GZIP)
    began = time.perf_counter()
    assert reasons(read(data)) == [(0, InvalidBatch.BAD_COMPRESSION)]
    assert time.perf_counter() - began < 1
