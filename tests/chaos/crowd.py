"""The processes of a run that are its own: the publisher and the clients."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import attrs
import trio

from odin_ws.testing.processes import ChildProcess
from tests.chaos.instances import program
from tests.chaos.journal import Journal, load_journals
from tests.chaos.plan import Plan, Seat, save_seats, seats
from tests.chaos.progress import read_progress
from tests.chaos.stage import Stage
from tests.integration.running_source import eventually

__all__ = ["Worker", "run_clients", "run_publisher"]

ROOT: Final = Path(__file__).parents[2]

# To write down what it has: a million messages are 16 MB.
END_SECONDS: Final = 60

# The progress of clients is as old as half a second, and they have a message every 50 ms.
UP_TO_DATE_SECONDS: Final = 1.5

# A client that has not caught up by then is in the next fault's figures too.
CATCH_UP_SECONDS: Final = 60

# 500 clients arrive in 3 seconds on a free machine.
ARRIVED_SECONDS: Final = 120


class WorkerFailed(RuntimeError):
    """A process of the run ended; the message ends with its output."""


class Worker:
    """A Python process of the run, with a folder for what it is told and what it leaves."""

    def __init__(
        self,
        module: str,
        directory: Path,
        arguments: Sequence[str] = (),
        wrap: Callable[[Sequence[str]], list[str]] = list,
    ) -> None:
        self.directory: Final = directory
        command = [sys.executable, "-m", module, *arguments, str(directory)]
        environ = {"PYTHONPATH": str(ROOT)}
        self._process = ChildProcess(wrap(program(command, environ)), directory / "log")

    async def start(self) -> None:
        """Start it."""
        await self._process.start()

    @property
    def progress(self) -> dict[str, float]:
        """The figures it last told. Raises WorkerFailed when it has ended."""
        if not self._process.running:
            raise WorkerFailed(f"{self.directory.name} ended:\n{self._process.tail()}")
        return read_progress(self.directory)

    async def reaches(self, name: str, count: float, seconds: float = ARRIVED_SECONDS) -> None:
        """Return when a count of its progress is as large. Raises trio.TooSlowError."""
        await eventually(lambda: self.progress.get(name, 0) >= count, seconds)

    async def finish(self) -> None:
        """Ask it to end, and wait until it has written down what it has.

        Raises:
            WorkerFailed: it did not end with status 0 within `END_SECONDS`.
        """
        await self._process.end(END_SECONDS)
        if await self._process.wait() != 0:
            raise WorkerFailed(f"{self.directory.name} failed:\n{self._process.tail()}")

    async def kill(self) -> None:
        """End it at once."""
        await self._process.kill()


@asynccontextmanager
async def _running(workers: Sequence[Worker]) -> AsyncIterator[None]:
    try:
        for worker in workers:
            await worker.start()
        yield
    finally:
        with trio.CancelScope(shield=True):  # bounded by the kernel's work after SIGKILL
            for worker in workers:
                await worker.kill()


@asynccontextmanager
async def run_publisher(plan: Plan, directory: Path, stage: Stage) -> AsyncIterator[Worker]:
    """Run the publisher; the block begins when the broker has taken its first records."""
    home = directory / "publisher"
    home.mkdir()
    wanted = {
        "tokens": plan.names,
        "rates": {"trade": plan.rate, "liquidity": plan.quiet_rate},
    }
    (home / "publish.json").write_text(json.dumps(wanted), "utf-8")
    publisher = Worker("tests.chaos.publisher", home, [stage.kafka.bootstrap])
    async with _running([publisher]):
        await publisher.reaches("taken", plan.tokens)
        yield publisher


@attrs.frozen
class Clients:
    """All clients of a run, in their processes."""

    seats: list[Seat]
    workers: list[Worker]

    def count(self, name: str) -> float:
        """A count of their progress, all together."""
        return sum(worker.progress.get(name, 0) for worker in self.workers)

    async def catch_up(self) -> None:
        """Return when everybody has what was published just now, or will not have it soon."""
        with suppress(trio.TooSlowError):
            await eventually(lambda: self._behind() < UP_TO_DATE_SECONDS, CATCH_UP_SECONDS)

    def _behind(self) -> float:
        return max(worker.progress.get("behind", 0) for worker in self.workers)

    async def finish(self) -> list[Journal]:
        """End them, and read what they noted."""
        async with trio.open_nursery() as nursery:
            for worker in self.workers:
                nursery.start_soon(worker.finish)
        return [
            journal
            for worker in self.workers
            for journal in load_journals(worker.directory / "journals")
        ]


@asynccontextmanager
async def run_clients(plan: Plan, directory: Path, stage: Stage) -> AsyncIterator[Clients]:
    """Run the clients; the block begins when everybody is subscribed."""
    far = plan.far if stage.namespace is not None else 0
    taken = [
        attrs.evolve(seat, url=stage.urls[_way(number, far, plan.wired)])
        for number, seat in enumerate(seats(plan))
    ]
    # Neighbours together: every fourth is by hand, and no process is to have all of these.
    ordinary = [seat for seat in taken[far:] if not seat.everything]
    size = math.ceil(len(ordinary) / plan.processes)
    groups = [ordinary[first : first + size] for first in range(0, len(ordinary), size)]
    # Among hundreds of others in a process, a client that takes everything would get too few turns.
    groups += [[seat] for seat in taken[far:] if seat.everything]
    workers = [_worker(f"clients-{n}", group, directory) for n, group in enumerate(groups)]
    if stage.namespace is not None and far:
        workers.append(_worker("clients-far", taken[:far], directory, stage.namespace.inside))
    async with _running(workers):
        for worker in workers:
            await worker.reaches("subscribed", len(json.loads(_seats(worker).read_text("utf-8"))))
        yield Clients(taken, workers)


def _way(number: int, far: int, wired: int) -> str:
    if number < far:
        return "far"
    return "wire" if number < far + wired else "direct"


def _worker(
    name: str,
    group: Sequence[Seat],
    directory: Path,
    wrap: Callable[[Sequence[str]], list[str]] = list,
) -> Worker:
    home = directory / name
    home.mkdir()
    worker = Worker("tests.chaos.clients", home, wrap=wrap)
    save_seats(_seats(worker), group)
    return worker


def _seats(worker: Worker) -> Path:
    return worker.directory / "seats.json"
