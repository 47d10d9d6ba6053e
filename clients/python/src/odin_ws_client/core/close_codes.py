"""Which close codes and HTTP statuses are final, and which lead to a reconnect."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import attrs

__all__ = [
    "ABNORMAL",
    "CREDENTIAL_CLOSES",
    "FAILURES",
    "LONGEST_WAIT",
    "NORMAL",
    "VIOLATION",
    "Ended",
    "Unacceptable",
    "is_permanent_close",
    "is_permanent_rejection",
    "retry_after",
]

NORMAL: Final = 1000
VIOLATION: Final = 1002
ABNORMAL: Final = 1006  # RFC 6455, 7.1.5: no close frame came

_POLICY: Final = 1008

# Errors of this client or of its permissions that would repeat on a new connection: framing, kind
# of frame, UTF-8, size, extensions, token, permission.
_PERMANENT: Final = frozenset({VIOLATION, 1003, 1007, 1009, 1010, 4401, 4403})

# Closes for a fault of this client: they do not reset the back-off, however long the connection was
# open.
FAILURES: Final = frozenset({_POLICY, 4403})

# The HTTP status and close code that another token may change.
CREDENTIAL_CLOSES: Final = frozenset({401, 4401})

# 1008 has three reasons. Slow and flooding clients may reconnect; this reason is final.
_BAD_COMMANDS: Final = "too many bad messages"

# HTTP statuses for time-outs, overload and, from a proxy, a server that does not respond.
_PASSING_REJECTIONS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})

# Upper bound of a wait that the server requests, seconds: one day. A longer wait is a mistake.
LONGEST_WAIT: Final = 86_400.0


@attrs.frozen
class Ended(Exception):
    """The server or the network has ended the connection."""

    code: int
    """The received close code; 1006 without a close frame."""
    reason: str
    """The received reason, or the client's description of a lost connection."""


@attrs.frozen
class Unacceptable(Exception):
    """The client ends the connection, because the server violates the protocol."""

    code: int
    """The close code that the client sends."""
    reason: str
    """The reason that the client sends."""
    permanent: bool
    """True if a new connection would end in the same way."""


def is_permanent_close(code: int, reason: str) -> bool:
    """Return whether a client must not reconnect after this close."""
    return code in _PERMANENT or (code == _POLICY and reason.startswith(_BAD_COMMANDS))


def is_permanent_rejection(status: int) -> bool:
    """Return whether a client must not repeat its handshake after this HTTP status."""
    return status not in _PASSING_REJECTIONS


def retry_after(headers: Iterable[tuple[str, str]]) -> float:
    """Return the seconds of a Retry-After header; 0 without the header or if it has a date."""
    for name, value in headers:
        if name.lower() == "retry-after" and value.isascii() and value.isdigit():
            return min(float(value), LONGEST_WAIT)
    return 0
