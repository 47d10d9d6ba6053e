"""Turns: between two passes of the event loop only so much is done for clients.

In one pass trio runs every task that is ready. With thousands of clients who all have said
something, that takes so long that the records of all others wait: a fetch from Kafka takes several
passes, and a cycle of the hub as many as it has slices.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

__all__ = ["Turns", "open_turns"]

# How long a pass may take, while clients wait for their turn: the hub's slice (5 ms), and as much
# again for clients, and some for all else.
_PASS_SECONDS: Final = 0.002

# So many clients in each pass at least and at most. Some 1 ms each where all they do is expensive;
# upgrades take a third of that.
_LEAST: Final = 2
_MOST: Final = 128


class Turns:
    """Who has bytes to be read takes a turn first; in the order of coming where there are many."""

    def __init__(self) -> None:
        self._share: float = _MOST
        self._left = _MOST
        self._waiting = trio.lowlevel.ParkingLot()
        self._asked = trio.Event()

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._waiting)

    async def take(self) -> None:
        """Wait until it is the caller's turn. No checkpoint where nobody waits."""
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
                begun = trio.current_time()
                await trio.lowlevel.checkpoint()
                # Half as many or a quarter more at most: one slow pass may be an accident.
                fitting = _PASS_SECONDS / max(1e-6, trio.current_time() - begun)
                share = self._share * min(1.25, max(0.5, fitting))
                self._share = min(_MOST, max(_LEAST, share))
                self._waiting.unpark(count=int(self._share))
            self._left = int(self._share)
            self._asked = trio.Event()


@asynccontextmanager
async def open_turns() -> AsyncIterator[Turns]:
    """Turns, given for the length of the block."""
    turns = Turns()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.run)
        yield turns
        nursery.cancel_scope.cancel()
