"""What every source can do."""

from __future__ import annotations

from typing import Protocol

import trio

from odin_ws.records import Assignment, Batch
from odin_ws.source.feed import Feed

__all__ = ["PACING_SLOT", "Source"]

# A rate limit is spent in slots of this many seconds: fetches of one record would cost too much.
PACING_SLOT = 0.05


class Source(Protocol):
    """Reads records and hands them on in batches.

    `feed` says how it is doing. `run` first sends an Assignment, then Batches, and another
    Assignment whenever the partitions change. It waits while the channel is full: that is the
    back-pressure. It ends only by cancellation, or by an exception for a bug.
    """

    feed: Feed

    async def run(self, outbox: trio.MemorySendChannel[Batch | Assignment]) -> None:
        """Read until cancelled."""
        ...
