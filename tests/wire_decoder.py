"""Decodes our frames with `websockets`, which is independent of our encoder."""

from __future__ import annotations

import json
from typing import Any

from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Close, Frame, Opcode
from websockets.streams import StreamReader

__all__ = ["Opcode", "frames", "messages"]


def frames(data: bytes, window_bits: int = 15) -> list[tuple[Opcode, Any]]:
    """Opcode and payload of each frame: a text, a close's code and reason, or bytes.

    `window_bits`: the compression window. Raises for a truncated, masked or fragmented frame.
    """
    inflate = PerMessageDeflate(
        remote_no_context_takeover=True,
        local_no_context_takeover=True,
        remote_max_window_bits=window_bits,
        local_max_window_bits=15,
    )
    reader = StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    found: list[tuple[Opcode, Any]] = []
    while not (at_end := _result(reader.at_eof())):
        frame = _result(Frame.parse(reader.read_exact, mask=False, extensions=[inflate]))
        frame.check()
        assert frame.fin
        payload: Any = bytes(frame.data)
        if frame.opcode is Opcode.TEXT:
            payload = payload.decode()
        elif frame.opcode is Opcode.CLOSE:
            close = Close.parse(payload)
            payload = close.code, close.reason
        found.append((frame.opcode, payload))
    assert at_end
    return found


def messages(*writes: bytes) -> list[dict[str, Any]]:
    """The JSON objects of text frames."""
    decoded = []
    for opcode, payload in frames(b"".join(writes)):
        assert opcode is Opcode.TEXT
        decoded.append(json.loads(payload))
    return decoded


def _result(parsing: Any) -> Any:
    """What a parser of `websockets` returns that has all its bytes already."""
    try:
        next(parsing)
    except StopIteration as end:
        return end.value
    raise AssertionError("a frame is cut off")
