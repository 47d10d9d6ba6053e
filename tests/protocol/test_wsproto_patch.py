"""All close codes of the IANA registry are accepted, also those that wsproto does not know."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import CloseReason

from odin_ws.protocol.message_reader import Fault, FrameReader, Incoming, PeerClose
from odin_ws.protocol.wsproto_patch import CloseCodes, is_registered
from tests.scenarios.wire import Op, frame

# https://www.iana.org/assignments/websocket, as of 2026.
REGISTERED = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}


def read(*pieces: bytes) -> list[Incoming]:
    """Return all items that a new reader returns for these bytes."""
    reader = FrameReader(100, 10)
    return [item for piece in pieces for item in reader.receive(piece)]


@pytest.mark.parametrize(
    "code", [0, 999, *range(1000, 1020), 1100, 2000, 2999, 3000, 3003, 3999, 4000, 4999, 5000]
)
@pytest.mark.parametrize("reason", [b"", b"bad gateway"])
def test_close_code_is_accepted_only_if_registered(code: int, reason: bytes) -> None:
    """The reader returns the code as it was sent; an unregistered code is a broken frame."""
    sent = frame(Op.CLOSE, struct.pack("!H", code) + reason)
    expected = PeerClose(code, reason.decode()) if code in REGISTERED else Fault.BROKEN
    assert read(sent) == [expected]
    assert is_registered(code) == (code in REGISTERED)


@given(st.lists(st.integers(0, 1000), max_size=20), st.sampled_from([1000, 1014, 4000]))
def test_close_code_is_read_across_any_cuts(places: list[int], code: int) -> None:
    """Whole and split frames of every length come before the close frame."""
    close = frame(Op.CLOSE, struct.pack("!H", code) + b"why")
    data = b"".join([frame(Op.TEXT, b"x" * 90), frame(Op.PING, b"y" * 125), frame(Op.PONG), close])
    bounds = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    items = read(*(data[begin:end] for begin, end in pairwise(bounds)))
    assert items[-1] == PeerClose(code, "why")
    assert len(items) == 4


@given(
    st.lists(
        st.tuples(
            st.sampled_from([Op.TEXT, Op.BINARY, Op.CONTINUATION, Op.PING, Op.PONG]),
            st.sampled_from([0, 1, 125, 126, 127, 65_535, 65_536]),
            st.booleans(),
        ),
        max_size=6,
    ),
    st.lists(st.integers(0, 400_000), max_size=20),
)
def test_frames_other_than_close_pass_unchanged(
    frames: list[tuple[Op, int, bool]], places: list[int]
) -> None:
    """Masked or not, with each of the three length fields, wherever the bytes are cut."""
    data = b"".join(frame(op, b"\x88\x82\x03\xf6" * (n // 4), mask=mask) for op, n, mask in frames)
    bounds = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    codes = CloseCodes()
    assert b"".join(codes.pass_on(data[a:b]) for a, b in pairwise(bounds)) == data
    assert codes.replaced is None


@pytest.mark.parametrize("cut", range(1, 6))
def test_split_close_without_code_passes_once(cut: int) -> None:
    """The patch does not repeat the first part, which it has already passed on."""
    data = frame(Op.CLOSE, b"")
    codes = CloseCodes()
    assert codes.pass_on(data[:cut]) + codes.pass_on(data[cut:]) == data


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_random_bytes_pass_unchanged_except_close_code(pieces: list[bytes]) -> None:
    """No bytes raise an error or are lost; at most the start of a close frame is held back."""
    codes = CloseCodes()
    passed = b"".join(codes.pass_on(piece) for piece in pieces)
    assert len(b"".join(pieces)) - len(passed) < 16
    if codes.replaced is None:
        assert b"".join(pieces).startswith(passed)


def test_bytes_after_close_are_not_parsed() -> None:
    """Many close frames in a row cost no more than other bytes."""
    close = frame(Op.CLOSE, struct.pack("!H", 1014))
    assert CloseCodes().pass_on(close * 3)[len(close) :] == close * 2


def test_wsproto_does_not_know_code_1014() -> None:
    """If this fails, `wsproto_patch` can be deleted."""
    assert 1014 not in set(CloseReason)
