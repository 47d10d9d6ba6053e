"""Batches damaged by a disk or network are recognized; any bytes can be decoded."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from odin_ws.kafka.record_batches import read_batches
from odin_ws.records import InvalidBatch
from tests.kafka.batch_decoders import (
    INT64_MAX,
    KEY,
    check_decoding,
    offsets,
    read,
    reasons,
)
from tests.kafka.batches import (
    CHECKSUM_AT,
    batch,
    legacy,
    raw_batch,
    raw_record,
    seal,
    seal_legacy,
)


@pytest.mark.parametrize("aborted", [[], [(9, 0)]], ids=["plain", "with transactions"])
@pytest.mark.parametrize("make", [batch, legacy])
def test_wrong_checksum_stops_before_the_batch(
    make: Callable[[int, int], bytes], aborted: list[tuple[int, int]]
) -> None:
    """Earlier records are read; a second fetch may get the batch intact."""
    broken = bytearray(make(2, 1))
    broken[-1] ^= 1
    data = batch(0, 2) + bytes(broken) + batch(3, 1)
    decoded = read(data, aborted=aborted)
    assert reasons(decoded) == [(0, None), (1, None)]
    assert (decoded.next_offset, decoded.corrupt) == (2, 2)


def test_corrupt_batch_is_skipped_on_request() -> None:
    """It becomes an invalid record at its last offset; later batches are fetched again."""
    broken = bytearray(batch(2, 4))
    broken[CHECKSUM_AT] ^= 1
    data = bytes(broken) + batch(6, 1)
    decoded = read(data, 3, skip=True)
    assert reasons(decoded) == [(5, InvalidBatch.CORRUPT_BATCH)]
    assert (decoded.next_offset, decoded.corrupt) == (6, None)
    assert decoded.records[0].value is not None


@pytest.mark.parametrize("length", [-(1 << 31), -1, 0, 13, 20])
def test_invalid_length_is_corrupt(length: int) -> None:
    """The start of the next batch is unknown; skipping continues after this one."""
    made = batch(2, 2)
    bad = made[:8] + struct.pack(">i", length) + made[12:]
    decoded = read(batch(0, 2) + bad + batch(4, 1))
    assert (len(decoded.records), decoded.next_offset, decoded.corrupt) == (2, 2, 2)
    decoded = read(bad + batch(4, 1), 2, skip=True)
    assert (reasons(decoded), decoded.next_offset) == ([(3, InvalidBatch.CORRUPT_BATCH)], 4)


def test_too_large_length_skips_only_its_own_batch() -> None:
    """Only the offsets of its own header are skipped."""
    made = batch(0, 2)
    bad = made[:8] + struct.pack(">i", 2 * len(made) - 12) + made[12:]
    decoded = read(bad + made + batch(4, 1), skip=True)
    assert decoded.next_offset == 2


@pytest.mark.parametrize("magic", [3, 7, 0xFF])
def test_unknown_magic_is_corrupt(magic: int) -> None:
    """The checksum does not cover it."""
    made = batch(0, 2)
    bad = made[:16] + bytes([magic]) + made[17:]
    assert read(bad).corrupt == 0
    assert reasons(read(bad, skip=True)) == [(0, InvalidBatch.CORRUPT_BATCH)]


@pytest.mark.parametrize("first", [-1, -(1 << 63), INT64_MAX])
@pytest.mark.parametrize("make", [batch, legacy])
def test_invalid_offset_is_corrupt(first: int, make: Callable[[int, int], bytes]) -> None:
    """The checksum does not cover it; positions stay within Kafka's range."""
    bad = struct.pack(">q", first) + make(0, 2)[8:]
    assert read(bad, 5).corrupt == 5
    assert read(bad, 5, skip=True).next_offset == 6


def test_position_stays_within_kafkas_range() -> None:
    """Also if only the last offset of a batch is out of range."""
    bad = struct.pack(">q", INT64_MAX - 1) + batch(0, 2)[8:]
    assert read(bad, 5).corrupt == 5


def test_corrupt_header_skips_a_bounded_number_of_offsets() -> None:
    """It cannot skip billions of records."""
    made = bytearray(batch(0, 2))
    made[23:27] = (1 << 30).to_bytes(4, "big")
    assert read(bytes(made), skip=True).next_offset == 1


def _claiming(made: bytes, delta: int) -> bytes:
    """Change the last offset of a batch, which breaks its checksum."""
    return made[:23] + delta.to_bytes(4, "big") + made[27:]


@pytest.mark.parametrize("delta", [900, 3, 0])
def test_corrupt_header_skips_no_other_batch(delta: int) -> None:
    """A wrong last offset, too large or too small, ends before the next intact batch."""
    bad, intact = _claiming(batch(0, 3), delta), batch(3, 2) + batch(5, 1)
    found: list[tuple[int, InvalidBatch | None]] = []
    offset = 0
    while offset < 6:
        # A broker sends the batch with the wanted offset, and those after it.
        decoded = read(intact if offset >= 3 else bad + intact, offset, skip=True)
        found += reasons(decoded)
        offset = decoded.next_offset
    assert [at for at, reason in found if reason is None] == [3, 4, 5]
    assert len(found) <= 5


def test_corrupt_header_skips_nothing_beyond_the_end_of_the_log() -> None:
    """Records written next get these offsets."""
    decoded = read(_claiming(batch(0, 3), 900), skip=True, log_end=3)
    assert reasons(decoded) == [(2, InvalidBatch.CORRUPT_BATCH)]
    assert decoded.next_offset == 3


@pytest.mark.parametrize(
    "made",
    [
        raw_batch(0, raw_record(0) + raw_record(1), 2, delta=900),
        raw_batch(0, b"\xff" * 30, 2, delta=900),
        raw_batch(0, raw_record(0) + raw_record(1), 2, delta=900, attributes=0x30),
        raw_batch(0, b"", 0, delta=900),
    ],
    ids=["records", "malformed", "control", "empty"],
)
def test_intact_header_that_claims_too_many_offsets_skips_no_other_batch(made: bytes) -> None:
    """Producers write the last offset, and not all brokers compare it with the records."""
    decoded = read(made + batch(2, 2) + batch(4, 1))
    assert [record.offset for record in decoded.records if record.invalid is None][-3:] == [2, 3, 4]
    assert read(made, log_end=2).next_offset == 2
    # Compaction removes records at the end of a batch: the offsets up to there have none.
    assert read(made).next_offset == 901
    assert read(made + batch(901, 1)).next_offset == 902


def test_wrong_first_offset_is_corrupt_if_lower_offsets_follow() -> None:
    """The checksum does not cover it: its records would be delivered with wrong offsets."""
    moved = (10).to_bytes(8, "big") + batch(2, 2)[8:]
    data = batch(0, 2) + moved + batch(4, 1)
    decoded = read(data)
    assert (offsets(data), decoded.next_offset, decoded.corrupt) == ([0, 1], 2, 2)
    decoded = read(moved + batch(4, 1), 2, skip=True)
    assert reasons(decoded) == [(3, InvalidBatch.CORRUPT_BATCH)]
    # Compaction leaves such gaps.
    assert offsets(batch(0, 2) + batch(10, 2) + batch(14, 1)) == [0, 1, 10, 11, 14]


def test_first_offset_far_beyond_the_end_of_the_log_is_corrupt() -> None:
    """Also in the last batch of a response."""
    moved = (1 << 40).to_bytes(8, "big") + batch(2, 2)[8:]
    assert read(batch(0, 2) + moved, log_end=4).corrupt == 2
    decoded = read(moved, 2, skip=True, log_end=4)
    assert (reasons(decoded), decoded.next_offset) == ([(3, InvalidBatch.CORRUPT_BATCH)], 4)


def test_records_written_after_the_end_was_read_are_delivered() -> None:
    """A leader reads the end of its log first."""
    assert offsets(batch(0, 2) + batch(2, 3), log_end=2) == [0, 1, 2, 3, 4]


HEADER_FIELDS = st.sampled_from([(0, 8), (8, 4), (16, 1), (23, 4), (57, 4)])
NUMBERS = st.sampled_from([0, 1, 3, 13, 61, 200, 1000, 1 << 30, (1 << 31) - 1, 1 << 40])


@given(
    st.lists(st.tuples(st.sampled_from([0, 0, 0, 3]), st.integers(1, 4)), min_size=3, max_size=6),
    st.data(),
)
def test_damaged_batch_costs_no_other_batch(
    sizes: list[tuple[int, int]], data: st.DataObject
) -> None:
    """All other records are delivered once, whichever field of its header is wrong."""
    log: list[tuple[range, bytes]] = []
    end = 0
    for gap, count in sizes:
        offsets_of = range(end + gap, end + gap + count)
        log.append((offsets_of, batch(offsets_of.start, count)))
        end = offsets_of.stop
    place = data.draw(st.integers(0, len(log) - 1))
    at, size = data.draw(HEADER_FIELDS)
    value = data.draw(NUMBERS) % (1 << (8 * size))
    made = log[place][1]
    damaged = made[:at] + value.to_bytes(size, "big") + made[at + size :]
    log[place] = log[place][0], damaged
    found = _read_log(log, end)
    assert found == sorted(set(found))
    intact = {at for number, (held, _) in enumerate(log) if number != place for at in held}
    assert intact <= set(found)
    # A first offset that is moved into a gap beside the batch is not noticed.
    assert len(found) <= len(intact) + len(log[place][0])


def _read_log(log: list[tuple[range, bytes]], end: int) -> list[int]:
    """Read a log to its end as a reader does that fetches again, and then skips."""
    found: list[int] = []
    offset, skips, is_largest = 0, False, False
    while offset < end:
        sent = b"".join(made for held, made in log if held.stop > offset)
        decoded = read_batches(
            KEY, sent, offset, [], skip_corrupt=skips, is_largest=is_largest, log_end=end
        )
        found += [record.offset for record in decoded.records if record.invalid is None]
        is_same = decoded.next_offset == offset
        assert not (is_same and skips and is_largest)
        skips = is_same and decoded.corrupt is not None
        is_largest = is_same and (is_largest or decoded.incomplete)
        offset = decoded.next_offset
    assert offset == end
    return found


def test_only_batches_before_the_wanted_offset_are_reported() -> None:
    """A retry would get the same response forever."""
    decoded = read(batch(0, 2), 7)
    assert (decoded.records, decoded.next_offset, decoded.corrupt) == ([], 7, 7)
    assert read(batch(0, 2), 7, skip=True).next_offset == 8
    assert offsets(batch(0, 2) + batch(7, 1), 7) == [7]


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
    st.none() | st.integers(-1, 30),
)
@example(raw_batch(0, b"\xff" * 30, 2), 0, [], None)
def test_any_bytes_decode_to_records_and_reasons(
    data: bytes, offset: int, aborted: list[tuple[int, int]], log_end: int | None
) -> None:
    """`check_decoding` lists what must hold."""
    check_decoding(data, offset, aborted, log_end)
