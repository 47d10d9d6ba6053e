"""A broker, a server for each run, and the baseline before and after it."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import attrs

from odin_ws.bench.baseline import compile_baseline, open_baseline
from odin_ws.bench.broker import open_broker
from odin_ws.bench.options import Options
from odin_ws.bench.processes import Progress, RunEnvironment
from odin_ws.bench.results import Measurement
from odin_ws.bench.run import measure
from odin_ws.bench.scenarios import Disturbance, Run
from odin_ws.bench.server import open_server
from odin_ws.bench.suite import Measured
from odin_ws.bench.target import Target
from odin_ws.bench.topics import create_topics
from odin_ws.bench.workload import catalogue_of, names_for, reach

__all__ = ["Testbed", "open_testbed"]

# The baseline needs no warm-up.
_FLOOR_WARMUP: Final = 1.0
_FLOOR_SECONDS: Final = 5.0


@attrs.frozen
class Testbed:
    """A broker for a number of runs. `broker`: its name in reports."""

    broker: str
    _brokers: str
    _place: RunEnvironment
    _options: Options

    async def measure(self, run: Run, *, baseline: bool) -> Measured:
        """Measure a run; with `baseline`, between two of the baseline.

        Raises:
            BenchFailed: something is missing or has exited.
        """
        baselines = [await self._baseline(run, "baseline before")] if baseline else []
        async with self._server(run) as target:
            measured = await measure(run, target, self._brokers, self._place)
        if baseline:
            baselines.append(await self._baseline(run, "baseline after"))
        return Measured(measured, baselines)

    @asynccontextmanager
    async def _server(self, run: Run) -> AsyncIterator[Target]:
        options = self._options
        if options.target is not None:
            yield options.target
            return
        settings = {
            "KAFKA_BROKERS": self._brokers,
            "WS_MAX_KAFKA_RATE": "0",
            "WS_MAX_BROADCAST_RATE": f"{run.broadcast_rate:g}",
            # Some clients reconnect before the server has noticed that they were cut off.
            "WS_MAX_CONNECTIONS": str(max(1, run.connections + run.affected // 4)),
            "LOG_LEVEL": "warning",
            **run.settings,
            **({"WS_CATALOGUE": str(file)} if (file := options.catalogue_file) else {}),
            **options.settings,
        }
        async with open_server(self._place.directory, settings, options.cores) as target:
            yield target

    async def _baseline(self, run: Run, label: str) -> Measurement:
        """Measure the baseline under the same load: as many messages per second per connection."""
        directory, cores = self._place.directory, self._options.cores
        rate = run.rate * reach(
            run.workload, names_for(run.workload, self._options.catalogue_file), run.connections
        )
        calm = attrs.evolve(
            run,
            label=label,
            affected=0,
            disturbance=Disturbance.NONE,
            warmup=_FLOOR_WARMUP,
            seconds=min(run.seconds, _FLOOR_SECONDS),
        )
        program = await compile_baseline(directory)
        async with open_baseline(program, rate, run.record_bytes, cores.server) as target:
            return await measure(calm, target, None, self._place)


@asynccontextmanager
async def open_testbed(options: Options, progress: Progress) -> AsyncIterator[Testbed]:
    """Start what all runs need.

    Raises:
        BenchFailed: there is no broker.
    """
    with tempfile.TemporaryDirectory(prefix="odin-ws-bench-") as name:
        directory = Path(name)
        progress("starting the broker", None)
        async with open_broker(options.kafka, options.libs, directory) as (address, broker):
            catalogue_file = options.catalogue_file
            await create_topics(address, catalogue_of(catalogue_file))
            place = RunEnvironment(
                directory, options.cores, options.load_processes, progress, catalogue_file
            )
            yield Testbed(broker, address, place, options)
