"""The message reader returns messages from any pieces of bytes, and a fault ends it."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol

from odin_ws.protocol.message_reader import Fault, FrameReader, Incoming, PeerClose, Ping, Pong
from tests.scenarios.wire import Op, frame

LIMIT = 100
FRAMES = 10


def read(*pieces: bytes) -> list[Incoming]:
    """Return all items that a new reader returns for these bytes."""
    reader = FrameReader(LIMIT, FRAMES)
    return [item for piece in pieces for item in reader.receive(piece)]


def split(data: bytes, places: list[int]) -> list[bytes]:
    """Return the same bytes in pieces."""
    bounds = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[begin:end] for begin, end in pairwise(bounds)]


CONVERSATION: list[tuple[bytes, list[Incoming]]] = [
    (frame(Op.TEXT, b"one"), ["one"]),
    (frame(Op.PING, b"are you there"), [Ping(b"are you there")]),
    (frame(Op.PONG, b"unasked"), [Pong()]),
    (frame(Op.TEXT, b"t", fin=False) + frame(Op.CONTINUATION, b"wo"), ["two"]),
    (
        frame(Op.TEXT, b"\xc3", fin=False)
        + frame(Op.PING)
        + frame(Op.CONTINUATION, b"", fin=False)
        + frame(Op.CONTINUATION, b"\xa4"),
        [Ping(b""), "ä"],
    ),
    (frame(Op.TEXT, b""), [""]),
    (frame(Op.BINARY, b"\xff\x00"), [b"\xff\x00"]),
    (frame(Op.BINARY, b"\xff", fin=False) + frame(Op.CONTINUATION, b"\xfe"), [b"\xff\xfe"]),
    (frame(Op.BINARY), [b""]),
    (frame(Op.CLOSE, struct.pack("!H", 1001) + b"away"), [PeerClose(1001, "away")]),
]


@given(st.lists(st.integers(0, 1000), max_size=20))
def test_messages_are_read_across_any_cuts(places: list[int]) -> None:
    """The network may cut the bytes anywhere; whole messages are returned, in order."""
    data = b"".join(sent for sent, _ in CONVERSATION)
    whole = [item for _, items in CONVERSATION for item in items]
    # wsproto returns a frame that arrives in pieces as parts; the reader joins them.
    assert read(*split(data, places)) == whole


@given(st.text(max_size=LIMIT + 20), st.lists(st.integers(0, 1000), max_size=5))
def test_message_larger_than_limit_is_too_large(text: str, places: list[int]) -> None:
    """The limit counts UTF-8 bytes over all frames of the message."""
    parts = split(text.encode(), places) or [b""]
    ops = [Op.TEXT] + [Op.CONTINUATION] * (len(parts) - 1)
    frames = [
        frame(op, part, fin=number == len(parts))
        for number, (op, part) in enumerate(zip(ops, parts, strict=True), 1)
    ]
    fits = len(text.encode()) <= LIMIT
    assert read(b"".join(frames)) == [text if fits else Fault.TOO_LARGE]


@pytest.mark.parametrize("op", [Op.TEXT, Op.BINARY])
def test_too_large_is_reported_before_the_message_is_complete(op: Op) -> None:
    """A message that never ends cannot make the server hold more than the limit."""
    assert read(frame(op, b"x" * 1_000_000)[: LIMIT + 50]) == [Fault.TOO_LARGE]
    begin, go_on = frame(op, fin=False), frame(Op.CONTINUATION, fin=False)
    assert read(begin + go_on * FRAMES) == [Fault.TOO_LARGE]


@pytest.mark.parametrize("part", [b"", b"x"], ids=["empty", "of one byte"])
def test_message_of_more_than_the_maximum_of_frames_is_too_large(part: bytes) -> None:
    """A message of exactly the maximum is read, also byte by byte; each message is counted anew."""
    begin, go_on = frame(Op.TEXT, part, fin=False), frame(Op.CONTINUATION, part, fin=False)
    message = begin + go_on * (FRAMES - 2) + frame(Op.CONTINUATION, part)
    pieces = [message[at : at + 1] for at in range(len(message))]
    assert read(*pieces, *pieces) == [part.decode() * FRAMES] * 2
    assert read(begin + go_on * FRAMES) == [Fault.TOO_LARGE]


def test_unfinished_is_true_from_first_to_last_frame_of_message() -> None:
    """Control frames between them do not change it."""
    reader = FrameReader(LIMIT, FRAMES)
    seen = []
    for piece in (
        frame(Op.PING),
        frame(Op.TEXT, b"", fin=False),
        frame(Op.PING),
        frame(Op.CONTINUATION, b"x")[:-1],
        frame(Op.CONTINUATION, b"x")[-1:],
    ):
        list(reader.receive(piece))
        seen.append(reader.unfinished)
    assert seen == [False, True, True, True, False]


@pytest.mark.parametrize(
    ("sent", "fault"),
    [
        (frame(Op.BINARY, b"x" * (LIMIT + 1)), Fault.TOO_LARGE),
        (frame(Op.TEXT, b"\xff"), Fault.NOT_UTF8),
        (frame(Op.CLOSE, struct.pack("!H", 1000) + b"\xff"), Fault.NOT_UTF8),
        (frame(Op.CLOSE, b"\x03"), Fault.BROKEN),
        (frame(Op.TEXT, b"x", mask=False), Fault.BROKEN),
        (frame(Op.CONTINUATION, b"x"), Fault.BROKEN),
        (frame(Op.TEXT, b"x" * (LIMIT + 1)), Fault.TOO_LARGE),
    ],
)
def test_bytes_after_fault_are_not_read(sent: bytes, fault: Fault) -> None:
    """Messages before the fault are returned."""
    assert read(frame(Op.TEXT, b"before") + sent + frame(Op.TEXT, b"behind")) == ["before", fault]


# Valid frames, and nearly valid ones: another first byte, a wrong length or text.
FRAME = st.builds(
    lambda first, length, mask, payload: bytes((first, 0x80 | length)) + mask + payload,
    st.sampled_from([0x81, 0x81, 0x81, 0x89, 0x8A, 0x88, 0x82, 0x01, 0xC1]) | st.integers(0, 255),
    st.integers(0, 127),
    st.binary(min_size=4, max_size=4) | st.just(bytes(4)),
    st.binary(max_size=8),
)
WHOLE = st.builds(
    frame,
    st.sampled_from([Op.TEXT, Op.TEXT, Op.PING, Op.PONG, Op.BINARY]),
    st.text(max_size=300).map(lambda text: text.encode()[:125]) | st.text().map(str.encode),
)


@given(st.lists(WHOLE | FRAME, max_size=5).map(b"".join))
def test_whole_and_split_frames_give_the_same_items(data: bytes) -> None:
    """A frame that arrives byte by byte is read by wsproto, a whole one by our own parser."""
    pieces = [data[at : at + 1] for at in range(len(data))]
    assert until_end(read(data)) == until_end(read(*pieces))


def until_end(items: list[Incoming]) -> list[Incoming]:
    """Leave out the items after a close or a fault.

    The cuts decide which of two faults of one frame is found first.
    """
    for index, item in enumerate(items):
        if isinstance(item, Fault | PeerClose):
            return [*items[:index], Fault.BROKEN if isinstance(item, Fault) else item]
    return items


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 5000, 65535, 65536])
def test_text_of_any_length_is_read(size: int) -> None:
    """With each of the three length fields, whole and in two pieces."""
    text, data = "x" * size, frame(Op.TEXT, b"x" * size)
    for pieces in [data], [data[:3], data[3:]], [data[:-1], data[-1:]]:
        reader = FrameReader(1 << 20, FRAMES)
        assert [item for piece in pieces for item in reader.receive(piece)] == [text]


def test_length_in_longer_field_than_needed_is_a_fault() -> None:
    """RFC 6455, 5.2 demands the minimal number of bytes."""
    assert read(b"\x81\xfe\x00\x5d" + bytes(4 + 0x5D)) == [Fault.BROKEN]


def test_wsproto_parser_exists_only_during_partial_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes memory for each connection, and most clients never need it."""
    made = []

    def make(**options: Any) -> FrameProtocol:
        made.append(FrameProtocol(**options))
        return made[-1]

    monkeypatch.setattr("odin_ws.protocol.message_reader.FrameProtocol", make)
    reader, data = FrameReader(LIMIT, FRAMES), frame(Op.TEXT, b"one")
    counts = []
    for piece in data, frame(Op.PONG), data[:5], data[5:], data, data[:1], data[1:]:
        assert Fault.BROKEN not in list(reader.receive(piece))
        counts.append(len(made))
    assert counts == [0, 0, 1, 1, 1, 2, 2]


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_any_bytes_are_read_without_exception(pieces: list[bytes]) -> None:
    """Random bytes are a fault or an unfinished frame."""
    reader = FrameReader(LIMIT, FRAMES)
    for piece in pieces:
        if any(isinstance(item, Fault) for item in reader.receive(piece)):
            break
