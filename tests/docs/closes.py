"""What docs/protocol.md's table of closes asks of clients, row by row."""

from __future__ import annotations

from typing import Final

import attrs

from tests.docs.pages import page, read_table

__all__ = ["ABNORMAL", "CLOSES", "Close"]

# RFC 6455, 7.1.5: no close frame came.
ABNORMAL: Final = 1006

# What "the client should" says, and whether it is the end for a client of ours, which cannot fix
# itself.
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
    """One row. `renewable`: another token makes the difference; `advised`: a notice comes first."""

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
            advised=int(code) == 1012,  # the sentence below the table
        )
        for code, label, by, reason, advice in rows
    ]


CLOSES: Final = _closes()
