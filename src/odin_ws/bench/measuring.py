"""One run, from the first connection to the last message."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from odin_ws.bench.crew import Crew, Place, open_crew
from odin_ws.bench.measurement import Latency, Measurement, Sample
from odin_ws.bench.scenarios import Disturbance, Run
from odin_ws.bench.target import Target, busy_seconds

__all__ = ["measure"]

# How long those that were cut off may take to come back.
_BACK_SECONDS: Final = 60

_POLL_SECONDS: Final = 0.05
_SAMPLE_SECONDS: Final = 1.0


async def measure(run: Run, target: Target, brokers: str | None, place: Place) -> Measurement:
    """Carry out a run against a server; without `brokers`, against the floor.

    Raises:
        BenchFailed: a process has ended.
    """
    place.progress(f"{run.label}: starting", None)
    async with open_crew(run, target, brokers, place) as crew:
        return await _Steps(run, target, crew, place).all()


class _Steps:
    """The steps of one run."""

    def __init__(self, run: Run, target: Target, crew: Crew, place: Place) -> None:
        self._run = run
        self._target = target
        self._crew = crew
        self._place = place
        self._samples: list[Sample] = []

    async def all(self) -> Measurement:
        """Connect, publish, warm up, measure, and wait for the last message."""
        run, target, crew, others = self._run, self._target, self._crew, self._place.cores.others
        before = target.usage()
        if run.stream_first:
            await crew.publish()
        connect_seconds = await self._connect()
        connected, subscribed = target.usage(), crew.count("subscribed")
        if not run.stream_first:
            await crew.publish()
        await self._wait("warming up", run.warmup)
        begin = await crew.totals("measure")
        usage, publisher, busy = target.usage(), crew.publisher_cpu, busy_seconds(others)
        async with self._sampled():
            back_seconds = await self._disturb()
        end = await crew.totals("measured")
        seconds = end.at - begin.at
        after = target.usage()
        publisher_cpu = (crew.publisher_cpu - publisher) / seconds
        others_cpu = (busy_seconds(others) - busy) / seconds / max(1, len(others))
        self._tell("waiting for the last messages", None)
        ending = await crew.end()
        return Measurement(
            label=run.label,
            connections=run.connections,
            subscribed=subscribed,
            connect_seconds=connect_seconds,
            rate=run.rate,
            seconds=seconds,
            received=int((end.received - begin.received).sum()),
            bytes=end.volume - begin.volume,
            latency=Latency.of(end.latency[0], int(end.worst[0])),
            counts=end.latency[0],
            cpu_seconds=after.cpu - usage.cpu,
            rss_before=before.rss,
            rss_connected=connected.rss,
            rss_after=after.rss,
            load_cpu=(end.cpu - begin.cpu) / seconds,
            publisher_cpu=publisher_cpu,
            others_cpu=others_cpu,
            published=ending.published,
            published_rate=ending.published_rate,
            back_seconds=back_seconds,
            refused=ending.refused,
            closes=ending.closes,
            problems={**ending.problems, **self._absent(subscribed, back_seconds)},
            samples=self._samples,
        )

    def _absent(self, subscribed: int, back_seconds: float | None) -> dict[str, int]:
        missing = self._run.connections - self._crew.count("subscribed")
        never = self._run.connections - subscribed
        is_storm = self._run.disturbance is Disturbance.DROP
        return {
            "never_subscribed": never,
            "not_back": missing if is_storm and back_seconds is None else 0,
            "closed": 0 if is_storm or self._run.affected else missing - never,
        }

    async def _connect(self) -> float:
        """Connect all; returns how long it took until the last one was subscribed."""
        run = self._run
        begun = time.monotonic()
        await self._crew.tell("connect")
        await self._until_subscribed(
            "connecting", run.connections / run.connect_rate + run.connect_patience
        )
        return max(0.0, self._crew.subscribed_at - begun)

    async def _disturb(self) -> float | None:
        """Let the run go on; returns after how long all that were cut off were back."""
        begun = time.monotonic()
        back = None
        match self._run.disturbance:
            case Disturbance.STALL:
                await self._crew.tell("stall")
            case Disturbance.DROP:
                await self._crew.tell("drop")
                if await self._until_subscribed("coming back", _BACK_SECONDS):
                    back = self._crew.subscribed_at - begun
            case Disturbance.NONE:
                pass
        await self._wait("measuring", self._run.seconds - (time.monotonic() - begun))
        return back

    async def _until_subscribed(self, what: str, patience: float) -> bool:
        """Wait until all are; False when it took too long."""
        with trio.move_on_after(patience):
            while (count := self._crew.count("subscribed")) < self._run.connections:
                self._tell(what, count / self._run.connections)
                await trio.sleep(_POLL_SECONDS)
            return True
        return False

    async def _wait(self, what: str, seconds: float) -> None:
        begun = time.monotonic()
        while (gone := time.monotonic() - begun) < seconds:
            self._tell(what, gone / seconds)
            await trio.sleep(min(_POLL_SECONDS, seconds - gone))

    def _tell(self, what: str, share: float | None) -> None:
        self._place.progress(f"{self._run.label}: {what}", share)

    @asynccontextmanager
    async def _sampled(self) -> AsyncIterator[None]:
        """Take a sample every second for the length of the block."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._take_samples)
            yield
            nursery.cancel_scope.cancel()

    async def _take_samples(self) -> None:
        received, last = self._crew.received
        begun = time.monotonic()
        while True:
            await trio.sleep(_SAMPLE_SECONDS)
            count, now = self._crew.received
            latencies = self._crew.latencies
            self._samples.append(
                Sample(
                    at=time.monotonic() - begun,
                    delivered=(count - received) / (now - last),
                    p50=max((p50 for p50, _ in latencies), default=None),
                    p99=max((p99 for _, p99 in latencies), default=None),
                    rss=self._target.usage().rss,
                )
            )
            last, received = now, count
