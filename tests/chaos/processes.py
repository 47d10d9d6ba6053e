"""The child processes of a run: the publisher and the clients."""

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
from tests.chaos.plan import ClientSpec, Plan, save_specs, specs
from tests.chaos.progress import read_progress
from tests.chaos.testbed import Testbed
from tests.integration.running_source import wait_until

__all__ = ["Worker", "run_clients", "run_publisher"]

ROOT: Final = Path(__file__).parents[2]

# Timeout of writing the journals: a million messages are 16 MB.
END_SECONDS: Final = 60

# Seconds: a client is up to date if its last message is younger. The progress is at most 0.5 s old,
# and each client receives a message every 50 ms.
UP_TO_DATE_SECONDS: Final = 1.5

# Timeout of catching up; a client still behind appears in the next fault's figures too.
CATCH_UP_SECONDS: Final = 60

# Timeout of connecting, which takes 3 s for 500 clients on a free machine.
ARRIVED_SECONDS: Final = 120


class WorkerFailed(RuntimeError):
    """A process of the run ended; the message ends with its output."""


class Worker:
    """A Python process of the run, with a directory for its input and its output."""

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
        """Start the process."""
        await self._process.start()

    @property
    def progress(self) -> dict[str, float]:
        """Return the last written figures.

        Raises:
            WorkerFailed: the process has ended.
        """
        if not self._process.running:
            raise WorkerFailed(f"{self.directory.name} ended:\n{self._process.tail()}")
        return read_progress(self.directory)

    async def reaches(self, name: str, count: float, seconds: float = ARRIVED_SECONDS) -> None:
        """Wait until a figure has reached `count`.

        Raises:
            trio.TooSlowError: the figure has not reached `count` in time.
        """
        await wait_until(lambda: self.progress.get(name, 0) >= count, seconds)

    async def finish(self) -> None:
        """Send SIGTERM, and wait until the process has written its results.

        Raises:
            WorkerFailed: the process did not end with status 0 within `END_SECONDS`.
        """
        await self._process.end(END_SECONDS)
        if await self._process.wait() != 0:
            raise WorkerFailed(f"{self.directory.name} failed:\n{self._process.tail()}")

    async def kill(self) -> None:
        """Send SIGKILL."""
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
async def run_publisher(plan: Plan, directory: Path, testbed: Testbed) -> AsyncIterator[Worker]:
    """Run the publisher; the block begins when the broker has acknowledged its first records."""
    home = directory / "publisher"
    home.mkdir()
    wanted = {
        "tokens": plan.names,
        "rates": {"trade": plan.rate, "liquidity": plan.quiet_rate},
    }
    (home / "publish.json").write_text(json.dumps(wanted), "utf-8")
    publisher = Worker("tests.chaos.publisher", home, [testbed.kafka.bootstrap])
    async with _running([publisher]):
        await publisher.reaches("acknowledged", plan.tokens)
        yield publisher


@attrs.frozen
class Clients:
    """All clients of a run, in their processes."""

    specs: list[ClientSpec]
    workers: list[Worker]

    def count(self, name: str) -> float:
        """Return the sum of a figure over all processes."""
        return sum(worker.progress.get(name, 0) for worker in self.workers)

    async def catch_up(self) -> None:
        """Wait until every client has recent records, at most `CATCH_UP_SECONDS`."""
        with suppress(trio.TooSlowError):
            await wait_until(lambda: self._behind() < UP_TO_DATE_SECONDS, CATCH_UP_SECONDS)

    def _behind(self) -> float:
        return max(worker.progress.get("behind", 0) for worker in self.workers)

    async def finish(self) -> list[Journal]:
        """End all clients, and return their journals."""
        async with trio.open_nursery() as nursery:
            for worker in self.workers:
                nursery.start_soon(worker.finish)
        return [
            journal
            for worker in self.workers
            for journal in load_journals(worker.directory / "journals")
        ]


@asynccontextmanager
async def run_clients(plan: Plan, directory: Path, testbed: Testbed) -> AsyncIterator[Clients]:
    """Run the clients; the block begins when every client is subscribed."""
    far = plan.far if testbed.namespace is not None else 0
    chosen = [
        attrs.evolve(spec, url=testbed.urls[_path(number, far, plan.proxied)])
        for number, spec in enumerate(specs(plan))
    ]
    # Each process gets consecutive clients, and so its share of handwritten clients.
    ordinary = [spec for spec in chosen[far:] if not spec.everything]
    size = math.ceil(len(ordinary) / plan.processes)
    groups = [ordinary[first : first + size] for first in range(0, len(ordinary), size)]
    # A client that subscribes to everything needs a process of its own to keep up.
    groups += [[spec] for spec in chosen[far:] if spec.everything]
    workers = [_worker(f"clients-{n}", group, directory) for n, group in enumerate(groups)]
    if testbed.namespace is not None and far:
        workers.append(_worker("clients-far", chosen[:far], directory, testbed.namespace.inside))
    async with _running(workers):
        for worker in workers:
            await worker.reaches("subscribed", len(json.loads(_specs(worker).read_text("utf-8"))))
        yield Clients(chosen, workers)


def _path(number: int, far: int, proxied: int) -> str:
    if number < far:
        return "far"
    return "proxy" if number < far + proxied else "direct"


def _worker(
    name: str,
    group: Sequence[ClientSpec],
    directory: Path,
    wrap: Callable[[Sequence[str]], list[str]] = list,
) -> Worker:
    home = directory / name
    home.mkdir()
    worker = Worker("tests.chaos.clients", home, wrap=wrap)
    save_specs(_specs(worker), group)
    return worker


def _specs(worker: Worker) -> Path:
    return worker.directory / "clients.json"
