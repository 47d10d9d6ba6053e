"""The protocol class of sources: run, and a status."""

from __future__ import annotations

from typing import Protocol

import trio

from odin_ws.kafka.source_status import SourceStatus
from odin_ws.records import Item

__all__ = ["PACING_SLOT", "Source"]

# A rate limit applies per slot of this many seconds: fetches of one record would cost too much.
PACING_SLOT = 0.05


class Source(Protocol):
    """Reads records and sends them in batches.

    `run` first sends an Assignment, then Batches, and a HistoryEnd after the first assignment's
    history; at once if there is none. Another Assignment follows when the partitions change, or
    when reading continues elsewhere: records were deleted before they were read, or a topic was
    recreated.

    A full channel blocks `run`: that is the back-pressure. `run` ends only by cancellation, or by
    an exception for a bug.
    """

    status: SourceStatus

    async def run(self, channel: trio.MemorySendChannel[Item]) -> None:
        """Read until cancelled."""
        ...
