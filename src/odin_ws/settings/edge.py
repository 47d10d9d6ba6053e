"""The edge of the server: what strangers may send, and how many of them may."""

from __future__ import annotations

import attrs

from odin_ws.settings.kinds import integer, number, setting

__all__ = ["EdgeSettings"]


@attrs.frozen(slots=False)  # several are bases of one class
class EdgeSettings:
    """See odin_ws.settings.Settings."""

    ws_max_fragments: int = setting(
        "WS_MAX_FRAGMENTS",
        "128",
        integer(1, 1_000_000),
        "frames",
        "a command in more frames closes with 1009",
    )
    ws_message_timeout: float = setting(
        "WS_MESSAGE_TIMEOUT",
        "10",
        number(0.1, 3600),
        "s",
        "a command that was begun and is not whole by then closes with 1008",
    )
    ws_max_pending: int = setting(
        "WS_MAX_PENDING",
        "2048",
        integer(1, 1_000_000),
        "callers",
        "who may be on the way in at once; with more, who has waited longest is answered 503",
    )
