"""Fetched bytes become the records from an offset on."""

from __future__ import annotations

from typing import Literal

import cramjam
import pytest

from odin_ws.kafka.decompression import with_lz4_header_checksum
from odin_ws.kafka.record_batches import Decoded
from odin_ws.records import InvalidBatch
from tests.kafka.batch_decoders import (
    COMPRESS,
    CONTROL,
    GZIP,
    LZ4,
    SNAPPY,
    TRANSACTIONAL,
    offsets,
    read,
    reasons,
)
from tests.kafka.batches import (
    batch,
    legacy,
    legacy_wrapper,
    raw_batch,
    raw_record,
    seal_legacy,
    with_epoch,
)


@pytest.mark.parametrize("codec", range(5))
def test_records_equal_the_published_ones(codec: int) -> None:
    """With each codec."""
    decoded = read(batch(7, 2, codec=codec), 7)
    first, second = decoded.records
    assert (first.topic, first.partition, first.offset) == ("odin.trades", 3, 7)
    assert (second.offset, second.timestamp, second.key, second.value) == (8, 1008, b"BTC", b"8")
    assert second.invalid is None
    assert decoded.next_offset == 9


def test_batch_is_read_from_the_wanted_offset() -> None:
    """Brokers send the whole batch."""
    assert offsets(batch(0, 5) + batch(5, 3), 3) == [3, 4, 5, 6, 7]


def test_holes_between_batches_are_skipped() -> None:
    """Compaction and deletion leave holes; the next offset follows the last batch."""
    decoded = read(batch(2, 1) + batch(10, 1))
    assert [record.offset for record in decoded.records] == [2, 10]
    assert decoded.next_offset == 11


def test_holes_within_a_batch_are_skipped() -> None:
    """Compaction keeps a batch's offsets, even without its last records or any."""
    data = raw_batch(10, raw_record(1) + raw_record(5), 2, delta=8) + raw_batch(19, b"", 0, delta=3)
    decoded = read(data, 10)
    assert [record.offset for record in decoded.records] == [11, 15]
    assert decoded.next_offset == 23


def test_truncated_batch_is_left_for_the_next_fetch() -> None:
    """It is neither read nor skipped."""
    decoded = read(batch(0, 2) + batch(2, 2)[:-1])
    assert [record.offset for record in decoded.records] == [0, 1]
    assert (decoded.next_offset, decoded.corrupt, decoded.incomplete) == (2, None, False)


@pytest.mark.parametrize("size", [1, 12, 20, 61, 70])
def test_response_without_a_whole_batch_is_reported(size: int) -> None:
    """A retry may get the same forever."""
    decoded = read(batch(0, 2)[:size])
    assert decoded == Decoded([], 0, incomplete=True)


def test_empty_response_keeps_the_offset() -> None:
    """The next offset stays."""
    assert read(b"", 17) == Decoded([], 17)


def test_last_leader_epoch_is_returned() -> None:
    """Of the last whole batch, also without records; -1 without a batch."""
    data = with_epoch(batch(0, 1), 4) + with_epoch(batch(1, 1), 6)
    assert read(data).last_epoch == 6
    assert read(data + with_epoch(batch(2, 1), 7)[:-1]).last_epoch == 6
    marker = with_epoch(raw_batch(2, raw_record(0), 1, attributes=CONTROL), 8)
    assert read(data + marker).last_epoch == 8
    assert read(legacy(0, 2)).last_epoch == -1
    assert read(b"").last_epoch == -1


def test_aborted_records_are_not_read() -> None:
    """Only those of the listed producer, from the listed offset."""
    data = batch(0, 2, producer=9) + batch(2, 2, producer=4) + batch(4, 1)
    assert offsets(data, aborted=[(9, 0)]) == [2, 3, 4]
    assert offsets(data) == [0, 1, 2, 3, 4]


def marker(offset: int, producer: int) -> bytes:
    """What ends a producer's transaction."""
    record = raw_record(0, key=b"\0\0\0\0", value=b"\0\0\0\0\0\0")
    return raw_batch(offset, record, 1, attributes=CONTROL | TRANSACTIONAL, producer=producer)


def test_next_transaction_of_a_producer_is_read() -> None:
    """A marker ends the aborted one; markers have an offset and are no records."""
    data = (
        batch(0, 1, producer=9)
        + marker(1, 9)
        + batch(2, 1, producer=9)
        + marker(3, 9)
        + batch(4, 1, producer=9)
        + marker(5, 9)
    )
    decoded = read(data, aborted=[(9, 4), (9, 0)])
    assert [record.offset for record in decoded.records] == [2]
    assert decoded.next_offset == 6
    assert offsets(data) == [0, 2, 4]


def test_records_outside_transactions_are_read() -> None:
    """Also those of a producer with an aborted transaction."""
    plain = raw_batch(1, raw_record(0), 1, producer=9)
    assert offsets(batch(0, 1, producer=9) + plain, aborted=[(9, 0)]) == [1]


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", [0, GZIP, SNAPPY])
def test_messages_of_magic_0_and_1_are_read(magic: int, codec: int) -> None:
    """Single and compressed ones, from the offset on; magic 0 has no timestamps."""
    data = legacy(5, 3, magic=magic, codec=codec) + batch(8, 1)  # type: ignore[arg-type]
    decoded = read(data, 6)
    assert [(record.offset, record.key, record.value) for record in decoded.records] == [
        (offset, b"BTC", b"%d" % offset) for offset in (6, 7, 8)
    ]
    assert decoded.records[0].timestamp == (1_000 if magic else -1)
    assert decoded.next_offset == 9


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("has_size", [False, True])
@pytest.mark.parametrize("flip", [0, 0x55])
def test_lz4_messages_with_either_header_checksum_are_read(
    magic: Literal[0, 1], *, has_size: bool, flip: int
) -> None:
    """Publishers before Kafka 0.10 wrote a wrong one (KAFKA-3160), which brokers keep."""
    firsts = range(3) if magic else range(5, 8)
    inside = b"".join(legacy(first, 1, magic=magic) for first in firsts)
    frame = bytearray(COMPRESS[LZ4](inside))
    at = 6
    if has_size:
        frame[4] |= 0x08
        frame[6:6] = len(inside).to_bytes(8, "little")
        at = 14
    frame = bytearray(with_lz4_header_checksum(memoryview(frame)))
    cramjam.lz4.decompress(frame)
    frame[at] ^= flip
    made = legacy_wrapper(7, bytes(frame), magic=magic, codec=LZ4)
    decoded = read(made + batch(8, 1), 6)
    assert reasons(decoded) == [(6, None), (7, None), (8, None)]


@pytest.mark.parametrize(
    "frame", [b"", b"\x04\x22\x4d\x18", b"\x04\x22\x4d\x18\x68\x40\0", b"abc" * 9]
)
def test_lz4_message_that_is_no_frame_is_skipped(frame: bytes) -> None:
    """It has a reason, and reading continues behind it."""
    decoded = read(legacy_wrapper(7, frame, magic=0, codec=LZ4) + batch(8, 1))
    assert reasons(decoded) == [(7, InvalidBatch.BAD_COMPRESSION), (8, None)]


def test_log_append_time_of_a_set_applies_to_each_message() -> None:
    """Otherwise messages have their publishers' times."""
    made = bytearray(legacy(0, 2, codec=GZIP))
    made[17] |= 0x08
    made[18:26] = (77).to_bytes(8, "big")
    assert [record.timestamp for record in read(seal_legacy(bytes(made))).records] == [77, 77]


@pytest.mark.parametrize("at", [17, 30, 34, 36])
def test_malformed_message_of_magic_0_and_1_is_skipped(at: int) -> None:
    """With a valid checksum, but wrong codec, lengths or compressed bytes."""
    made = bytearray(legacy(0, 2, codec=GZIP))
    made[at] ^= 0x7F
    decoded = read(seal_legacy(bytes(made)) + batch(2, 1))
    assert decoded.records[-1].offset == 2
    ((offset, reason), *_) = reasons(decoded)
    assert (offset, reason is not None) == (1, True)
