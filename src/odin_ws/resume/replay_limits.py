"""Bounds on the cost of replays, and counters of their results."""

from __future__ import annotations

from collections import Counter
from typing import Final

import attrs

from odin_ws.resume.gaps import LossReason

__all__ = ["RECOVERED", "ReplayLimits", "ReplayStats", "ScanStats"]

RECOVERED: Final = "recovered"


@attrs.frozen
class ReplayLimits:
    """Bounds on replays.

    `records`: one replay reads at most so many from the archive, of all tokens. `scans`: so many
    forward scans of the log run at once.
    """

    records: int
    scans: int = 4


@attrs.define(eq=False)
class ReplayStats:
    """Counts since the start.

    `results`: replays that began, by `recovered` or the reason why not all could be had.
    `unavailable`: those that could not begin, for want of the log. `active`: under way now.
    """

    results: Counter[LossReason | str] = attrs.field(factory=Counter)
    unavailable: int = 0
    active: int = 0
    from_history: int = 0  # messages
    from_log: int = 0  # messages
    send_seconds: float = 0.0
    """Time for which sending chunks of replays has kept the event loop."""


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
    """Those of them that a client on the scan wants: only these are decoded."""
    seconds: float = 0.0
    """CPU time of finding out who wants a record, and decoding it."""
    detached: int = 0
    """Clients that held their scan up and go on with a later one."""
    failed: int = 0
    """Scans that ended because the log did not answer."""
