"""The checking clients, hundreds in a process of their own.

`python -m tests.chaos.clients DIRECTORY` runs those of `DIRECTORY/seats.json` until SIGTERM, and
leaves their journals in `DIRECTORY/journals`.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

import trio

from tests.chaos import byhand, library
from tests.chaos.journal import Journal, save_journals
from tests.chaos.plan import Seat, Way, load_seats
from tests.chaos.progress import write_progress

__all__ = ["run"]

# Between two arrivals: a crowd at once is another test's matter.
ARRIVAL_SECONDS: Final = 0.005

PROGRESS_SECONDS: Final = 0.5

FOLLOW: Final[Mapping[Way, Callable[[Seat, Journal], Awaitable[None]]]] = {
    "library": library.follow,
    "by hand": byhand.follow,
}


async def run(directory: Path) -> None:
    """Let everybody follow until SIGTERM, and write what they noted."""
    journals: list[Journal] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_end_on_signal, nursery.cancel_scope)
        nursery.start_soon(_tell, directory, journals)
        for seat in load_seats(directory / "seats.json"):
            journal = Journal(seat.name)
            journals.append(journal)
            nursery.start_soon(FOLLOW[seat.way], seat, journal)
            await trio.sleep(ARRIVAL_SECONDS)
    save_journals(directory / "journals", journals)


async def _end_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()


async def _tell(directory: Path, journals: list[Journal]) -> None:
    while True:
        counts = {
            "subscribed": sum(journal.start is not None for journal in journals),
            "messages": sum(len(journal.positions) for journal in journals),
            # How old the last message of the one is that is furthest behind, or not connected.
            "behind": time.time() - min((one.published for one in journals), default=0),
        }
        write_progress(directory, counts)
        await trio.sleep(PROGRESS_SECONDS)


if __name__ == "__main__":
    trio.run(run, Path(sys.argv[1]))
