"""The processes of one run: a publisher, and load processes with the connections."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, cast

import attrs
import numpy as np
import orjson
import trio
from numpy.typing import NDArray

from odin_ws.bench.broker import PARTITIONS
from odin_ws.bench.errors import BenchFailed
from odin_ws.bench.messages import LoadPlan, PublishPlan, to_json
from odin_ws.bench.server import Cores, Target, pinned
from odin_ws.bench.workload import (
    Disturbance,
    Names,
    Run,
    Transport,
    Workload,
    names_for,
)

__all__ = [
    "BenchProcess",
    "LoadProcesses",
    "LoadTotals",
    "Progress",
    "RunEnd",
    "RunEnvironment",
    "open_load_processes",
    "open_process",
]

# The first start on a machine compiles the code: 15 s on an idle machine.
_READY_SECONDS = 120

# Timeout of responses that need no work, on a machine whose cores are all in use.
_RESPONSE_SECONDS = 30


class BenchProcess:
    """A child process that receives commands; `status` is its last status event."""

    def __init__(self, name: str, process: trio.Process, log: Path) -> None:
        self.status: dict[str, Any] = {}
        self._name = name
        self._process = process
        self._log = log
        self._news = trio.open_memory_channel[dict[str, Any]](16)

    async def send(self, do: str, **more: Any) -> None:
        """Send a command."""
        assert self._process.stdin is not None
        try:
            await self._process.stdin.send_all(orjson.dumps({"do": do, **more}) + b"\n")
        except trio.BrokenResourceError as error:
            raise self._gone() from error

    async def wait_for(self, event: str, seconds: float = _RESPONSE_SECONDS) -> dict[str, Any]:
        """Wait for an event and return it.

        Raises:
            BenchFailed: the event did not arrive in time, or the process has exited.
        """
        with trio.move_on_after(seconds):
            while True:
                try:
                    news = await self._news[1].receive()
                except trio.EndOfChannel:
                    raise self._gone() from None
                if news["event"] == event:
                    return news
        raise BenchFailed(f"the {self._name} process did not send {event!r} within {seconds:g} s")

    async def listen(self) -> None:
        """Read the events of the process until it exits."""
        assert self._process.stdout is not None
        begun = b""
        async with self._news[0] as news:
            async for read in self._process.stdout:
                *lines, begun = (begun + read).split(b"\n")
                for line in lines:
                    results = orjson.loads(line)
                    if results["event"] == "status":
                        self.status = results
                    else:
                        await news.send(results)

    def _gone(self) -> BenchFailed:
        return BenchFailed(
            f"the {self._name} process has exited: {self._log.read_text(errors='replace')}"
        )


@asynccontextmanager
async def open_process(
    name: str, plan: LoadPlan | PublishPlan, directory: Path, cores: Sequence[int]
) -> AsyncIterator[BenchProcess]:
    """Start the process of a plan, "load" or "publisher", and wait until it is ready."""
    log = directory / f"{name}.log"
    with log.open("wb") as errors:
        process = await trio.lowlevel.open_process(
            [*pinned(cores), sys.executable, "-m", f"odin_ws.bench.{name}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=dict(os.environ),
            start_new_session=True,
        )
    worker = BenchProcess(name, process, log)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.listen)
            assert process.stdin is not None
            await process.stdin.send_all(to_json(plan))
            await worker.wait_for("ready", _READY_SECONDS)
            yield worker
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()


# Seconds: a run ends after the first without a message, or after the second in any case.
_SETTLE_SECONDS: Final = 10
_MAX_SETTLE_SECONDS: Final = 300

# Shows the current step and its progress: a share from 0 to 1, or None.
Progress = Callable[[str, float | None], None]


@attrs.frozen
class RunEnvironment:
    """The resources of a run."""

    directory: Path
    """The directory of logs."""
    cores: Cores
    """The cores for the server and for other processes."""
    load_processes: int
    """The number of processes with connections."""
    progress: Progress
    """Shows the current step."""
    catalogue_file: Path | None = None
    """The catalogue of another domain; None for Odin's."""


@attrs.frozen
class LoadTotals:
    """The counts of all load processes so far."""

    received: NDArray[np.int64]
    """Messages by group: of undisturbed and disturbed connections."""
    worst: NDArray[np.int64]
    """The largest latency in microseconds, by group."""
    latency: NDArray[np.int64]
    """The histogram of latency, by group."""
    volume: int
    """Bytes of messages' frames."""
    cpu: float
    """CPU seconds of the busiest process."""
    at: float
    """Time of the counts, in seconds of the first process's clock."""


@attrs.frozen
class RunEnd:
    """The published records and the results of the connections."""

    published: int
    published_rate: float
    problems: Mapping[str, int]
    closes: Mapping[str, int]
    rejected_connections: Mapping[str, int]


class LoadProcesses:
    """The processes of a run: sends commands to them, and adds up their events."""

    def __init__(
        self, channels: int, publisher: BenchProcess | None, loads: Sequence[BenchProcess]
    ) -> None:
        self._channels = channels
        self._publisher = publisher
        self._loads = loads

    @property
    def publisher_cpu(self) -> float:
        """CPU seconds of the publisher, from its last status."""
        if self._publisher is None:
            return 0.0
        return cast("float", self._publisher.status.get("cpu", 0.0))

    @property
    def latencies(self) -> list[tuple[float, float]]:
        """p50 and p99 in milliseconds of each load process with recent messages."""
        results = (load.status.get("latency") for load in self._loads)
        return [(result[0], result[1]) for result in results if result]

    @property
    def subscribed_at(self) -> float:
        """When the last client subscribed (monotonic clock); 0 before."""
        latest: float = max(load.status.get("subscribed_at", 0.0) for load in self._loads)
        return latest

    @property
    def received(self) -> tuple[int, float]:
        """The number of received messages, and the time (monotonic clock) of the count."""
        times = [load.status.get("at", 0.0) for load in self._loads]
        return self.count("received"), sum(times) / len(times)

    def count(self, name: str) -> int:
        """Return the sum of a count in the load processes' statuses."""
        return sum(load.status.get(name, 0) for load in self._loads)

    async def publish(self) -> None:
        """Begin to publish, if the run publishes."""
        if self._publisher is not None:
            await self._publisher.send("start")

    async def publish_at(self, rate: float) -> list[int]:
        """Publish at another rate; returns the records of each channel so far."""
        if self._publisher is None:
            return []
        await self._publisher.send("rate", rate=rate)
        return cast("list[int]", (await self._publisher.wait_for("counts"))["published"])

    @property
    def published(self) -> int:
        """The number of published records, from the publisher's last status."""
        return cast("int", self._publisher.status.get("published", 0)) if self._publisher else 0

    async def command(self, do: str, **more: object) -> None:
        """Send a command to all load processes and wait for `done`."""
        for load in self._loads:
            await load.send(do, **more)
        for load in self._loads:
            await load.wait_for("done")

    async def totals(self, do: str) -> LoadTotals:
        """Send a command to all load processes; returns their `totals` added up."""
        for load in self._loads:
            await load.send(do)
        results = [await load.wait_for("totals") for load in self._loads]
        return LoadTotals(
            received=np.sum([result["received"] for result in results], axis=0, dtype=np.int64),
            worst=np.max([result["worst"] for result in results], axis=0),
            latency=np.sum([result["latency"] for result in results], axis=0, dtype=np.int64),
            volume=sum(result["volume"] for result in results),
            cpu=max(result["cpu"] for result in results),
            at=results[0]["at"],
        )

    async def end(self) -> RunEnd:
        """Stop publishing; wait for all messages or the timeout, and return the results."""
        channels, failed, rate = [0] * self._channels, 0, 0.0
        if self._publisher is not None:
            await self._publisher.send("stop")
            result = await self._publisher.wait_for("result")
            channels, failed = result["published"], result["failed"]
            rate = sum(channels) / result["seconds"]
        for load in self._loads:
            await load.send("settle", published=channels, seconds=_SETTLE_SECONDS)
        results = [await load.wait_for("result", _MAX_SETTLE_SECONDS) for load in self._loads]
        return RunEnd(
            published=sum(channels),
            published_rate=rate,
            problems=_added(result["problems"] for result in results) | {"not_published": failed},
            closes=_added(result["closes"] for result in results),
            rejected_connections=_added(result["rejected_connections"] for result in results),
        )


@asynccontextmanager
async def open_load_processes(
    run: Run, target: Target, brokers: str | None, environment: RunEnvironment
) -> AsyncIterator[LoadProcesses]:
    """Start the processes of a run; without `brokers` those of a run against the baseline."""
    names = names_for(run.workload, environment.catalogue_file)
    async with AsyncExitStack() as stack:

        async def start(name: str, plan: LoadPlan | PublishPlan) -> BenchProcess:
            opening = open_process(name, plan, environment.directory, environment.cores.others)
            return await stack.enter_async_context(opening)

        publisher = None
        if brokers is not None and run.rate:
            plan = PublishPlan(
                brokers, run.rate, run.burst, run.record_bytes, run.workload, names, run.events
            )
            publisher = await start("publisher", plan)
        plans = _load_plans(
            run, target, names, environment.load_processes, baseline=brokers is None
        )
        loads = [await start("load", plan) for plan in plans]
        yield LoadProcesses(run.workload.channels, publisher, loads)


def _load_plans(
    run: Run, target: Target, names: Names, load_processes: int, *, baseline: bool
) -> Iterator[LoadPlan]:
    bounds = [run.connections * part // load_processes for part in range(load_processes + 1)]
    if run.disturbance is Disturbance.AWAY:
        # A separate process reads for undisturbed clients: a process that also reads for the
        # returning clients would measure a higher latency.
        crowd = [run.affected * part // load_processes for part in range(load_processes + 1)]
        bounds = [*crowd, run.connections]
    for first, after in pairwise(bounds):
        yield LoadPlan(
            host=target.host,
            port=target.port,
            path=target.path,
            total=run.connections,
            first=first,
            count=after - first,
            affected=run.affected,
            connect_rate=run.connect_rate / load_processes,
            in_flight=max(1, run.in_flight // load_processes),
            workload=Workload() if baseline else run.workload,
            names=names,
            partitions=PARTITIONS,
            subscribe=not baseline,
            positions=run.disturbance in {Disturbance.DROP, Disturbance.AWAY},
            from_start=not baseline and not run.stream_first,
            frames=run.frames,
            deflate=run.deflate,
            transport=Transport.WEBSOCKET if baseline else run.transport,
        )


def _added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for by_kind in counts:
        total.update(by_kind)
    return dict(total)
