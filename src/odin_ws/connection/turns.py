"""Turns: between two passes of the event loop only so much is done for clients.

In one pass trio runs every task that is ready. With thousands of clients who all have said
something, that takes so long that the records of all others wait: a fetch from Kafka takes several
passes, and a cycle of the hub as many as it has slices.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

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


class Turns:
    """Who has bytes to be read takes a turn first; in the order of coming where there are many.

    `busy`: the seconds that the hub has kept the loop so far.
    """

    def __init__(self, busy: Callable[[], float]) -> None:
        self._busy = busy
        self._share: float = _MOST
        self._left = _MOST
        self._waiting = trio.lowlevel.ParkingLot()
        self._asked = trio.Event()

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._waiting)

    async def take(self) -> None:
        """Wait until it is the caller's turn, which always comes. Often no checkpoint."""
        if self._left:
            self._left -= 1
        else:
            self._asked.set()
            await self._waiting.park()

    async def run(self) -> None:
        """Give turns until cancelled."""
        while True:
            await self._asked.wait()
            while self._waiting:
                begun, busy = trio.current_time(), self._busy()
                await trio.lowlevel.checkpoint()
                hub = self._busy() - busy
                clients = trio.current_time() - begun - hub
                # Half as many or a quarter more at most: one slow pass may be an accident.
                fitting = max(_LEAST_SECONDS, _BESIDE_HUB * hub) / max(1e-6, clients)
                share = self._share * min(1.25, max(0.5, fitting))
                self._share = min(_MOST, max(_LEAST, share))
                self._waiting.unpark(count=int(self._share))
            self._left = int(self._share)
            self._asked = trio.Event()


@asynccontextmanager
async def giving_turns(turns: Turns) -> AsyncIterator[None]:
    """Give turns for the length of the block."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.run)
        yield
        nursery.cancel_scope.cancel()
