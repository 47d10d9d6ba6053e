"""Deflate blocks that were compressed separately form one valid stream."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.protocol.deflate import STORED_BYTES, Compressor, stored_header
from odin_ws.protocol.permessage_deflate import WINDOWS

SYNC_FLUSH_TAIL = b"\x00\x00\xff\xff"

# Texts with repetitions, and random bytes that do not compress.
texts = st.binary(min_size=1, max_size=600) | st.lists(
    st.sampled_from([b'{"price":"0.1"', b"buyer", b"bc1q", b"\x00\xff", b"0123456789"]),
    min_size=1,
    max_size=300,
).map(b"".join)

windows = pytest.mark.parametrize("window_bits", WINDOWS)


def inflate(payload: bytes, window_bits: int) -> bytes:
    """Inflate a message's payload as a client does; zlib has no window below 9 bits."""
    stream = zlib.decompressobj(-max(9, window_bits))
    text = stream.decompress(payload + SYNC_FLUSH_TAIL)
    assert not stream.unused_data
    assert not stream.eof
    return text


@windows
@given(head=st.binary(max_size=70), tails=st.lists(texts, min_size=1, max_size=4))
def test_stored_head_and_compressed_tail_inflate_to_their_texts(
    window_bits: int, head: bytes, tails: list[bytes]
) -> None:
    """One compressor makes the tails of several messages; each inflates by itself."""
    compressor = Compressor(window_bits)
    for tail in tails:
        payload = stored_header(len(head)) + head + compressor.compress(tail)
        assert inflate(payload, window_bits) == head + tail


@windows
@given(several=st.lists(texts, min_size=2, max_size=5))
def test_compressed_blocks_joined_by_sync_flush_tail_inflate_to_all_texts(
    window_bits: int, several: list[bytes]
) -> None:
    """`compress` leaves out the last four bytes of a flush; between blocks they are put back."""
    compressor = Compressor(window_bits)
    blocks = SYNC_FLUSH_TAIL.join(map(compressor.compress, several))
    assert inflate(blocks, window_bits) == b"".join(several)


@windows
def test_compressed_text_does_not_refer_to_previous_text(window_bits: int) -> None:
    """A client that did not receive the first message can inflate the second."""
    compressor = Compressor(window_bits)
    text = bytes(range(256))
    first, second = compressor.compress(text), compressor.compress(text)
    assert len(second) == len(first) > len(text) * 0.9
    assert inflate(second, window_bits) == text


def test_back_references_stay_within_window() -> None:
    """A repetition 5,000 bytes back is used with a window of 32 KiB, not with one of 4 KiB."""
    far = bytes(range(256)) + b"x" * 5000 + bytes(range(256))
    wide, narrow = (len(Compressor(bits).compress(far)) for bits in (15, 12))
    assert narrow > wide + 200
    assert inflate(Compressor(12).compress(far), 12) == far


def test_stored_header_of_65535_bytes_is_valid() -> None:
    """65,535 bytes is the maximum of a stored block."""
    data = b"z" * 0xFFFF
    header = stored_header(len(data))
    assert len(header) == STORED_BYTES
    assert zlib.decompressobj(-15).decompress(header + data + b"\x00" + SYNC_FLUSH_TAIL) == data
