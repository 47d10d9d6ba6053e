"""Malformed batches and records are skipped, each with its reason."""

from __future__ import annotations

import pytest

from odin_ws.records import InvalidBatch
from tests.kafka.batch_decoders import (
    COMPRESS,
    INT64_MAX,
    read,
    reasons,
)
from tests.kafka.batches import (
    batch,
    raw_batch,
    raw_record,
)


def test_record_with_header_key_not_utf8_is_read() -> None:
    """Key and value are valid, and headers are not used."""
    bad = raw_record(1, value=b"bad", headers=[(b"\xff\xfe", b"x"), (b"", None)])
    data = raw_batch(0, raw_record(0) + bad + raw_record(2), 3)
    decoded = read(data)
    assert reasons(decoded) == [(0, None), (1, None), (2, None)]
    assert [record.value for record in decoded.records] == [b"{}", b"bad", b"{}"]


@pytest.mark.parametrize("codec", COMPRESS)
def test_compressed_record_with_header_key_not_utf8_is_read(codec: int) -> None:
    """With each codec."""
    records = b"".join(raw_record(n, headers=[(b"\xff", None)]) for n in range(3))
    data = raw_batch(0, COMPRESS[codec](records), 3, attributes=codec)
    assert reasons(read(data, 1)) == [(1, None), (2, None)]


@pytest.mark.parametrize("count", [-1, 0, 1, 3, 1 << 30, -(1 << 31)])
def test_batch_with_wrong_record_count_is_skipped(count: int) -> None:
    """Too few, too many, negative."""
    data = raw_batch(0, raw_record(0) + raw_record(1), count, delta=1) + batch(2, 1)
    assert reasons(read(data)) == [(1, InvalidBatch.MALFORMED_BATCH), (2, None)]


@pytest.mark.parametrize(
    "deltas", [(0, 0), (1, 0), (0, 2), (-1, 0), (0, -1), (0, 1 << 40)], ids=str
)
def test_batch_with_unordered_offsets_is_skipped(deltas: tuple[int, int]) -> None:
    """Later records would count as delivered."""
    data = raw_batch(4, b"".join(map(raw_record, deltas)), 2, delta=1) + batch(6, 1)
    assert reasons(read(data, 4)) == [(5, InvalidBatch.MALFORMED_BATCH), (6, None)]


def test_batch_with_last_offset_before_first_is_skipped() -> None:
    """Reading continues after the first offset."""
    data = raw_batch(4, raw_record(0), 1, delta=-7) + batch(5, 1)
    assert reasons(read(data, 4)) == [(4, InvalidBatch.MALFORMED_BATCH), (5, None)]


# Of a record of value `{}`: the place of a byte, and what it becomes.
BROKEN_RECORDS = {
    "a key longer than the record": (4, 0x7E),
    "a key of 2^63 bytes": (4, 0xFF),
    "a value longer than the record": (8, 0x7E),
}


@pytest.mark.parametrize(("at", "byte"), BROKEN_RECORDS.values(), ids=BROKEN_RECORDS)
def test_malformed_record_is_skipped_alone(at: int, byte: int) -> None:
    """If its length is right, the others are read."""
    bad = bytearray(raw_record(1))
    bad[at] = byte
    data = raw_batch(0, raw_record(0) + bytes(bad) + raw_record(2), 3)
    decoded = read(data)
    assert reasons(decoded) == [(0, None), (1, InvalidBatch.MALFORMED_RECORD), (2, None)]
    assert decoded.records[1].value == bytes(bad[1:])


@pytest.mark.parametrize("length", [0x7F, 0x7E, 0x01, 0xFF])
def test_wrong_record_length_skips_the_batch(length: int) -> None:
    """The start of the next record is unknown."""
    bad = bytes([length]) + raw_record(0)[1:]
    data = raw_batch(0, bad + raw_record(1), 2) + batch(2, 1)
    assert reasons(read(data)) == [(1, InvalidBatch.MALFORMED_BATCH), (2, None)]


def test_truncated_varint_is_not_read_past_the_end() -> None:
    """The record ends within a number."""
    for cut in range(1, len(raw_record(0)) - 1):
        data = raw_batch(0, raw_record(0)[:cut] + b"\xff", 1)
        assert reasons(read(data))[0][1] is not None


def test_record_without_timestamp_has_minus_one() -> None:
    """Aiokafka's None could not be written into a message."""
    data = raw_batch(0, raw_record(0) + raw_record(1, timestamp=5), 2, timestamps=(-1, 4))
    assert [record.timestamp for record in read(data).records] == [-1, 4]
    data = raw_batch(0, raw_record(0, timestamp=-8), 1, timestamps=(7, 7))
    assert [record.timestamp for record in read(data).records] == [-1]


@pytest.mark.parametrize("times", [(INT64_MAX, 1), (-(1 << 63), -1), (5, INT64_MAX)], ids=str)
def test_record_with_timestamp_beyond_64_bits_is_skipped(times: tuple[int, int]) -> None:
    """Only the record, not the batch."""
    first, delta = times
    records = raw_record(0) + raw_record(1, timestamp=delta)
    data = raw_batch(0, records, 2, timestamps=(first, first))
    assert reasons(read(data)) == [(0, None), (1, InvalidBatch.MALFORMED_RECORD)]


@pytest.mark.parametrize("timestamp", [-5, 0, 1 << 62, INT64_MAX])
def test_unusual_timestamps_are_kept(timestamp: int) -> None:
    """Also nanoseconds, and times before 1970."""
    data = raw_batch(0, raw_record(0), 1, timestamps=(timestamp, timestamp))
    assert [record.timestamp for record in read(data).records] == [timestamp]
