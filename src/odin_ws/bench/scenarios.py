"""The scenarios by name: each a few runs, each run a few numbers that options override."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

import attrs

from odin_ws.bench.workload import EVENTS, Workload
from odin_ws.catalogue import Catalogue

__all__ = ["SCENARIOS", "SUITES", "TOKENS", "Disturbance", "Run", "Scenario"]


class Disturbance(Enum):
    """What happens to the affected connections when measuring begins."""

    NONE = "none"
    DROP = "drop"  # they are cut off, and all come back at once to resume
    STALL = "stall"  # they stop reading
    AWAY = "away"  # they are cut off, and come back to resume after `away` records


@attrs.frozen
class Run:
    """One measurement.

    `rate`: records a second, 0 for none; they leave in bursts of `burst`. `affected`: how many of
    the connections are disturbed. `stream_first`: it is published before anybody connects.
    `in_flight`: how many connect at once at most. `connect_patience`: seconds that connecting may
    take longer than `connect_rate` says. `back_patience`: seconds in which those that were cut off
    are to be back. `away`: records that are published while they are away, `away_rate` a second.
    `settings`: of the server, beside those of all runs. `events`: the demo's events are published,
    not records of `record_bytes`. `frames`: "single" or "batch"; `deflate`: the connections offer
    permessage-deflate.
    """

    label: str
    connections: int = 1000
    connect_rate: float = 1500
    in_flight: int = 1000
    connect_patience: float = 60
    back_patience: float = 60
    rate: float = 100
    burst: int = 1
    record_bytes: int = 330
    broadcast_rate: float = 20
    events: bool = False
    frames: str = "single"
    deflate: bool = False
    workload: Workload = attrs.field(factory=Workload)
    affected: int = 0
    away: int = 0
    away_rate: float = 10_000
    settings: Mapping[str, str] = attrs.field(factory=dict)
    disturbance: Disturbance = Disturbance.NONE
    stream_first: bool = False
    warmup: float = 3
    seconds: float = 15


@attrs.frozen
class Scenario:
    """Runs that belong together; later ones are compared with the first."""

    help: str
    runs: tuple[Run, ...]

    def with_options(self, options: Mapping[str, Any]) -> Scenario:
        """The same with other numbers."""
        return attrs.evolve(self, runs=tuple(_evolved(run, options) for run in self.runs))

    def within(self, catalogue: Catalogue) -> Scenario:
        """The same with the topics that the catalogue has; generated events are of all topics."""
        runs = []
        for run in self.runs:
            topics = len(catalogue.topics) if run.events else run.workload.topics
            workload = attrs.evolve(run.workload, topics=topics).within(catalogue)
            runs.append(attrs.evolve(run, workload=workload))
        return attrs.evolve(self, runs=tuple(runs))


def _evolved(run: Run, options: Mapping[str, Any]) -> Run:
    # Where nobody is connected, or nothing is published, that is what the run is about.
    kept = {name for name in ("connections", "rate") if not getattr(run, name)}
    changed = {name: value for name, value in options.items() if name not in {*kept, "clients"}}
    if changed.get("events"):
        # The events are of all topics, and not of the scenario's channels.
        changed["workload"] = EVENTS
    if run.affected and "clients" in options:
        # The others stay as many.
        clients = options["clients"]
        others = run.connections - run.affected
        return attrs.evolve(run, **changed, connections=clients + others, affected=clients)
    connections = changed.get("connections", run.connections)
    if run.affected:
        changed["affected"] = max(1, run.affected * connections // run.connections)
    return attrs.evolve(run, **changed)


TOKENS: Final = Workload(tokens=1250, topics=8, each=20, zipf=True, patterned=0.05)

SCENARIOS: Final[Mapping[str, Scenario]] = {
    "steady": Scenario(
        "One channel, everybody subscribed to it, records evenly.", (Run("steady"),)
    ),
    "bytes": Scenario(
        "The demo's events to subscribers of *.*: single frames and batches, plain and compressed.",
        (
            Run("single", events=True, workload=EVENTS, rate=200, seconds=10),
            Run(
                "single, deflate", events=True, workload=EVENTS, rate=200, seconds=10, deflate=True
            ),
            Run("batch", events=True, workload=EVENTS, rate=200, seconds=10, frames="batch"),
            Run(
                "batch, deflate",
                events=True,
                workload=EVENTS,
                rate=200,
                seconds=10,
                frames="batch",
                deflate=True,
            ),
        ),
    ),
    "burst": Scenario(
        "The same number of records, a second's worth at once.",
        (Run("evenly"), Run("in bursts", burst=100)),
    ),
    "storm": Scenario(
        "All but a few are cut off at once and resume, while the stream goes on.",
        (
            Run(
                "storm",
                connections=2100,
                affected=2000,
                disturbance=Disturbance.DROP,
                connect_rate=3000,
                in_flight=4000,
                rate=10,
                seconds=20,
            ),
        ),
    ),
    "crowd": Scenario(
        "Clients that were away for longer than history reaches come back together.",
        (
            Run(
                "crowd",
                connections=1200,
                affected=1000,
                disturbance=Disturbance.AWAY,
                away=120_000,
                settings={"WS_HISTORY_BYTES": str(8 << 20)},
                connect_rate=3000,
                in_flight=4000,
                back_patience=300,
                rate=200,
                workload=Workload(tokens=50),
                seconds=10,
            ),
        ),
    ),
    "ingest": Scenario(
        "Many records, of which few are wanted: 10 subscribers on 1% of 1,000 tokens.",
        (
            Run(
                "ingest",
                connections=10,
                rate=100_000,
                workload=Workload(tokens=1000, each=10),
            ),
        ),
    ),
    "soak": Scenario(
        "Memory over time: ten minutes of the `tokens` scenario.",
        (Run("soak", workload=TOKENS, rate=20, warmup=10, seconds=600),),
    ),
    "tokens": Scenario(
        "10,000 channels by Zipf's law, each subscriber on 20 of them, some with patterns.",
        (Run("tokens", workload=TOKENS, rate=20),),
    ),
    "patterns": Scenario(
        "800 channels, each subscriber with a pattern.",
        (Run("patterns", workload=Workload(tokens=100, topics=8, patterned=1.0)),),
    ),
    "slow": Scenario(
        "One in a hundred stops reading: the latency of the others.",
        (
            Run("all read"),
            Run("1% do not", affected=10, disturbance=Disturbance.STALL),
        ),
    ),
    "connect": Scenario(
        "Connects per second, idle and while 10 records a second go to everybody.",
        (
            Run("idle", rate=0, connections=4000, connect_rate=10_000, seconds=3),
            Run(
                "under a stream",
                rate=10,
                connections=4000,
                connect_rate=10_000,
                stream_first=True,
                seconds=5,
            ),
        ),
    ),
    "idle": Scenario(
        "CPU of an instance that nobody uses, and memory per idle connection.",
        (
            Run("nobody", connections=0, rate=0, seconds=20),
            Run("idle connections", rate=0, seconds=10),
        ),
    ),
}

# Sets of runs whose figures have limits; `suite` has the runs.
SUITES: Final[Mapping[str, str]] = {
    "short": "The project's promises, in three minutes.",
    "all": "All of the project's promises: half an hour.",
}
