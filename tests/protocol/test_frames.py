"""Our frames are what two other implementations of RFC 6455 read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol
from wsproto.frame_protocol import Opcode as WsprotoOpcode

from odin_ws.protocol.frames import PING, close_frame, text_frame, text_header
from tests.wire_decoder import Opcode, frames

# Where the length takes another form, and around it.
LENGTHS = [0, 1, 124, 125, 126, 127, 128, 65_534, 65_535, 65_536, 65_537, 1 << 20]

# What a control frame leaves for the reason of a close.
REASON_BYTES = 123

texts = st.text(st.characters(codec="utf-8"))


@pytest.mark.parametrize("length", LENGTHS)
def test_a_text_of_any_length_is_read_by_websockets(length: int) -> None:
    """Each of the three forms of a length is written where it has to be."""
    payload = b"x" * length
    assert frames(text_frame(payload)) == [(Opcode.TEXT, payload.decode())]


@pytest.mark.parametrize("length", LENGTHS)
def test_a_text_of_any_length_is_read_by_wsproto(length: int) -> None:
    """A second reader agrees, so it is not the first one's leniency."""
    protocol = FrameProtocol(client=True, extensions=[])
    protocol.receive_bytes(text_frame(b"x" * length))
    (frame,) = protocol.received_frames()
    assert frame.opcode is WsprotoOpcode.TEXT
    assert frame.message_finished
    assert frame.payload == "x" * length


@pytest.mark.parametrize(
    ("length", "size"), [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10), (1 << 40, 10)]
)
def test_a_header_is_as_short_as_it_can_be(length: int, size: int) -> None:
    """RFC 6455, 5.2 demands the shortest form."""
    assert len(text_header(length)) == size


@given(st.lists(texts, max_size=10))
def test_frames_stand_one_after_another(contents: list[str]) -> None:
    """Any number of frames in one write are the same frames when they are read."""
    data = b"".join(text_frame(content.encode()) for content in contents)
    assert frames(data) == [(Opcode.TEXT, content) for content in contents]


def test_a_ping_is_read() -> None:
    """A ping has no payload: any byte that comes back is life."""
    assert frames(PING) == [(Opcode.PING, b"")]


@given(st.sampled_from([1000, 1001, 1008, 1012, 4000, 4408, 4999]), texts)
def test_a_close_carries_its_code_and_as_much_of_its_reason_as_fits(code: int, text: str) -> None:
    """A reason is cut at a character, and at none that would have fitted."""
    ((opcode, (read_code, reason)),) = frames(close_frame(code, text))
    assert opcode is Opcode.CLOSE
    assert read_code == code
    assert text.startswith(reason)
    if reason != text:
        assert len(reason.encode()) <= REASON_BYTES
        assert len(text[: len(reason) + 1].encode()) > REASON_BYTES


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("x" * 123, "x" * 123),
        ("x" * 124, "x" * 123),
        ("x" * 122 + "é", "x" * 122),
        ("x" * 121 + "é", "x" * 121 + "é"),
        ("😀" * 31, "😀" * 30),
        ("", ""),
    ],
)
def test_a_long_reason_is_cut_at_a_character(text: str, kept: str) -> None:
    """Half a character would make the close frame itself a protocol error."""
    assert frames(close_frame(1008, text)) == [(Opcode.CLOSE, (1008, kept))]
