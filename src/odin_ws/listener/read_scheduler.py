"""The fair read scheduler: bounds the reads and work for clients per pass of the event loop.

In one pass of the event loop Trio runs every task that is ready. If thousands of clients have sent
something, a pass takes so long that the records of all others wait: a fetch from Kafka takes
several passes, and a dispatch cycle one pass per slice.

Client tasks therefore wait for a turn in one of three queues: to read what the client has sent, to
send the next chunk of a replay, or for the next time slice of a command. Each queue has a share of
the clients' time in a pass, so that none starves another.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

from odin_ws.time_slice import SLICE_SECONDS

__all__ = ["ReadScheduler", "running_read_scheduler"]

# The clients' time per pass while some wait for a turn, in seconds: with 2 ms instead of 1 the p99
# beside a hostile crowd was 142 ms instead of 98 to 120; a storm was over in 16 s, not 19 (measured
# on 2026-11-24).
_MIN_SECONDS: Final = 0.001

# If the hub used more than that, clients get as much time as the hub. Measured on 2026-12-01: with
# twice the hub's time the p99 beside `make hostile` was 248 and 279 ms, with the same time 175 and
# 188 ms, with half of it 127 to 391 ms. A storm was over in 5.2, 4.4 and 3.7 s.
_BESIDE_HUB: Final = 1.0

# Limit on a queue's turns per pass. A pong takes 0.05 ms; the connection bounds the work of a burst
# of commands.
_MAX_TURNS: Final = 128

# Limit on a queue's debt, seconds: a pass may be long for another reason, such as a garbage
# collection.
_MAX_DEBT: Final = 0.005

# Weight of the last pass in the estimated time of a turn: one slow pass may be an accident.
_NEWEST: Final = 0.2

# Shares of the queues that are not empty. Reads get most: a client that connects late begins its
# replay late, and needs another scan.
_READ_WEIGHT: Final = 3
_REPLAY_WEIGHT: Final = 1
_WORK_WEIGHT: Final = 1

# The share of time slices while no other queue has waiters. The rest of a pass is the hub's: a
# command that takes seconds may take a little longer, other clients' messages may not.
_WORK_ALONE: Final = 0.5


class _Queue:
    """Tasks that wait for one kind of turn, and the time that their turns may use.

    A turn may take longer than the queue's share of a pass. Then the queue is in debt, and has no
    turns until its shares of later passes have paid for it: so a pass is no longer than the allowed
    time, or than one turn.
    """

    __slots__ = ("_balance", "_turns", "cost", "lot", "weight")

    def __init__(self, weight: int) -> None:
        self.lot = trio.lowlevel.ParkingLot()
        self.weight = weight
        self.cost = _MIN_SECONDS / _MAX_TURNS
        """The estimated seconds of a turn."""
        # Seconds.
        self._balance = 0.0
        self._turns = 0

    def charge(self, used: float) -> None:
        """Charge the seconds that the turns of the last pass have used."""
        self._balance = max(-_MAX_DEBT, self._balance - used)
        if self._turns:
            self.cost += _NEWEST * (max(1e-6, used / self._turns) - self.cost)
            self._turns = 0
        if not self.lot:
            # No time is saved up.
            self._balance = min(self._balance, 0.0)

    def passes_in_debt(self, share: float) -> int:
        """Return for how many passes with this share the queue has no turn."""
        return int(max(0.0, -self._balance) / share)

    def give(self, share: float, passes: int) -> int:
        """Add the shares of some passes, and grant turns; returns how many."""
        # The rest of the last pass is less than a turn, unless that pass had the most turns.
        self._balance = min(self._balance, share) + passes * share
        if self._balance > 0:
            self._turns = min(len(self.lot), _MAX_TURNS, max(1, int(self._balance / self.cost)))
            self.lot.unpark(count=self._turns)
        return self._turns


class ReadScheduler:
    """Gives client tasks their turns, first come first served within each queue.

    Args:
        busy: returns the seconds for which the hub has used the event loop so far.
        replayed: returns the seconds for which sending replay chunks has used it so far.
    """

    def __init__(
        self, busy: Callable[[], float], replayed: Callable[[], float] = lambda: 0.0
    ) -> None:
        self._busy = busy
        self._replayed = replayed
        self._left = _MAX_TURNS
        self._reads = _Queue(_READ_WEIGHT)
        self._replays = _Queue(_REPLAY_WEIGHT)
        self._work = _Queue(_WORK_WEIGHT)
        self._queues = (self._reads, self._replays, self._work)
        self._requested = trio.Event()

    @property
    def waiting(self) -> int:
        """The number of connections that wait to be read."""
        return len(self._reads.lot)

    @property
    def replaying(self) -> int:
        """The number of replays that wait to send their next chunk."""
        return len(self._replays.lot)

    @property
    def working(self) -> int:
        """The number of tasks that wait for their next time slice."""
        return len(self._work.lot)

    async def wait_for_read(self) -> None:
        """Wait until the caller may read. Often no checkpoint."""
        if self._left:
            self._left -= 1
        else:
            self._requested.set()
            await self._reads.lot.park()

    async def wait_for_chunk(self) -> None:
        """Wait until the caller's replay may send its next chunk. Always a checkpoint."""
        self._requested.set()
        await self._replays.lot.park()

    async def wait_for_work_slice(self) -> None:
        """Wait until the caller's work may use another time slice. Always a checkpoint."""
        self._requested.set()
        await self._work.lot.park()

    async def run(self) -> None:
        """Grant turns until cancelled."""
        reads, replays, work = self._queues
        while True:
            await self._requested.wait()
            slices = 0
            while any(queue.lot for queue in self._queues):
                begun, busy, replayed = trio.current_time(), self._busy(), self._replayed()
                await trio.lowlevel.checkpoint()
                hub = self._busy() - busy
                for_replays = self._replayed() - replayed
                for_work = slices * SLICE_SECONDS
                replays.charge(for_replays)
                work.charge(for_work)
                # Time slices use their whole share; the rest of the time was for reads.
                rest = trio.current_time() - begun - hub - for_replays - for_work
                reads.charge(max(0.0, rest))
                slices = self._give(max(_MIN_SECONDS, _BESIDE_HUB * hub))
            self._left = min(_MAX_TURNS, max(1, int(_MIN_SECONDS / reads.cost)))
            self._requested = trio.Event()

    def _give(self, allowed: float) -> int:
        """Grant the turns of one pass, for which clients have `allowed` seconds.

        Returns how many of them are time slices.
        """
        waiting = [queue for queue in self._queues if queue.lot]
        if not waiting:
            # All waiters have been cancelled meanwhile.
            return 0
        unit = allowed / sum(queue.weight for queue in waiting)
        shares = {queue: unit * queue.weight for queue in waiting}
        if waiting == [self._work]:
            shares[self._work] = allowed * _WORK_ALONE
        # At least one queue has a turn: a pass without any would only be overhead.
        passes = 1 + min(queue.passes_in_debt(share) for queue, share in shares.items())
        turns = {queue: queue.give(share, passes) for queue, share in shares.items()}
        return turns.get(self._work, 0)


@asynccontextmanager
async def running_read_scheduler(read_scheduler: ReadScheduler) -> AsyncIterator[None]:
    """Run the scheduler for the block."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_scheduler.run)
        yield
        nursery.cancel_scope.cancel()
