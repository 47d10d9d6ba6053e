"""Counters of a client, over all its connections."""

from __future__ import annotations

import attrs

__all__ = ["Counts"]


@attrs.define
class Counts:
    """Counters of a client, over all its connections."""

    connections: int = 0
    """Connections on which a subscription took effect."""
    duplicates: int = 0
    """Messages dropped because the client had received them before."""
    gaps: int = 0
    """Missing sequence numbers; the client closed the connection because of each gap."""
    skipped: int = 0
    """Messages that the server replaced by newer messages of the same channel."""
    lost: int = 0
    """Offsets that the server could not send any more."""
