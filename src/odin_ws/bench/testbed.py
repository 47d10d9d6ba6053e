"""The broker, the servers and the baseline of several runs, and their measurements."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import attrs

from odin_ws.bench.baseline import compile_baseline, open_baseline
from odin_ws.bench.broker import create_topics, open_broker
from odin_ws.bench.cases import Measured
from odin_ws.bench.options import Options
from odin_ws.bench.processes import (
    Progress,
    RunEnvironment,
)
from odin_ws.bench.results import Measurement
from odin_ws.bench.run import measure
from odin_ws.bench.server import Target, open_server
from odin_ws.bench.subscriptions import reach
from odin_ws.bench.workload import Disturbance, Run, catalogue_of, names_for

__all__ = ["Testbed", "open_testbed"]

# The baseline needs no warm-up.
_BASELINE_WARMUP: Final = 1.0
_BASELINE_SECONDS: Final = 5.0


@attrs.frozen
class Testbed:
    """The broker and the processes' resources for several runs."""

    broker: str
    """The name of the broker in reports."""
    _brokers: str
    _environment: RunEnvironment
    _options: Options

    async def measure(self, run: Run, *, baseline: bool) -> Measured:
        """Measure a run; with `baseline`, also the baseline before and after the run.

        Raises:
            BenchFailed: a program is missing, or a process has exited.
        """
        baselines = [await self._baseline(run, "baseline before")] if baseline else []
        async with self._server(run) as target:
            measured = await measure(run, target, self._brokers, self._environment)
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
        async with open_server(self._environment.directory, settings, options.cores) as target:
            yield target

    async def _baseline(self, run: Run, label: str) -> Measurement:
        """Measure the baseline with the run's number of messages per second and connection."""
        directory, cores = self._environment.directory, self._options.cores
        rate = run.rate * reach(
            run.workload, names_for(run.workload, self._options.catalogue_file), run.connections
        )
        calm = attrs.evolve(
            run,
            label=label,
            affected=0,
            disturbance=Disturbance.NONE,
            warmup=_BASELINE_WARMUP,
            seconds=min(run.seconds, _BASELINE_SECONDS),
        )
        program = await compile_baseline(directory)
        async with open_baseline(program, rate, run.record_bytes, cores.server) as target:
            return await measure(calm, target, None, self._environment)


@asynccontextmanager
async def open_testbed(options: Options, progress: Progress) -> AsyncIterator[Testbed]:
    """Start the broker and create the topics.

    Raises:
        BenchFailed: there is no broker.
    """
    with tempfile.TemporaryDirectory(prefix="odin-ws-bench-") as name:
        directory = Path(name)
        progress("starting the broker", None)
        async with open_broker(options.kafka, options.libs, directory) as (address, broker):
            catalogue_file = options.catalogue_file
            await create_topics(address, catalogue_of(catalogue_file))
            environment = RunEnvironment(
                directory, options.cores, options.load_processes, progress, catalogue_file
            )
            yield Testbed(broker, address, environment, options)
