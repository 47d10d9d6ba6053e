"""Options of connections and of the canary; counts of connections since the start."""

from __future__ import annotations

from collections import Counter
from typing import Final

import attrs

from odin_ws.auth.grants import Grant
from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.histogram import Histogram
from odin_ws.session.session import SessionLimits, SessionStats

__all__ = ["CanaryLimits", "ConnectionLimits", "ConnectionStats"]

# Buckets in seconds: from a page closed at once to a week of streaming.
_DURATION_BOUNDS: Final = (1, 10, 60, 300, 1800, 3600, 6 * 3600, 24 * 3600, 7 * 24 * 3600)


@attrs.frozen
class ConnectionLimits:
    """The limits of every connection. Sizes in bytes, times in seconds.

    `compression`: whether permessage-deflate is accepted from clients that offer it.
    """

    message_bytes: int
    message_frames: int
    message_seconds: float
    send_queue_bytes: int
    write_timeout: float
    compression: bool
    session: SessionLimits


@attrs.frozen
class CanaryLimits:
    """The limits of our own canary. `grant`: the one channel that it subscribes to."""

    grant: Grant
    session: SessionLimits


@attrs.define(eq=False)
class ConnectionStats:
    """Counts of connections since the start; each is counted once, when it ends."""

    opened: int = 0
    closed: Counter[DisconnectReason] = attrs.field(factory=Counter)
    errors: int = 0
    bytes_sent: int = 0  # of ended connections
    bytes_received: int = 0  # of ended connections
    duration: Histogram = attrs.field(factory=lambda: Histogram(_DURATION_BOUNDS))
    sessions: SessionStats = attrs.field(factory=SessionStats)
