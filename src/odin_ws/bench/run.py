"""Runs one measurement, from the first connection to the last message."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio

from odin_ws.bench.processes import (
    LoadProcesses,
    LoadTotals,
    RunEnd,
    RunEnvironment,
    open_load_processes,
)
from odin_ws.bench.results import Latency, Measurement, Sample, Scanned
from odin_ws.bench.server import Target, Usage, busy_seconds
from odin_ws.bench.workload import Disturbance, Run

__all__ = ["measure"]

# Timeout of the reconnects of clients that were cut off.
_BACK_SECONDS: Final = 60

_POLL_SECONDS: Final = 0.05
_SAMPLE_SECONDS: Final = 1.0


def _between(before: Scanned | None, after: Scanned | None) -> Scanned | None:
    if before is None or after is None:
        return None
    return Scanned(
        after.scans - before.scans,
        after.records - before.records,
        after.seconds - before.seconds,
    )


async def measure(
    run: Run, target: Target, brokers: str | None, environment: RunEnvironment
) -> Measurement:
    """Measure a run against a server; without `brokers`, against the baseline.

    Raises:
        BenchFailed: a process has exited.
    """
    environment.progress(f"{run.label}: starting", None)
    async with open_load_processes(run, target, brokers, environment) as load_processes:
        return await _Steps(run, target, load_processes, environment).all()


@attrs.frozen
class _Connected:
    """The end of connecting: the clients subscribed, and the time and resources used."""

    before: Usage
    after: Usage
    subscribed: int
    seconds: float


@attrs.frozen
class _Window:
    """The measured time: totals at its begin and end, and CPU seconds within it."""

    begin: LoadTotals
    end: LoadTotals
    cpu_seconds: float
    """CPU seconds of the server."""
    rss_after: int
    publisher_cpu: float
    others_cpu: float
    """CPU seconds of other programs for each of their cores."""
    back_seconds: float | None
    """Seconds until all disturbed clients were back; None: they did not return."""

    @property
    def seconds(self) -> float:
        return self.end.at - self.begin.at


class _Steps:
    """The steps of one run."""

    def __init__(
        self, run: Run, target: Target, load_processes: LoadProcesses, environment: RunEnvironment
    ) -> None:
        self._run = run
        self._target = target
        self._load_processes = load_processes
        self._environment = environment
        self._samples: list[Sample] = []

    async def all(self) -> Measurement:
        """Connect, publish, warm up, measure, and wait for the last message."""
        before = self._target.usage()
        if self._run.stream_first:
            await self._load_processes.publish()
        connect_seconds = await self._connect()
        connected = _Connected(
            before, self._target.usage(), self._load_processes.count("subscribed"), connect_seconds
        )
        if not self._run.stream_first:
            await self._load_processes.publish()
        await self._wait("warming up", self._run.warmup)
        calm, published = await self._cut_off()
        scanned = await self._scanned()
        window = await self._measure_window(published)
        self._report("waiting for the last messages", None)
        ending = await self._load_processes.end()
        return self._measurement(
            connected, calm, _between(scanned, await self._scanned()), window, ending
        )

    async def _measure_window(self, published: list[int]) -> _Window:
        """Measure while the affected clients are disturbed; `published`: as for `_disturb`."""
        others = self._environment.cores.others
        begin = await self._load_processes.totals("measure")
        usage, busy = self._target.usage(), busy_seconds(others)
        publisher_cpu = self._load_processes.publisher_cpu
        async with self._sampled():
            back_seconds = await self._disturb(published)
        end = await self._load_processes.totals("measured")
        after = self._target.usage()
        return _Window(
            begin,
            end,
            cpu_seconds=after.cpu - usage.cpu,
            rss_after=after.rss,
            publisher_cpu=self._load_processes.publisher_cpu - publisher_cpu,
            others_cpu=(busy_seconds(others) - busy) / max(1, len(others)),
            back_seconds=back_seconds,
        )

    def _measurement(
        self,
        connected: _Connected,
        calm: Latency | None,
        scanned: Scanned | None,
        window: _Window,
        ending: RunEnd,
    ) -> Measurement:
        run, begin, end, seconds = self._run, window.begin, window.end, window.seconds
        return Measurement(
            label=run.label,
            connections=run.connections,
            subscribed=connected.subscribed,
            connect_seconds=connected.seconds,
            connect_cpu=connected.after.cpu - connected.before.cpu,
            rate=run.rate,
            seconds=seconds,
            received=int((end.received - begin.received).sum()),
            bytes=end.volume - begin.volume,
            latency=Latency.of(end.latency[0], int(end.worst[0])),
            calm=calm,
            scanned=scanned,
            counts=end.latency[0],
            cpu_seconds=window.cpu_seconds,
            rss_before=connected.before.rss,
            rss_connected=connected.after.rss,
            rss_after=window.rss_after,
            load_cpu=(end.cpu - begin.cpu) / seconds,
            publisher_cpu=window.publisher_cpu / seconds,
            others_cpu=window.others_cpu / seconds,
            published=ending.published,
            published_rate=ending.published_rate,
            back_seconds=window.back_seconds,
            rejected_connections=ending.rejected_connections,
            closes=ending.closes,
            problems={
                **ending.problems,
                **self._absent(connected.subscribed, window.back_seconds),
            },
            samples=self._samples,
        )

    def _absent(self, subscribed: int, back_seconds: float | None) -> dict[str, int]:
        missing = self._run.connections - self._load_processes.count("subscribed")
        never = self._run.connections - subscribed
        is_storm = self._run.disturbance in {Disturbance.DROP, Disturbance.AWAY}
        return {
            "never_subscribed": never,
            # `missing` is 0 if all clients are subscribed again and some are not live yet.
            "not_back": max(1, missing) if is_storm and back_seconds is None else 0,
            "closed": 0 if is_storm or self._run.affected else max(0, missing - never),
        }

    async def _connect(self) -> float:
        """Connect all clients; returns the seconds until the last one was subscribed."""
        run = self._run
        begun = time.monotonic()
        await self._load_processes.command("connect")
        await self._until_subscribed(
            "connecting", run.connections / run.connect_rate + run.connect_grace
        )
        return max(0.0, self._load_processes.subscribed_at - begun)

    async def _cut_off(self) -> tuple[Latency | None, list[int]]:
        """Cut off the affected clients and publish records in their absence.

        Returns the latency of the other clients meanwhile, and the number of records of each
        channel.
        """
        run, load_processes = self._run, self._load_processes
        if run.disturbance is not Disturbance.AWAY:
            return None, []
        await load_processes.command("cut_off")
        before = load_processes.published
        await load_processes.publish_at(run.away_rate)
        while (done := (load_processes.published - before) / run.away) < 1:
            self._report("publishing for absent clients", done)
            await trio.sleep(_POLL_SECONDS)
        await load_processes.publish_at(run.rate)
        await self._wait("settling", run.warmup)
        await load_processes.totals("measure")
        await self._wait("measuring before they reconnect", run.seconds)
        end = await load_processes.totals("measured")
        return Latency.of(end.latency[0], int(end.worst[0])), await load_processes.publish_at(
            run.rate
        )

    async def _scanned(self) -> Scanned | None:
        """Return the number, records and CPU of the server's scans so far."""
        found = await self._target.metric(
            "ws_scans_total", "ws_scan_records_total", "ws_scan_cpu_seconds_total"
        )
        return None if found is None else Scanned(int(found[0]), int(found[1]), found[2])

    async def _disturb(self, published: list[int]) -> float | None:
        """Disturb the affected clients, and measure; returns the seconds until all were back.

        Returns None without a return, or if the timeout passes. `published`: the records of each
        channel when the clients reconnect.
        """
        begun = time.monotonic()
        back = None
        match self._run.disturbance:
            case Disturbance.STALL:
                await self._load_processes.command("stall")
            case Disturbance.DROP:
                await self._load_processes.command("drop")
                if await self._until_subscribed("reconnecting", _BACK_SECONDS):
                    back = self._load_processes.subscribed_at - begun
            case Disturbance.AWAY:
                await self._load_processes.command("reconnect", published=published)
                if await self._until_live(self._run.reconnect_timeout):
                    back = time.monotonic() - begun
            case Disturbance.NONE:
                pass
        await self._wait("measuring", self._run.seconds - (time.monotonic() - begun))
        return back

    async def _until_subscribed(self, what: str, patience: float) -> bool:
        """Wait until all clients are subscribed; returns False on timeout."""
        with trio.move_on_after(patience):
            while (count := self._load_processes.count("subscribed")) < self._run.connections:
                self._report(what, count / self._run.connections)
                await trio.sleep(_POLL_SECONDS)
            return True
        return False

    async def _until_live(self, patience: float) -> bool:
        """Wait until all clients have all records and no replay is active; False on timeout."""
        with trio.move_on_after(patience):
            if not await self._until_subscribed("reconnecting", patience):
                return False
            while True:
                replays = await self._target.metric("ws_replays_active")
                if not self._load_processes.count("missing") and (
                    replays is None or not replays[0]
                ):
                    return True
                self._report("catching up", None)
                await trio.sleep(_POLL_SECONDS)
        return False

    async def _wait(self, what: str, seconds: float) -> None:
        begun = time.monotonic()
        while (gone := time.monotonic() - begun) < seconds:
            self._report(what, gone / seconds)
            await trio.sleep(min(_POLL_SECONDS, seconds - gone))

    def _report(self, what: str, share: float | None) -> None:
        self._environment.progress(f"{self._run.label}: {what}", share)

    @asynccontextmanager
    async def _sampled(self) -> AsyncIterator[None]:
        """Take a sample every second during the block."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._take_samples)
            yield
            nursery.cancel_scope.cancel()

    async def _take_samples(self) -> None:
        received, last = self._load_processes.received
        begun = time.monotonic()
        while True:
            await trio.sleep(_SAMPLE_SECONDS)
            count, now = self._load_processes.received
            latencies = self._load_processes.latencies
            self._samples.append(
                Sample(
                    at=time.monotonic() - begun,
                    # A load process on a full core may have sent no status since the last sample.
                    delivered=(count - received) / (now - last) if now > last else 0.0,
                    p50=max((p50 for p50, _ in latencies), default=None),
                    p99=max((p99 for _, p99 in latencies), default=None),
                    rss=self._target.usage().rss,
                )
            )
            last, received = now, count
