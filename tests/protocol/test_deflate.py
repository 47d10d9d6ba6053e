"""Blocks that were made apart are one deflate stream, whatever their texts."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.protocol.deflate import STORED_BYTES, Compressor, stored_header
from odin_ws.protocol.permessage_deflate import WINDOWS

CUT = b"\x00\x00\xff\xff"

# Texts that repeat themselves and each other, and bytes that nothing can be made of.
texts = st.binary(min_size=1, max_size=600) | st.lists(
    st.sampled_from([b'{"price":"0.1"', b"buyer", b"bc1q", b"\x00\xff", b"0123456789"]),
    min_size=1,
    max_size=300,
).map(b"".join)

windows = pytest.mark.parametrize("window_bits", WINDOWS)


def inflate(payload: bytes, window_bits: int) -> bytes:
    """What a client makes of a message's payload; zlib has no window below 9 bits."""
    stream = zlib.decompressobj(-max(9, window_bits))
    text = stream.decompress(payload + CUT)
    assert not stream.unused_data
    assert not stream.eof
    return text


@windows
@given(head=st.binary(max_size=70), tails=st.lists(texts, min_size=1, max_size=4))
def test_head_and_tail_inflate_to_their_texts(
    window_bits: int, head: bytes, tails: list[bytes]
) -> None:
    """A stored head and a tail compressed after others, by one compressor, are one message."""
    compressor = Compressor(window_bits)
    for tail in tails:
        payload = stored_header(len(head)) + head + compressor.compress(tail)
        assert inflate(payload, window_bits) == head + tail


@windows
@given(several=st.lists(texts, min_size=2, max_size=5))
def test_blocks_join_to_one_message(window_bits: int, several: list[bytes]) -> None:
    """With the cut bytes put back between them, compressed texts can follow each other."""
    compressor = Compressor(window_bits)
    blocks = CUT.join(map(compressor.compress, several))
    assert inflate(blocks, window_bits) == b"".join(several)


@windows
def test_a_text_does_not_refer_to_the_one_before(window_bits: int) -> None:
    """A client that has not received the first message can read the second."""
    compressor = Compressor(window_bits)
    text = bytes(range(256))
    first, second = compressor.compress(text), compressor.compress(text)
    assert len(second) == len(first) > len(text) * 0.9
    assert inflate(second, window_bits) == text


def test_references_stay_within_the_window() -> None:
    """4 KiB apart, a repetition is out of reach for the smaller window only."""
    far = bytes(range(256)) + b"x" * 5000 + bytes(range(256))
    wide, narrow = (len(Compressor(bits).compress(far)) for bits in (15, 12))
    assert narrow > wide + 200
    assert inflate(Compressor(12).compress(far), 12) == far


def test_stored_header_of_the_longest_block() -> None:
    """A stored block has 65,535 bytes at most."""
    data = b"z" * 0xFFFF
    header = stored_header(len(data))
    assert len(header) == STORED_BYTES
    assert zlib.decompressobj(-15).decompress(header + data + b"\x00" + CUT) == data
