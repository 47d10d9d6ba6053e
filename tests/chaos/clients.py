"""The checking clients: several hundred in one process.

`python -m tests.chaos.clients DIRECTORY` runs the clients of `DIRECTORY/clients.json` until
SIGTERM, and writes their journals to `DIRECTORY/journals`.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

import trio

from tests.chaos import handwritten_client, library
from tests.chaos.journal import Journal, save_journals
from tests.chaos.plan import ClientKind, ClientSpec, load_specs
from tests.chaos.progress import write_progress

__all__ = ["run"]

# Seconds between two connects; other tests connect all clients at once.
ARRIVAL_SECONDS: Final = 0.005

PROGRESS_SECONDS: Final = 0.5

FOLLOW: Final[Mapping[ClientKind, Callable[[ClientSpec, Journal], Awaitable[None]]]] = {
    "library": library.follow,
    "handwritten": handwritten_client.follow,
}


async def run(directory: Path) -> None:
    """Run all clients until SIGTERM, and write their journals."""
    journals: list[Journal] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_on_signal, nursery.cancel_scope)
        nursery.start_soon(_write_progress_forever, directory, journals)
        for spec in load_specs(directory / "clients.json"):
            journal = Journal(spec.name)
            journals.append(journal)
            nursery.start_soon(FOLLOW[spec.kind], spec, journal)
            await trio.sleep(ARRIVAL_SECONDS)
    save_journals(directory / "journals", journals)


async def _cancel_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()


async def _write_progress_forever(directory: Path, journals: list[Journal]) -> None:
    while True:
        counts = {
            "subscribed": sum(journal.start is not None for journal in journals),
            "messages": sum(len(journal.positions) for journal in journals),
            # The greatest age of a client's last message, also of disconnected clients.
            "behind": time.time() - min((journal.published for journal in journals), default=0),
        }
        write_progress(directory, counts)
        await trio.sleep(PROGRESS_SECONDS)


if __name__ == "__main__":
    trio.run(run, Path(sys.argv[1]))
