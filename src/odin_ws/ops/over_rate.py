"""Connections over the rate of the ops port: probes are answered, everything else gets 429.

Nothing here waits: a flood costs the system calls, and some bytes that were made once.
"""

from __future__ import annotations

import contextlib
import socket
from enum import Enum
from typing import Final

__all__ = ["Probe", "answer_live", "answer_too_many", "read_probe"]

# A request line and some headers; the rest of a head is not looked at.
_PEEK_BYTES: Final = 1024
_DRAIN_BYTES: Final = 16 * 1024

_HEADERS: Final = (
    b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n"
)
_LIVE: Final = b"live\n"
_TOO_MANY: Final = b"too many connections\n"

_LIVE_ANSWER: Final = b"HTTP/1.1 200 OK\r\n%b\r\n" % (_HEADERS % len(_LIVE))
_TOO_MANY_ANSWER: Final = b"HTTP/1.1 429 Too Many Requests\r\n%bretry-after: 1\r\n\r\n%b" % (
    _HEADERS % len(_TOO_MANY),
    _TOO_MANY,
)


class Probe(Enum):
    """What a client over the rate asks for."""

    LIVE = b"/health/live"
    READY = b"/health/ready"
    OTHER = b""


def read_probe(accepted: socket.socket) -> tuple[Probe, bool] | None:
    """Look at a request line, which stays unread.

    Returns what it asks for and whether by HEAD; None if it has not come whole yet. Raises OSError
    if the connection is gone.
    """
    try:
        line = accepted.recv(_PEEK_BYTES, socket.MSG_PEEK)
    except BlockingIOError:
        return None
    if line and b"\r\n" not in line and len(line) < _PEEK_BYTES:
        return None
    method, _, rest = line.partition(b" ")
    target = rest.partition(b" ")[0].partition(b"?")[0]
    if method not in {b"GET", b"HEAD"} or target not in {one.value for one in Probe}:
        return Probe.OTHER, False
    return Probe(target), method == b"HEAD"


def answer_live(accepted: socket.socket, *, head: bool) -> None:
    """Answer `/health/live` and close. Raises OSError if the connection is gone."""
    _answer(accepted, _LIVE_ANSWER if head else _LIVE_ANSWER + _LIVE)


def answer_too_many(accepted: socket.socket) -> None:
    """Answer 429 and close. Raises OSError if the connection is gone."""
    _answer(accepted, _TOO_MANY_ANSWER)


def _answer(accepted: socket.socket, answer: bytes) -> None:
    with accepted:
        # What was not read would reset the connection at its close.
        with contextlib.suppress(BlockingIOError):
            accepted.recv(_DRAIN_BYTES)
        # A new connection has room for these bytes.
        accepted.send(answer)
