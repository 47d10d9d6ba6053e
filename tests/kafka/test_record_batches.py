"""Fetched bytes become the records from an offset on, and a reason for what is none."""

from __future__ import annotations

import gzip
import io
import struct
import time
import tracemalloc
from collections.abc import Callable

import cramjam
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from odin_ws.kafka.decompression import MAX_EXPANDED_BYTES
from odin_ws.kafka.record_batches import Decoded, read_batches
from odin_ws.records import TopicPartition, Undecodable
from tests.kafka.batches import (
    CHECKSUM_AT,
    batch,
    legacy,
    raw_batch,
    raw_record,
    seal,
    seal_legacy,
    with_epoch,
)
from tests.kafka.decoding import INT64_MAX, check_decoding

KEY = TopicPartition("odin.trades", 3)
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
) -> Decoded:
    """Decode one answer."""
    return read_batches(KEY, data, offset, aborted, skip_corrupt=skip)


def offsets(
    data: bytes, offset: int = 0, aborted: list[tuple[int, int]] | None = None
) -> list[int]:
    """The offsets of the records."""
    return [one.offset for one in read(data, offset, aborted).records]


def reasons(decoded: Decoded) -> list[tuple[int, Undecodable | None]]:
    """Each record's offset, with the reason of those that are none."""
    return [(one.offset, one.invalid) for one in decoded.records]


# ---- good batches


@pytest.mark.parametrize("codec", range(5))
def test_records_are_what_was_published(codec: int) -> None:
    """With each codec there is."""
    decoded = read(batch(7, 2, codec=codec), 7)
    first, second = decoded.records
    assert (first.topic, first.partition, first.offset) == ("odin.trades", 3, 7)
    assert (second.offset, second.timestamp, second.key, second.value) == (8, 1008, b"BTC", b"8")
    assert second.invalid is None
    assert decoded.next_offset == 9


def test_a_batch_is_read_from_the_offset_on() -> None:
    """The broker gives whole batches, also to who has the first half already."""
    assert offsets(batch(0, 5) + batch(5, 3), 3) == [3, 4, 5, 6, 7]


def test_holes_between_batches_are_passed() -> None:
    """Compaction and deletion leave holes; the place behind the last batch is where to go on."""
    decoded = read(batch(2, 1) + batch(10, 1))
    assert [one.offset for one in decoded.records] == [2, 10]
    assert decoded.next_offset == 11


def test_holes_within_a_batch_are_passed() -> None:
    """Compaction leaves the batch its offsets, also where its last records are gone, or all."""
    data = raw_batch(10, raw_record(1) + raw_record(5), 2, delta=8) + raw_batch(19, b"", 0, delta=3)
    decoded = read(data, 10)
    assert [one.offset for one in decoded.records] == [11, 15]
    assert decoded.next_offset == 23


def test_a_batch_that_is_cut_off_comes_again() -> None:
    """A fetch has a size; what is not whole is not read and not passed."""
    decoded = read(batch(0, 2) + batch(2, 2)[:-1])
    assert [one.offset for one in decoded.records] == [0, 1]
    assert (decoded.next_offset, decoded.corrupt, decoded.incomplete) == (2, None, False)


@pytest.mark.parametrize("size", [1, 12, 20, 61, 70])
def test_an_answer_without_a_whole_batch_is_told(size: int) -> None:
    """Fetched again it may be the same for ever: the caller knows, and nothing is passed."""
    decoded = read(batch(0, 2)[:size])
    assert decoded == Decoded([], 0, incomplete=True)


def test_nothing_is_read_of_nothing() -> None:
    """The place stays."""
    assert read(b"", 17) == Decoded([], 17)


def test_the_last_leader_epoch_is_told() -> None:
    """That of the last whole batch, also of one without records; -1 where there is none."""
    data = with_epoch(batch(0, 1), 4) + with_epoch(batch(1, 1), 6)
    assert read(data).last_epoch == 6
    assert read(data + with_epoch(batch(2, 1), 7)[:-1]).last_epoch == 6
    marker = with_epoch(raw_batch(2, raw_record(0), 1, attributes=CONTROL), 8)
    assert read(data + marker).last_epoch == 8
    assert read(legacy(0, 2)).last_epoch == -1
    assert read(b"").last_epoch == -1


# ---- transactions


def test_what_a_transaction_took_back_is_not_read() -> None:
    """Only the producer's that the broker names, from the offset that it names."""
    data = batch(0, 2, producer=9) + batch(2, 2, producer=4) + batch(4, 1)
    assert offsets(data, aborted=[(9, 0)]) == [2, 3, 4]
    assert offsets(data) == [0, 1, 2, 3, 4]


def marker(offset: int, producer: int) -> bytes:
    """What ends a producer's transaction."""
    record = raw_record(0, key=b"\0\0\0\0", value=b"\0\0\0\0\0\0")
    return raw_batch(offset, record, 1, attributes=CONTROL | TRANSACTIONAL, producer=producer)


def test_the_next_transaction_of_a_producer_is_read() -> None:
    """A marker ends what was aborted; markers take up an offset and are no records."""
    data = (
        batch(0, 1, producer=9)
        + marker(1, 9)
        + batch(2, 1, producer=9)
        + marker(3, 9)
        + batch(4, 1, producer=9)
        + marker(5, 9)
    )
    decoded = read(data, aborted=[(9, 4), (9, 0)])
    assert [one.offset for one in decoded.records] == [2]
    assert decoded.next_offset == 6
    assert offsets(data) == [0, 2, 4]


def test_records_outside_transactions_stay() -> None:
    """Also those of a producer of which a transaction was aborted."""
    plain = raw_batch(1, raw_record(0), 1, producer=9)
    assert offsets(batch(0, 1, producer=9) + plain, aborted=[(9, 0)]) == [1]


# ---- the formats before Kafka 0.11


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", [0, GZIP, SNAPPY])
def test_old_messages_are_read(magic: int, codec: int) -> None:
    """Single ones, and compressed sets, from the offset on; magic 0 has no timestamps."""
    data = legacy(5, 3, magic=magic, codec=codec) + batch(8, 1)  # type: ignore[arg-type]
    decoded = read(data, 6)
    assert [(one.offset, one.key, one.value) for one in decoded.records] == [
        (offset, b"BTC", b"%d" % offset) for offset in (6, 7, 8)
    ]
    assert decoded.records[0].timestamp == (1_000 if magic else -1)
    assert decoded.next_offset == 9


def test_an_old_set_with_the_time_of_its_arrival_gives_it_to_each() -> None:
    """Then the messages in it have the times of their publishers."""
    made = bytearray(legacy(0, 2, codec=GZIP))
    made[17] |= 0x08
    made[18:26] = (77).to_bytes(8, "big")
    assert [one.timestamp for one in read(seal_legacy(bytes(made))).records] == [77, 77]


@pytest.mark.parametrize("at", [17, 30, 34, 36])
def test_a_malformed_old_message_is_skipped(at: int) -> None:
    """Of the right checksum, but with another codec, lengths, compressed bytes."""
    made = bytearray(legacy(0, 2, codec=GZIP))
    made[at] ^= 0x7F
    decoded = read(seal_legacy(bytes(made)) + batch(2, 1))
    assert decoded.records[-1].offset == 2
    ((offset, reason), *_) = reasons(decoded)
    assert (offset, reason is not None) == (1, True)


# ---- what a publisher can do


def test_a_header_key_that_is_not_utf8_takes_nothing_from_its_record() -> None:
    """Key and value are fine, and nothing else is needed."""
    bad = raw_record(1, value=b"bad", headers=[(b"\xff\xfe", b"x"), (b"", None)])
    data = raw_batch(0, raw_record(0) + bad + raw_record(2), 3)
    decoded = read(data)
    assert reasons(decoded) == [(0, None), (1, None), (2, None)]
    assert [one.value for one in decoded.records] == [b"{}", b"bad", b"{}"]


@pytest.mark.parametrize("codec", COMPRESS)
def test_the_same_in_a_compressed_batch(codec: int) -> None:
    """Each codec's batch is read record by record too."""
    records = b"".join(raw_record(n, headers=[(b"\xff", None)]) for n in range(3))
    data = raw_batch(0, COMPRESS[codec](records), 3, attributes=codec)
    assert reasons(read(data, 1)) == [(1, None), (2, None)]


@pytest.mark.parametrize("codec", range(1, 8))
@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff" * 100, b"\x00" * 100])
def test_garbage_instead_of_compressed_records_is_skipped(codec: int, content: bytes) -> None:
    """One reason for the batch, at its last offset; also for a codec that does not exist."""
    data = batch(3, 1) + raw_batch(4, content, 5, attributes=codec) + batch(9, 1)
    decoded = read(data, 3)
    ((_, _), (offset, reason), (last, _)) = reasons(decoded)
    assert (offset, last, decoded.next_offset, decoded.corrupt) == (8, 9, 10, None)
    assert reason in {Undecodable.BAD_COMPRESSION, Undecodable.MALFORMED_BATCH}


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
    assert reasons(read(bad)) == [(0, Undecodable.BAD_COMPRESSION)]


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
    assert reasons(decoded) == [(4, Undecodable.BATCH_TOO_LARGE)]
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
    assert reasons(read(data)) == [(count - 1, Undecodable.BATCH_TOO_LARGE)]


def test_a_thousand_gzip_members_cost_no_seconds() -> None:
    """Each would be copied with all that are behind it."""
    data = raw_batch(0, gzip.compress(b"") * 50_000, 1, attributes=GZIP)
    began = time.perf_counter()
    assert reasons(read(data)) == [(0, Undecodable.BAD_COMPRESSION)]
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize("count", [-1, 0, 1, 3, 1 << 30, -(1 << 31)])
def test_a_wrong_count_of_records_is_skipped(count: int) -> None:
    """Too few, too many, less than none."""
    data = raw_batch(0, raw_record(0) + raw_record(1), count, delta=1) + batch(2, 1)
    assert reasons(read(data)) == [(1, Undecodable.MALFORMED_BATCH), (2, None)]


@pytest.mark.parametrize(
    "deltas", [(0, 0), (1, 0), (0, 2), (-1, 0), (0, -1), (0, 1 << 40)], ids=str
)
def test_offsets_that_do_not_ascend_are_skipped(deltas: tuple[int, int]) -> None:
    """They would hide the records behind them from those who have been there."""
    data = raw_batch(4, b"".join(map(raw_record, deltas)), 2, delta=1) + batch(6, 1)
    assert reasons(read(data, 4)) == [(5, Undecodable.MALFORMED_BATCH), (6, None)]


def test_a_last_offset_before_the_first_is_skipped() -> None:
    """And the reading goes on behind the first."""
    data = raw_batch(4, raw_record(0), 1, delta=-7) + batch(5, 1)
    assert reasons(read(data, 4)) == [(4, Undecodable.MALFORMED_BATCH), (5, None)]


# Of a record of value `{}`: the place of a byte, and what it becomes.
BROKEN_RECORDS = {
    "a key longer than the record": (4, 0x7E),
    "a key of 2^63 bytes": (4, 0xFF),
    "a value longer than the record": (8, 0x7E),
}


@pytest.mark.parametrize(("at", "byte"), BROKEN_RECORDS.values(), ids=BROKEN_RECORDS)
def test_one_malformed_record_is_skipped_alone(at: int, byte: int) -> None:
    """Where its own length is right, the others are what they were."""
    bad = bytearray(raw_record(1))
    bad[at] = byte
    data = raw_batch(0, raw_record(0) + bytes(bad) + raw_record(2), 3)
    decoded = read(data)
    assert reasons(decoded) == [(0, None), (1, Undecodable.MALFORMED_RECORD), (2, None)]
    assert decoded.records[1].value == bytes(bad[1:])


@pytest.mark.parametrize("length", [0x7F, 0x7E, 0x01, 0xFF])
def test_a_record_length_that_lies_takes_its_batch_with_it(length: int) -> None:
    """Where the next record begins is not known then."""
    bad = bytes([length]) + raw_record(0)[1:]
    data = raw_batch(0, bad + raw_record(1), 2) + batch(2, 1)
    assert reasons(read(data)) == [(1, Undecodable.MALFORMED_BATCH), (2, None)]


def test_varints_at_the_end_are_not_read_behind_it() -> None:
    """A record that ends within a number."""
    for cut in range(1, len(raw_record(0)) - 1):
        data = raw_batch(0, raw_record(0)[:cut] + b"\xff", 1)
        assert reasons(read(data))[0][1] is not None


def test_a_record_without_a_timestamp_has_minus_one() -> None:
    """None, which aiokafka gives, could not be written into a message."""
    data = raw_batch(0, raw_record(0) + raw_record(1, timestamp=5), 2, timestamps=(-1, 4))
    assert [one.timestamp for one in read(data).records] == [-1, 4]
    data = raw_batch(0, raw_record(0, timestamp=-8), 1, timestamps=(7, 7))
    assert [one.timestamp for one in read(data).records] == [-1]


@pytest.mark.parametrize("times", [(INT64_MAX, 1), (-(1 << 63), -1), (5, INT64_MAX)], ids=str)
def test_a_timestamp_beyond_64_bits_is_skipped(times: tuple[int, int]) -> None:
    """The record, not the batch."""
    first, delta = times
    records = raw_record(0) + raw_record(1, timestamp=delta)
    data = raw_batch(0, records, 2, timestamps=(first, first))
    assert reasons(read(data)) == [(0, None), (1, Undecodable.MALFORMED_RECORD)]


@pytest.mark.parametrize("timestamp", [-5, 0, 1 << 62, INT64_MAX])
def test_any_other_timestamp_is_the_publishers(timestamp: int) -> None:
    """Also one in nanoseconds, or before 1970."""
    data = raw_batch(0, raw_record(0), 1, timestamps=(timestamp, timestamp))
    assert [one.timestamp for one in read(data).records] == [timestamp]


# ---- what a disk or a network can do


@pytest.mark.parametrize("aborted", [[], [(9, 0)]], ids=["plain", "with transactions"])
@pytest.mark.parametrize("make", [batch, legacy])
def test_a_wrong_checksum_is_told_apart(
    make: Callable[[int, int], bytes], aborted: list[tuple[int, int]]
) -> None:
    """What is before it is read; it may be right when it is fetched again, and is not passed."""
    broken = bytearray(make(2, 1))
    broken[-1] ^= 1
    data = batch(0, 2) + bytes(broken) + batch(3, 1)
    decoded = read(data, aborted=aborted)
    assert reasons(decoded) == [(0, None), (1, None)]
    assert (decoded.next_offset, decoded.corrupt) == (2, 2)


def test_a_corrupt_batch_can_be_skipped() -> None:
    """With a reason, up to the last offset in its header; what is behind it is fetched again."""
    broken = bytearray(batch(2, 4))
    broken[CHECKSUM_AT] ^= 1
    data = bytes(broken) + batch(6, 1)
    decoded = read(data, 3, skip=True)
    assert reasons(decoded) == [(5, Undecodable.CORRUPT_BATCH)]
    assert (decoded.next_offset, decoded.corrupt) == (6, None)
    assert decoded.records[0].value is not None


@pytest.mark.parametrize("length", [-(1 << 31), -1, 0, 13, 20])
def test_a_length_that_cannot_be_is_corrupt(length: int) -> None:
    """Where the next batch begins is not known; skipped, the reading goes on behind this one."""
    made = batch(2, 2)
    bad = made[:8] + struct.pack(">i", length) + made[12:]
    decoded = read(batch(0, 2) + bad + batch(4, 1))
    assert (len(decoded.records), decoded.next_offset, decoded.corrupt) == (2, 2, 2)
    decoded = read(bad + batch(4, 1), 2, skip=True)
    assert (reasons(decoded), decoded.next_offset) == ([(3, Undecodable.CORRUPT_BATCH)], 4)


def test_a_length_that_swallows_the_next_batch_loses_nothing() -> None:
    """Skipped, only the offsets of its own header are passed."""
    made = batch(0, 2)
    bad = made[:8] + struct.pack(">i", 2 * len(made) - 12) + made[12:]
    decoded = read(bad + made + batch(4, 1), skip=True)
    assert decoded.next_offset == 2


@pytest.mark.parametrize("magic", [3, 7, 0xFF])
def test_an_unknown_magic_is_corrupt(magic: int) -> None:
    """The checksum does not cover it."""
    made = batch(0, 2)
    bad = made[:16] + bytes([magic]) + made[17:]
    assert read(bad).corrupt == 0
    assert reasons(read(bad, skip=True)) == [(0, Undecodable.CORRUPT_BATCH)]


@pytest.mark.parametrize("first", [-1, -(1 << 63), INT64_MAX])
@pytest.mark.parametrize("make", [batch, legacy])
def test_an_offset_that_cannot_be_is_corrupt(first: int, make: Callable[[int, int], bytes]) -> None:
    """The checksum does not cover it; no position goes beyond what Kafka can have."""
    bad = struct.pack(">q", first) + make(0, 2)[8:]
    assert read(bad, 5).corrupt == 5
    assert read(bad, 5, skip=True).next_offset == 6


def test_no_position_is_beyond_what_kafka_can_have() -> None:
    """Also where only the last offset of a batch is."""
    bad = struct.pack(">q", INT64_MAX - 1) + batch(0, 2)[8:]
    assert read(bad, 5).corrupt == 5


def test_a_header_that_leaps_is_not_believed() -> None:
    """A corrupt batch passes no billions of records."""
    made = bytearray(batch(0, 2))
    made[23:27] = (1 << 30).to_bytes(4, "big")
    assert read(bytes(made), skip=True).next_offset == 1


def test_batches_before_the_wanted_offset_are_no_endless_loop() -> None:
    """The same answer would come for ever: the caller is told, and can skip."""
    decoded = read(batch(0, 2), 7)
    assert (decoded.records, decoded.next_offset, decoded.corrupt) == ([], 7, 7)
    assert read(batch(0, 2), 7, skip=True).next_offset == 8
    assert offsets(batch(0, 2) + batch(7, 1), 7) == [7]


# ---- anything


BATCHES = st.one_of(
    st.builds(batch, st.integers(0, 20), st.integers(1, 5), codec=st.integers(0, 4)),
    st.builds(batch, st.integers(0, 20), st.integers(1, 5), producer=st.integers(0, 3)),
    st.builds(
        legacy,
        st.integers(0, 20),
        st.integers(1, 5),
        magic=st.sampled_from([0, 1]),
        codec=st.integers(0, 2),
    ),
    st.builds(
        raw_batch,
        st.integers(0, 20),
        st.binary(max_size=40) | st.just(raw_record(0, headers=[(b"\xff", b"")])),
        st.integers(-1, 5),
        delta=st.integers(-2, 9),
        attributes=st.integers(0, 0x3F),
    ),
    st.binary(max_size=80),
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Batches of which some bytes are others; with the right checksum, mostly."""
    made = bytearray(draw(BATCHES))
    for _ in range(draw(st.integers(0, 3))):
        if made:
            made[draw(st.integers(0, len(made) - 1))] = draw(st.integers(0, 255))
    if len(made) > CHECKSUM_AT and draw(st.booleans()):
        sealed = seal if made[16] >= 2 else seal_legacy
        made[:] = sealed(bytes(made))
    return bytes(made)


@given(
    st.lists(mutated(), max_size=4).map(b"".join),
    st.integers(0, 25),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20)), max_size=3),
)
@example(raw_batch(0, b"\xff" * 30, 2), 0, [])
def test_anything_is_records_and_reasons(
    data: bytes, offset: int, aborted: list[tuple[int, int]]
) -> None:
    """Whatever a broker sends: see `check_decoding` for what holds."""
    check_decoding(data, offset, aborted)
