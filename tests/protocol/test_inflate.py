"""Compressed commands are inflated within a bound; what is no deflate stream is a fault."""

from __future__ import annotations

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
    """A message's payload as a client makes it."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -window_bits)
    return (stream.compress(text) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


def read(*pieces: bytes) -> list[Incoming]:
    """All that a reader makes of these bytes."""
    reader = FrameReader(LIMIT, 10, deflate=True)
    return [item for piece in pieces for item in reader.receive(piece)]


@given(
    st.lists(st.tuples(st.text(max_size=60), st.booleans()), max_size=5),
    st.lists(st.integers(0, 1000), max_size=8),
)
def test_messages_come_out_whatever_the_pieces(
    sent: list[tuple[str, bool]], places: list[int]
) -> None:
    """Compressed and plain messages follow each other, cut anywhere by the network."""
    data = b"".join(
        frame(Op.TEXT, deflate(text.encode()), rsv=RSV1)
        if packed
        else frame(Op.TEXT, text.encode())
        for text, packed in sent
    )
    bounds = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    pieces = [data[begin:end] for begin, end in pairwise(bounds)]
    assert read(*pieces) == [text for text, _ in sent]


def test_fragments_with_a_ping_between_them() -> None:
    """Only the first frame is marked; a control frame between them is not compressed."""
    payload = deflate(b"a compressed command")
    assert read(
        frame(Op.TEXT, payload[:5], fin=False, rsv=RSV1)
        + frame(Op.PING, b"are you there")
        + frame(Op.CONTINUATION, payload[5:9], fin=False)
        + frame(Op.CONTINUATION, payload[9:])
    ) == [Ping(b"are you there"), "a compressed command"]


def test_a_message_with_a_last_block() -> None:
    """RFC 7692, 7.2.3.4: behind a block that calls itself the last one, an empty one follows."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    payload = stream.compress(b"the last one") + stream.flush() + b"\x00"
    assert read(frame(Op.TEXT, payload, rsv=RSV1), frame(Op.TEXT, deflate(b"next"), rsv=RSV1)) == [
        "the last one",
        "next",
    ]


def test_example_of_the_rfc() -> None:
    """RFC 7692, 7.2.3.1: "Hello", twice as a message of its own."""
    hello = bytes((0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00))
    assert read(frame(Op.TEXT, hello, rsv=RSV1) * 2) == ["Hello", "Hello"]


@pytest.mark.parametrize(("size", "fits"), [(LIMIT, True), (LIMIT + 1, False), (10**6, False)])
@pytest.mark.parametrize("fragment", [1, 7, 10**6])
def test_the_bound_is_of_the_inflated_message(size: int, *, fits: bool, fragment: int) -> None:
    """A bomb is a message that is too large, however few bytes it came in."""
    text = b"a" * size
    payload = deflate(text)
    pieces = [payload[begin : begin + fragment] for begin in range(0, len(payload), fragment)][:10]
    sent = [
        frame(
            Op.CONTINUATION if number else Op.TEXT,
            piece,
            fin=number == len(pieces) - 1,
            rsv=0 if number else RSV1,
        )
        for number, piece in enumerate(pieces)
    ]
    if fragment * 10 >= len(payload):
        assert read(*sent) == [text.decode() if fits else Fault.TOO_LARGE]


def test_a_bomb_takes_no_memory() -> None:
    """10 MB in 10 KB are not inflated beyond the bound."""
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
def test_a_broken_message_is_a_fault(data: bytes) -> None:
    """The connection ends, as after any frame that is not valid."""
    assert read(data, frame(Op.TEXT, b"next"))[0] is Fault.BROKEN


def test_not_utf8_is_its_own_fault() -> None:
    """What inflates well may still be no text."""
    assert read(frame(Op.TEXT, deflate(b"\xff"), rsv=RSV1)) == [Fault.NOT_UTF8]


def test_without_agreement_a_marked_frame_is_a_fault() -> None:
    """A client that compresses without having agreed is closed as before."""
    reader = FrameReader(LIMIT, 10)
    assert list(reader.receive(frame(Op.TEXT, deflate(b"x"), rsv=RSV1))) == [Fault.BROKEN]


def test_nothing_is_kept_between_two_messages() -> None:
    """A message that refers to the one before it cannot be read: there is no context."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    text = bytes(range(32, 120))
    first, second = (
        (stream.compress(text) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4] for _ in range(2)
    )
    assert read(frame(Op.TEXT, first, rsv=RSV1), frame(Op.TEXT, second, rsv=RSV1)) == [
        text.decode(),
        Fault.BROKEN,
    ]
