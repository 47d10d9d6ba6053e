"""Ops connections over the rate: probes get a response, all other requests get 429.

No function here waits: a connection costs some system calls, and the responses are constant.
"""

from __future__ import annotations

import contextlib
import socket
from enum import Enum
from typing import Final

__all__ = ["Probe", "read_probe", "respond_live", "respond_too_many"]

# Bytes read of a request: its line and some headers. The rest of the head is ignored.
_PEEK_BYTES: Final = 1024
_DRAIN_BYTES: Final = 16 * 1024

_HEADERS: Final = (
    b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n"
)
_LIVE: Final = b"live\n"
_TOO_MANY: Final = b"too many connections\n"

_LIVE_RESPONSE: Final = b"HTTP/1.1 200 OK\r\n%b\r\n" % (_HEADERS % len(_LIVE))
_TOO_MANY_RESPONSE: Final = b"HTTP/1.1 429 Too Many Requests\r\n%bretry-after: 1\r\n\r\n%b" % (
    _HEADERS % len(_TOO_MANY),
    _TOO_MANY,
)


class Probe(Enum):
    """The kind of a request over the rate."""

    LIVE = b"/health/live"
    READY = b"/health/ready"
    OTHER = b""


def read_probe(accepted: socket.socket) -> tuple[Probe, bool] | None:
    """Return the kind of request and whether it is a HEAD; None if the line is incomplete.

    Leaves the request unread. Raises OSError if the connection is gone.
    """
    try:
        line = accepted.recv(_PEEK_BYTES, socket.MSG_PEEK)
    except BlockingIOError:
        return None
    if line and b"\r\n" not in line and len(line) < _PEEK_BYTES:
        return None
    method, _, rest = line.partition(b" ")
    target = rest.partition(b" ")[0].partition(b"?")[0]
    if method not in {b"GET", b"HEAD"} or target not in {probe.value for probe in Probe}:
        return Probe.OTHER, False
    return Probe(target), method == b"HEAD"


def respond_live(accepted: socket.socket, *, head: bool) -> None:
    """Respond to `/health/live` and close the connection. Raises OSError if it is gone."""
    _respond(accepted, _LIVE_RESPONSE if head else _LIVE_RESPONSE + _LIVE)


def respond_too_many(accepted: socket.socket) -> None:
    """Respond with 429 and close the connection. Raises OSError if it is gone."""
    _respond(accepted, _TOO_MANY_RESPONSE)


def _respond(accepted: socket.socket, response: bytes) -> None:
    with accepted:
        # Unread bytes would reset the connection at its close.
        with contextlib.suppress(BlockingIOError):
            accepted.recv(_DRAIN_BYTES)
        # The send buffer of a new connection has room for the response.
        accepted.send(response)
