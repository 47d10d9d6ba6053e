"""Turns: between two passes of the event loop only so much is done for clients.

In one pass trio runs every task that is ready. With thousands of clients who all have said
something, that takes so long that the records of all others wait: a fetch from Kafka takes several
passes, and a cycle of the hub as many as it has slices.

A client waits for a turn in one of two queues: for reading what it has sent, or for the next time
slice of work that one of its commands takes. Neither queue can starve the other.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

from odin_ws.time_slice import SLICE_SECONDS

__all__ = ["Turns", "giving_turns"]

# What clients have of a pass while some wait for their turn; beside a hub that keeps the loop,
# twice what that takes: 12,000 who come back under a stream are back as soon as with four times
# (measured on 2026-11-24), and the others' messages come sooner. With 2 ms instead of 1 the p99
# beside a hostile crowd was 142 ms instead of 98 to 120; a storm was over sooner, 16 s against 19.
_LEAST_SECONDS: Final = 0.001
_BESIDE_HUB: Final = 2.0

# So many have their turn in each pass at least and at most. A pong takes 0.05 ms; what a burst of
# commands takes is bounded by the connection.
_LEAST: Final = 2
_MOST: Final = 128

# The part of the clients' time that time slices of work have while somebody waits to be read, and
# the part of it that they have otherwise. The rest of a pass is the hub's: work that takes seconds
# in all may take a little longer, and the messages of all others may not.
_WORK_BESIDE_READS: Final = 0.25
_WORK_ALONE: Final = 0.5


class Turns:
    """Who has bytes to be read takes a turn first; in the order of coming where there are many.

    `busy`: the seconds that the hub has kept the loop so far.
    """

    def __init__(self, busy: Callable[[], float]) -> None:
        self._busy = busy
        self._share: float = _MOST
        self._left = _MOST
        self._waiting = trio.lowlevel.ParkingLot()
        self._working = trio.lowlevel.ParkingLot()
        self._asked = trio.Event()

    @property
    def waiting(self) -> int:
        """How many wait to be read."""
        return len(self._waiting)

    @property
    def working(self) -> int:
        """How many wait for their next time slice."""
        return len(self._working)

    async def take(self) -> None:
        """Wait until it is the caller's turn, which always comes. Often no checkpoint."""
        if self._left:
            self._left -= 1
        else:
            self._asked.set()
            await self._waiting.park()

    async def take_for_work(self) -> None:
        """Wait until the caller's work may go on for another time slice. Always a checkpoint."""
        self._asked.set()
        await self._working.park()

    async def run(self) -> None:
        """Give turns until cancelled."""
        while True:
            await self._asked.wait()
            slices = 0
            while self._waiting or self._working:
                begun, busy = trio.current_time(), self._busy()
                await trio.lowlevel.checkpoint()
                hub = self._busy() - busy
                clients = trio.current_time() - begun - hub
                allowed = max(_LEAST_SECONDS, _BESIDE_HUB * hub)
                for_reads = allowed * (1 - _WORK_BESIDE_READS) if self._working else allowed
                # What is sliced takes what it may; the rest of the time was for reading.
                reads = max(1e-6, clients - slices * SLICE_SECONDS)
                # Half as many or a quarter more at most: one slow pass may be an accident.
                share = self._share * min(1.25, max(0.5, for_reads / reads))
                self._share = min(_MOST, max(_LEAST, share))
                for_work = allowed * (_WORK_BESIDE_READS if self._waiting else _WORK_ALONE)
                slices = min(len(self._working), max(1, int(for_work / SLICE_SECONDS)))
                self._waiting.unpark(count=int(self._share))
                self._working.unpark(count=slices)
            self._left = int(self._share)
            self._asked = trio.Event()


@asynccontextmanager
async def giving_turns(turns: Turns) -> AsyncIterator[None]:
    """Give turns for the length of the block."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.run)
        yield
        nursery.cancel_scope.cancel()
