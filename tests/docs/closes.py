"""What the table of closes in docs/protocol.md asks of clients, row by row."""

from __future__ import annotations

from typing import Final

import attrs

from tests.docs.pages import page, read_table

__all__ = ["ABNORMAL", "CLOSES", "Close"]

# RFC 6455, 7.1.5: no close frame was received.
ABNORMAL: Final = 1006

# The column "the client should", and whether our clients stop, since they cannot fix themselves.
_FINAL: Final = {
    "nothing: the client closed": True,
    "fix the client": True,
    "fix the client, then resume": True,
    "stop": True,
    "get a new token, then resume": True,
    "read faster or subscribe to less, then resume": False,
    "slow down, then resume": False,
    "send commands whole, then resume": False,
    "resume": False,
    "resume with back-off": False,
    "resume, on any instance": False,
    "resume, on the instance that serves them": False,
}


@attrs.frozen
class Close:
    """One row. `renewable`: a new token helps; `advised`: a notice precedes the close."""

    code: int
    label: str
    by: str
    reason: str
    final: bool
    renewable: bool
    advised: bool


def _closes() -> list[Close]:
    rows = read_table(page("docs/protocol.md"), "closes")
    return [
        Close(
            int(code),
            label.strip("`"),
            by,
            reason,
            _FINAL[advice],
            renewable="new token" in advice,
            advised=int(code) == 1012,  # the sentence below the table says so
        )
        for code, label, by, reason, advice in rows
    ]


CLOSES: Final = _closes()
