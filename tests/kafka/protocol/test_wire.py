"""Any bytes are decoded or malformed, quickly and with little memory."""

from __future__ import annotations

import struct
import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from odin_ws.kafka.protocol import KafkaRequest, MalformedResponse
from odin_ws.kafka.protocol.wire import Reader, Writer
from tests.kafka.protocol.golden import GOLDEN, TOPIC_ID, Golden

goldens = st.sampled_from(GOLDEN)


def decode(request: KafkaRequest[Any], version: int, body: bytes) -> None:
    """Decode, or not; nothing else may be raised."""
    with suppress(MalformedResponse):
        request.decode(version, body)


@given(golden=goldens, body=st.binary(max_size=200))
@example(golden=GOLDEN[0], body=b"")
def test_arbitrary_bytes_are_decoded_or_malformed(golden: Golden, body: bytes) -> None:
    """For any version of any response."""
    decode(golden.message, golden.version, body)


@given(
    golden=goldens,
    changes=st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=8)), max_size=4),
    end=st.integers(0, 500),
)
def test_mutated_responses_are_decoded_or_malformed(
    golden: Golden, changes: list[tuple[int, bytes]], end: int
) -> None:
    """Bytes overwritten or truncated anywhere."""
    body = bytearray(golden.response)
    for at, new in changes:
        body[at : at + len(new)] = new
    decode(golden.message, golden.version, bytes(body[:end]))


LENGTHS = [b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff\x7f"]


@pytest.mark.parametrize("golden", GOLDEN, ids=str)
def test_false_lengths_cost_no_memory(golden: Golden) -> None:
    """A length of 2^31 anywhere allocates nothing."""
    tracemalloc.start()
    try:
        for length in LENGTHS:
            for at in range(len(golden.response)):
                body = golden.response[:at] + length + golden.response[at + len(length) :]
                decode(golden.message, golden.version, body)
        _, maximum = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert maximum < 1 << 20


@pytest.mark.parametrize("flexible", [True, False])
@pytest.mark.parametrize("length", [3, 1 << 20, (1 << 31) - 2])
def test_array_longer_than_the_rest_is_malformed(
    length: int,
    flexible: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """Before any item is read: each has at least one byte."""
    head = Writer(flexible=flexible)
    head.array([], head.int32)
    data = varint(length + 1) if flexible else struct.pack(">i", length)
    reads = []
    reader = Reader(data + b"\0\0", flexible=flexible)
    with pytest.raises(MalformedResponse, match=f"an array of {length} items does not fit"):
        reader.array(lambda: reads.append(1))
    assert not reads


def varint(value: int) -> bytes:
    """An unsigned varint, written another way than in the module."""
    groups = [value >> shift & 0x7F for shift in range(0, max(1, value.bit_length()), 7)]
    return bytes(group | 0x80 for group in groups[:-1]) + bytes(groups[-1:])


@given(
    texts=st.lists(st.text(max_size=200)),
    ids=st.lists(st.sampled_from([TOPIC_ID, None])),
    number=st.integers(-(1 << 63), (1 << 63) - 1),
    flexible=st.booleans(),
)
def test_written_values_are_read_back(
    texts: list[str],
    ids: list[str | None],
    number: int,
    flexible: bool,  # noqa: FBT001 -- drawn
) -> None:
    """All types, in one structure."""
    writer = Writer(flexible=flexible)
    writer.array(texts, writer.text)
    writer.array(ids, writer.topic_id)
    writer.int64(number)
    writer.int32(-1, 1 << 30)
    writer.int8(1)
    writer.tags()
    reader = Reader(writer.body + b"\x01", flexible=flexible)
    assert reader.array(reader.text) == texts
    assert reader.array(reader.topic_id) == ids
    assert reader.int64() == number
    assert (reader.int32(), reader.int32()) == (-1, 1 << 30)
    assert reader.boolean()
    reader.tags()
    assert reader.boolean()


def test_nulls() -> None:
    """A null string is None; null bytes and arrays are empty."""
    for flexible, data in (True, b"\0" * 3), (False, b"\xff" * 10):
        reader = Reader(data, flexible=flexible)
        assert reader.text() is None
        assert reader.data() == b""
        assert reader.array(reader.int32) == []


def test_tagged_fields_are_skipped() -> None:
    """Brokers may add some in any version."""
    reader = Reader(b"\x02\x05\x03abc\x80\x01\x00" + b"\x07\x08", flexible=True)
    reader.tags()
    assert reader.int16() == 0x0708
    reader = Reader(b"\x07\x08", flexible=False)
    reader.tags()
    assert reader.int16() == 0x0708


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x80" * 6, "a length of more than five bytes"),
        (b"\x05abc", "4 bytes do not fit"),
        (b"\x03\xff\xfe", "not UTF-8"),
        (b"", "1 bytes do not fit"),
    ],
)
def test_malformed_string_is_reported(data: bytes, reason: str) -> None:
    """As a readable text."""
    with pytest.raises(MalformedResponse, match=reason):
        Reader(data, flexible=True).text()
