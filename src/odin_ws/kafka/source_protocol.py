"""The protocol class of sources: run, and publish a status."""

from __future__ import annotations

from typing import Protocol

import trio

from odin_ws.kafka.source_status import SourceStatus
from odin_ws.records import Item

__all__ = ["PACING_SLOT", "Source"]

# A rate limit is spent in slots of this many seconds: fetches of one record would cost too much.
PACING_SLOT = 0.05


class Source(Protocol):
    """Reads records and hands them on in batches.

    `status` says how it is doing. `run` first sends an Assignment, then Batches, and a HistoryEnd
    once the first assignment's history has come: at once where there is none. Another Assignment
    comes whenever the partitions change, or the place in one of them is not behind its last record:
    records were deleted before they were read, or a topic was recreated.

    It waits while the channel is full: that is the back-pressure. It ends only by cancellation, or
    by an exception for a bug.
    """

    status: SourceStatus

    async def run(self, channel: trio.MemorySendChannel[Item]) -> None:
        """Read until cancelled."""
        ...
