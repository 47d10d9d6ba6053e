"""The message reader inflates compressed commands up to its size limit."""

from __future__ import annotations

import math
import tracemalloc
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.protocol.message_reader import Fault, FrameReader, Incoming, Ping
from tests.scenarios.wire import Op, frame

LIMIT = 200
RSV1 = 4


def deflate(text: bytes, window_bits: int = 15) -> bytes:
    """Compress a message's payload as a client does."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -window_bits)
    return (stream.compress(text) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


def read(*pieces: bytes) -> list[Incoming]:
    """Return all items that a new reader returns for these bytes."""
    reader = FrameReader(LIMIT, 10, deflate=True)
    return [item for piece in pieces for item in reader.receive(piece)]


@given(
    st.lists(st.tuples(st.text(max_size=60), st.booleans()), max_size=5),
    st.lists(st.integers(0, 1000), max_size=8),
)
def test_compressed_and_plain_messages_are_read_across_any_cuts(
    sent: list[tuple[str, bool]], places: list[int]
) -> None:
    """The network may cut the bytes anywhere."""
    data = b"".join(
        frame(Op.TEXT, deflate(text.encode()), rsv=RSV1)
        if packed
        else frame(Op.TEXT, text.encode())
        for text, packed in sent
    )
    bounds = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    pieces = [data[begin:end] for begin, end in pairwise(bounds)]
    assert read(*pieces) == [text for text, _ in sent]


def test_compressed_fragments_with_ping_between_are_read() -> None:
    """Only the first fragment has RSV1; the ping between them is not compressed."""
    payload = deflate(b"a compressed command")
    assert read(
        frame(Op.TEXT, payload[:5], fin=False, rsv=RSV1)
        + frame(Op.PING, b"are you there")
        + frame(Op.CONTINUATION, payload[5:9], fin=False)
        + frame(Op.CONTINUATION, payload[9:])
    ) == [Ping(b"are you there"), "a compressed command"]


def test_message_with_final_deflate_block_is_read() -> None:
    """RFC 7692, 7.2.3.4: an empty block follows a block with BFINAL."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    payload = stream.compress(b"the last one") + stream.flush() + b"\x00"
    assert read(frame(Op.TEXT, payload, rsv=RSV1), frame(Op.TEXT, deflate(b"next"), rsv=RSV1)) == [
        "the last one",
        "next",
    ]


def test_rfc_7692_example_is_read_twice() -> None:
    """RFC 7692, 7.2.3.1: two messages, each "Hello"."""
    hello = bytes((0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00))
    assert read(frame(Op.TEXT, hello, rsv=RSV1) * 2) == ["Hello", "Hello"]


@pytest.mark.parametrize(("size", "fits"), [(LIMIT, True), (LIMIT + 1, False), (10**6, False)])
@pytest.mark.parametrize("fragments", [1, 3, 10])
def test_size_limit_applies_to_inflated_message(size: int, *, fits: bool, fragments: int) -> None:
    """A zip bomb is rejected as too large, however few bytes it has."""
    text = b"a" * size
    payload = deflate(text)
    step = math.ceil(len(payload) / fragments)
    pieces = [payload[begin : begin + step] for begin in range(0, len(payload), step)]
    sent = [
        frame(
            Op.CONTINUATION if number else Op.TEXT,
            piece,
            fin=number == len(pieces) - 1,
            rsv=0 if number else RSV1,
        )
        for number, piece in enumerate(pieces)
    ]
    assert read(b"".join(sent)) == [text.decode() if fits else Fault.TOO_LARGE]


def test_zip_bomb_is_not_inflated_beyond_limit() -> None:
    """10 MB compressed to 10 KB take less than 200 KB of memory."""
    payload = deflate(b"a" * 10_000_000)
    data = frame(Op.TEXT, payload, rsv=RSV1)
    tracemalloc.start()
    try:
        assert read(data) == [Fault.TOO_LARGE]
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(frame(Op.TEXT, b"\xff\xff\xff", rsv=RSV1), id="no deflate stream"),
        pytest.param(frame(Op.PING, b"", rsv=RSV1), id="a marked ping"),
        pytest.param(
            frame(Op.TEXT, b"", fin=False, rsv=RSV1) + frame(Op.CONTINUATION, b"", rsv=RSV1),
            id="a marked continuation",
        ),
        pytest.param(frame(Op.TEXT, deflate(b"x"), rsv=RSV1 | 2), id="another reserved bit"),
        pytest.param(
            frame(Op.TEXT, b"\x03\x00" + b"behind the last block", rsv=RSV1),
            id="more behind the last block",
        ),
    ],
)
def test_invalid_compressed_message_is_a_fault(data: bytes) -> None:
    """The reader reports `BROKEN`, as for any invalid frame."""
    assert read(data, frame(Op.TEXT, b"next"))[0] is Fault.BROKEN


def test_inflated_text_that_is_not_utf8_is_a_fault() -> None:
    """The bytes inflate, but they are no text."""
    assert read(frame(Op.TEXT, deflate(b"\xff"), rsv=RSV1)) == [Fault.NOT_UTF8]


def test_compressed_frame_without_negotiation_is_a_fault() -> None:
    """RSV1 is valid only if the handshake agreed on permessage-deflate."""
    reader = FrameReader(LIMIT, 10)
    assert list(reader.receive(frame(Op.TEXT, deflate(b"x"), rsv=RSV1))) == [Fault.BROKEN]


def test_message_referring_to_previous_message_is_a_fault() -> None:
    """The handshake agreed on `client_no_context_takeover`: the reader keeps no context."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    text = bytes(range(32, 120))
    first, second = (
        (stream.compress(text) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4] for _ in range(2)
    )
    assert read(frame(Op.TEXT, first, rsv=RSV1), frame(Op.TEXT, second, rsv=RSV1)) == [
        text.decode(),
        Fault.BROKEN,
    ]
