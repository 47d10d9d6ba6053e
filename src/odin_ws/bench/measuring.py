"""One run, from the first connection to the last message."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import numpy as np
import trio

from odin_ws.bench.measurement import Latency, Measurement, Sample
from odin_ws.bench.plans import LoadPlan, PublishPlan
from odin_ws.bench.scenarios import Disturbance, Run
from odin_ws.bench.naming import names_for
from odin_ws.bench.shapes import Names, Shape
from odin_ws.bench.target import Cores, Target
from odin_ws.bench.workers import Worker, open_worker

__all__ = ["Bench", "Progress"]

_PARTITIONS: Final = 12

# Besides what the connect rate asks for: a server that is slower than that is no failure yet.
_CONNECT_SECONDS: Final = 60

# How long the last messages may take, and those that were cut off to come back.
_SETTLE_SECONDS: Final = 20
_BACK_SECONDS: Final = 60

_POLL_SECONDS: Final = 0.05
_SAMPLE_SECONDS: Final = 1.0

# What a run is doing, and how far it is: a share, or None.
Progress = Callable[[str, float | None], None]


@attrs.frozen
class Bench:
    """Where runs take place. `loaders`: processes that hold the connections."""

    directory: Path
    cores: Cores
    loaders: int
    progress: Progress

    async def measure(self, run: Run, target: Target, brokers: str | None) -> Measurement:
        """Carry out a run against a server; without `brokers`, against the floor.

        Raises:
            BenchFailed: a process has ended.
        """
        names = names_for(run.shape)
        async with AsyncExitStack() as stack:
            self.progress(f"{run.label}: starting", None)
            publisher = None
            if brokers is not None and run.rate:
                publish = PublishPlan(
                    brokers,
                    run.rate,
                    run.burst,
                    run.record_bytes,
                    run.shape,
                    names,
                    _PARTITIONS,
                )
                publisher = await stack.enter_async_context(
                    open_worker("publishing", publish, self.directory, self.cores.others)
                )
            loads = [
                await stack.enter_async_context(
                    open_worker("load", plan, self.directory, self.cores.others)
                )
                for plan in self._load_plans(run, target, names, floor=brokers is None)
            ]
            return await _Measuring(run, target, publisher, loads, self.progress).run_it()

    def _load_plans(
        self, run: Run, target: Target, names: Names, *, floor: bool
    ) -> Iterable[LoadPlan]:
        bounds = [run.connections * part // self.loaders for part in range(self.loaders + 1)]
        for first, after in zip(bounds, bounds[1:], strict=False):
            yield LoadPlan(
                host=target.host,
                port=target.port,
                path=target.path,
                total=run.connections,
                first=first,
                count=after - first,
                affected=run.affected,
                connect_rate=run.connect_rate / self.loaders,
                in_flight=max(1, run.in_flight // self.loaders),
                shape=Shape() if floor else run.shape,
                names=names,
                partitions=_PARTITIONS,
                subscribe=not floor,
                positions=run.disturbance is Disturbance.DROP,
                from_start=not floor and not run.stream_first,
            )


class _Measuring:
    """The steps of one run."""

    def __init__(
        self,
        run: Run,
        target: Target,
        publisher: Worker | None,
        loads: Sequence[Worker],
        progress: Progress,
    ) -> None:
        self._run = run
        self._target = target
        self._publisher = publisher
        self._loads = loads
        self._progress = progress
        self._samples: list[Sample] = []

    async def run_it(self) -> Measurement:
        run, target = self._run, self._target
        before = target.usage()
        if run.stream_first:
            await self._publish()
        connect_seconds = await self._connect()
        connected = target.usage()
        subscribed = self._count("subscribed")
        if not run.stream_first:
            await self._publish()
        await self._wait("warming up", run.warmup)
        begin = await self._totals("measure", "measuring")
        usage_begin, publisher_begin = target.usage(), self._publisher_cpu()
        async with self._sampled():
            back = await self._disturbed(run.seconds)
        end = await self._totals("measured", "measured")
        usage_end, publisher_end = target.usage(), self._publisher_cpu()
        published, results = await self._settle()
        seconds = end["at"] - begin["at"]
        counts = end["latency"]
        return Measurement(
            label=run.label,
            connections=run.connections,
            subscribed=subscribed,
            connect_seconds=connect_seconds,
            rate=run.rate,
            seconds=seconds,
            received=int((end["received"] - begin["received"]).sum()),
            bytes=end["volume"] - begin["volume"],
            latency=Latency.of(counts[0], int(end["worst"][0])),
            counts=counts[0],
            cpu_seconds=usage_end.cpu - usage_begin.cpu,
            rss_before=before.rss,
            rss_connected=connected.rss,
            rss_after=usage_end.rss,
            load_cpu=(end["cpu"] - begin["cpu"]) / seconds,
            publisher_cpu=(publisher_end - publisher_begin) / seconds,
            published=published,
            back_seconds=back,
            refused=_added(result["refused"] for result in results),
            closes=_added(result["closes"] for result in results),
            problems=_added(result["problems"] for result in results)
            | {"not connected": run.connections - subscribed},
            samples=self._samples,
        )

    # ---- the steps

    async def _connect(self) -> float:
        """Connect all; returns how long it took until the last was subscribed, or the patience."""
        run = self._run
        begun = time.monotonic()
        for load in self._loads:
            await load.tell("connect")
        with trio.move_on_after(run.connections / run.connect_rate + _CONNECT_SECONDS):
            while (count := self._count("subscribed")) < run.connections:
                self._progress(f"{run.label}: connecting", count / run.connections)
                await trio.sleep(_POLL_SECONDS)
        latest = max(load.status.get("subscribed_at", 0.0) for load in self._loads)
        return max(0.0, latest - begun)

    async def _publish(self) -> None:
        if self._publisher is not None:
            await self._publisher.tell("start")

    async def _disturbed(self, seconds: float) -> float | None:
        """Let the run go on; returns after how long those that were cut off were all back."""
        run = self._run
        if run.disturbance is Disturbance.NONE:
            await self._wait("measuring", seconds)
            return None
        begun = time.monotonic()
        for load in self._loads:
            await load.tell("drop" if run.disturbance is Disturbance.DROP else "stall")
        back = None
        if run.disturbance is Disturbance.DROP:
            with trio.move_on_after(_BACK_SECONDS):
                await trio.sleep(2 * _SAMPLE_SECONDS)  # until the loads say who is gone
                while (count := self._count("subscribed")) < run.connections:
                    self._progress(f"{run.label}: coming back", count / run.connections)
                    await trio.sleep(_POLL_SECONDS)
                back = max(load.status["subscribed_at"] for load in self._loads) - begun
        await self._wait("measuring", max(0.0, begun + seconds - time.monotonic()))
        return back if back is not None or run.disturbance is Disturbance.STALL else math.inf

    async def _settle(self) -> tuple[int, list[dict[str, Any]]]:
        """Stop publishing, and wait until everybody has everything."""
        self._progress(f"{self._run.label}: waiting for the last messages", None)
        channels = [0] * self._run.shape.channels
        failed = 0
        if self._publisher is not None:
            await self._publisher.tell("stop")
            result = await self._publisher.hears("result")
            channels, failed = result["published"], result["failed"]
        results = []
        for load in self._loads:
            await load.tell("settle", published=channels, seconds=_SETTLE_SECONDS)
        for load in self._loads:
            results.append(await load.hears("result", 2 * _SETTLE_SECONDS))
        results[0]["problems"]["not published"] = failed
        return sum(channels), results

    async def _wait(self, what: str, seconds: float) -> None:
        begun = time.monotonic()
        while (gone := time.monotonic() - begun) < seconds:
            self._progress(f"{self._run.label}: {what}", gone / seconds)
            await trio.sleep(min(_POLL_SECONDS, seconds - gone))

    # ---- what the processes say

    def _count(self, name: str) -> int:
        return sum(load.status.get(name, 0) for load in self._loads)

    def _publisher_cpu(self) -> float:
        if self._publisher is None:
            return 0.0
        return float(self._publisher.status.get("cpu", 0.0))

    async def _totals(self, do: str, event: str) -> dict[str, Any]:
        for load in self._loads:
            await load.tell(do)
        all_said = [await load.hears(event) for load in self._loads]
        added = {
            name: sum(np.array(said[name], np.int64) for said in all_said)
            for name in ("received", "latency")
            if name in all_said[0]
        }
        return {
            **added,
            "worst": np.max([said["worst"] for said in all_said], axis=0),
            "volume": sum(said["volume"] for said in all_said),
            # The busiest one is what could be the bottleneck.
            "cpu": max(said["cpu"] for said in all_said),
            "at": all_said[0]["at"],
        }

    @asynccontextmanager
    async def _sampled(self) -> AsyncIterator[None]:
        """Take a sample every second for the length of the block."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._take_samples)
            yield
            nursery.cancel_scope.cancel()

    async def _take_samples(self) -> None:
        begun = last = time.monotonic()
        received = self._count("received")
        while True:
            await trio.sleep(_SAMPLE_SECONDS)
            now, count = time.monotonic(), self._count("received")
            said = [load.status["latency"] for load in self._loads if load.status["latency"]]
            self._samples.append(
                Sample(
                    now - begun,
                    (count - received) / (now - last),
                    max((one[0] for one in said), default=None),
                    max((one[1] for one in said), default=None),
                    self._target.usage().rss,
                )
            )
            last, received = now, count


def _added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(total)
