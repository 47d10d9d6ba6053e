"""Two other implementations of RFC 6455 read the frames that `frames` writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol
from wsproto.frame_protocol import Opcode as WsprotoOpcode

from odin_ws.protocol.frames import PING, close_frame, text_frame, text_header
from tests.wire_decoder import Opcode, frames

# Payload lengths at and around the limits of the three length fields (RFC 6455, 5.2).
LENGTHS = [0, 1, 124, 125, 126, 127, 128, 65_534, 65_535, 65_536, 65_537, 1 << 20]

# A control frame has at most 125 bytes; the close code takes 2.
REASON_BYTES = 123

texts = st.text(st.characters(codec="utf-8"))


@pytest.mark.parametrize("length", LENGTHS)
def test_text_frame_of_any_length_is_read_by_websockets(length: int) -> None:
    """Each length is written in the right one of the three length fields."""
    payload = b"x" * length
    assert frames(text_frame(payload)) == [(Opcode.TEXT, payload.decode())]


@pytest.mark.parametrize("length", LENGTHS)
def test_text_frame_of_any_length_is_read_by_wsproto(length: int) -> None:
    """A second parser accepts the frame, so the first one was not just lenient."""
    protocol = FrameProtocol(client=True, extensions=[])
    protocol.receive_bytes(text_frame(b"x" * length))
    (frame,) = protocol.received_frames()
    assert frame.opcode is WsprotoOpcode.TEXT
    assert frame.message_finished
    assert frame.payload == "x" * length


@pytest.mark.parametrize(
    ("length", "size"), [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10), (1 << 40, 10)]
)
def test_text_header_uses_shortest_length_field(length: int, size: int) -> None:
    """RFC 6455, 5.2 demands the shortest form."""
    assert len(text_header(length)) == size


@given(st.lists(texts, max_size=10))
def test_concatenated_frames_are_read_as_separate_frames(contents: list[str]) -> None:
    """A parser reads the same frames from one write as from several."""
    data = b"".join(text_frame(content.encode()) for content in contents)
    assert frames(data) == [(Opcode.TEXT, content) for content in contents]


def test_ping_frame_has_no_payload() -> None:
    """The server does not match pongs to pings: any byte from the client shows that it is alive."""
    assert frames(PING) == [(Opcode.PING, b"")]


@given(st.sampled_from([1000, 1001, 1008, 1012, 4000, 4408, 4999]), texts)
def test_close_frame_truncates_reason_to_123_bytes(code: int, text: str) -> None:
    """The code is kept; the reason is cut between two characters, at the last that fits."""
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
def test_close_frame_truncates_reason_at_character_boundary(text: str, kept: str) -> None:
    """Half a UTF-8 character would make the close frame itself a protocol error."""
    assert frames(close_frame(1008, text)) == [(Opcode.CLOSE, (1008, kept))]
