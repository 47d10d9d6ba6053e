"""Messages as the client yields them."""

from __future__ import annotations

from typing import Any

from odin_ws_client import Message

__all__ = ["message_of"]


def message_of(channel: str, data: Any, *, timestamp: int = 0, seq: int = 1) -> Message:
    """Return a message; commands read no other fields."""
    return Message(
        channel=channel,
        topic="odin.trades",
        partition=0,
        offset=0,
        timestamp=timestamp,
        seq=seq,
        replay=False,
        skipped=0,
        data=data,
        source=b"",
    )
