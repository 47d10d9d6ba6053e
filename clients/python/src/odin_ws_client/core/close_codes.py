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

# Errors of this client or of its permissions, which a new connection would meet again: framing,
# kind of frame, UTF-8, size, extensions, token, permission.
_PERMANENT: Final = frozenset({VIOLATION, 1003, 1007, 1009, 1010, 4401, 4403})

# The server closed this client for a fault of the client: the back-off is not reset, however long
# the connection was open.
FAILURES: Final = frozenset({_POLICY, 4403})

# The HTTP status and close code that another token may change.
CREDENTIAL_CLOSES: Final = frozenset({401, 4401})

# 1008 has three reasons. Slow and flooding clients may reconnect; a client with this one may not.
_BAD_COMMANDS: Final = "too many bad messages"

# Time-outs, overload, and a proxy's status for a server that does not respond.
_PASSING_REJECTIONS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})

# One day: a longer wait in a server's response is taken for a mistake.
LONGEST_WAIT: Final = 86_400.0


@attrs.frozen
class Ended(Exception):
    """The server or the network has ended the connection."""

    code: int
    reason: str


@attrs.frozen
class Unacceptable(Exception):
    """We end the connection with `code`. `permanent`: it would be the same on another one."""

    code: int
    reason: str
    permanent: bool


def is_permanent_close(code: int, reason: str) -> bool:
    """Whether coming back after this close frame makes no sense."""
    return code in _PERMANENT or (code == _POLICY and reason.startswith(_BAD_COMMANDS))


def is_permanent_rejection(status: int) -> bool:
    """Whether asking again makes no sense after this HTTP status."""
    return status not in _PASSING_REJECTIONS


def retry_after(headers: Iterable[tuple[str, str]]) -> float:
    """The seconds of a Retry-After header, 0 where there is none; a date in it is passed over."""
    for name, value in headers:
        if name.lower() == "retry-after" and value.isascii() and value.isdigit():
            return min(float(value), LONGEST_WAIT)
    return 0
