"""Limits and counters of replays."""

from __future__ import annotations

from collections import Counter
from typing import Final

import attrs

from odin_ws.resume.gaps import LossReason

__all__ = ["RECOVERED", "ReplayLimits", "ReplayStats", "ScanStats"]

RECOVERED: Final = "recovered"


@attrs.frozen
class ReplayLimits:
    """Bounds on replays."""

    records: int
    """The records, of all tokens, that one replay reads from the log at most."""
    scans: int = 4
    """The scans of the log that run at once at most."""


@attrs.define(eq=False)
class ReplayStats:
    """Counts of replays since the start."""

    results: Counter[LossReason | str] = attrs.field(factory=Counter)
    """Replays that began, by `recovered` or the reason of their loss."""
    unavailable: int = 0
    """Replays that could not begin because the log did not answer."""
    active: int = 0
    """Replays under way now."""
    from_history: int = 0
    """Messages sent from the history."""
    from_log: int = 0
    """Messages sent from the log."""
    send_seconds: float = 0.0
    """Seconds for which sending chunks of replays has kept the event loop."""


@attrs.define(eq=False)
class ScanStats:
    """Counts of the forward scans of the log since the start."""

    started: int = 0
    active: int = 0
    """Scans that run now."""
    clients: int = 0
    """Clients on a scan now."""
    waiting: int = 0
    """Clients that wait for a scan to begin now."""
    records: int = 0
    """Records read from the log, each once for all clients on the scan."""
    matched: int = 0
    """Records that a client on the scan wants: only these are decoded."""
    seconds: float = 0.0
    """CPU time of looking up the cursors that want a record, and of decoding it."""
    detached: int = 0
    """Slow clients that were moved from their scan to a later one."""
    failed: int = 0
    """Scans that ended because the log did not answer."""
