"""The workloads of a benchmark: its channels, scenarios and suites.

The module does not import numpy: `odin-ws --help` imports the module, also without the extra
`bench`. Channel k is token k // topics in topic k % topics; a smaller number means a more popular
channel.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, Final

import attrs

from odin_ws.catalogue import Catalogue, default_catalogue, load_catalogue

__all__ = [
    "EVENTS",
    "SCENARIOS",
    "SUITES",
    "TOKENS",
    "Disturbance",
    "Names",
    "Run",
    "Scenario",
    "Transport",
    "Workload",
    "catalogue_of",
    "names_for",
]


@attrs.frozen
class Workload:
    """The channels of a benchmark, and the subscriptions of its clients."""

    tokens: int = 1
    """The number of tokens."""
    topics: int = 1
    """The number of topics."""
    each: int = 1
    """Channels per subscriber."""
    zipf: bool = False
    """True if popularity falls with the rank, in publishing and subscribing; otherwise all channels
    are equal."""
    patterned: float = 0.0
    """The share of subscribers with a pattern among their subscriptions, alternately `{token}.*`
    and `*.{category}`."""
    everything: bool = False
    """True if all clients subscribe to `*.*`."""
    filters: int = 0
    """The number of distinct filters; subscribers use them in turn. Every record matches all
    filters, so the messages are those of a run without filters, unless `thresholds` is set."""
    thresholds: bool = False
    """True if filter k matches only records whose number modulo `filters` is at least k."""

    @property
    def channels(self) -> int:
        """The number of channels."""
        return self.tokens * self.topics

    def within(self, catalogue: Catalogue) -> Workload:
        """Return the same workload with at most the catalogue's number of topics."""
        topics = min(self.topics, len(catalogue.topics))
        return attrs.evolve(self, topics=topics, each=min(self.each, self.tokens * topics))

    def threshold(self, number: int) -> int:
        """Return the lowest remainder of records that match the filter of a subscriber."""
        return number % self.filters if self.thresholds else 0

    def filter_of(self, number: int) -> dict[str, Any] | None:
        """Return the filter of a subscriber, or None without filters."""
        if not self.filters:
            return None
        turn = number % self.filters
        return {"field": "data.m", "gte": turn if self.thresholds else -turn}


EVENTS: Final = Workload(tokens=12, topics=8, everything=True)
"""The generator's twelve tokens in all topics; subscribers to `*.*`."""


@attrs.frozen
class Names:
    """The names of tokens, categories and topics."""

    prefix: str
    """The beginning of each token, different in each run."""
    categories: Sequence[str]
    """The category of each topic."""
    topics: Sequence[str]
    """The names of the topics."""
    catalogue_file: str | None = None
    """The catalogue file with the names; None for Odin's catalogue."""

    def token(self, number: int) -> str:
        """Return the name of a token."""
        return f"{self.prefix}{number}"

    def channel(self, number: int) -> str:
        """Return the name of a channel."""
        token, topic = divmod(number, len(self.topics))
        return f"{self.token(token)}.{self.categories[topic]}"


def catalogue_of(file: str | Path | None) -> Catalogue:
    """Return the catalogue of a file, or Odin's. Raises CatalogueError."""
    return default_catalogue() if file is None else load_catalogue(Path(file).read_text("utf-8"))


def names_for(workload: Workload, catalogue_file: Path | None = None) -> Names:
    """Return the names of a workload, in the first topics of the catalogue.

    Tokens begin with a random prefix, so that records of earlier runs do not match.
    """
    topics = list(catalogue_of(catalogue_file).topics.values())[: workload.topics]
    return Names(
        f"B{secrets.token_hex(3)}-",
        [topic.category for topic in topics],
        [topic.name for topic in topics],
        None if catalogue_file is None else str(catalogue_file),
    )


class Disturbance(Enum):
    """The disturbance of the affected connections when the measurement begins."""

    NONE = "none"
    DROP = "drop"  # cut off; all reconnect at once to resume
    STALL = "stall"  # stop reading
    AWAY = "away"  # cut off; reconnect to resume after `away` records


class Transport(StrEnum):
    """The transport of messages to clients."""

    WEBSOCKET = "websocket"
    EVENTS = "events"
    """Server-Sent Events."""


@attrs.frozen
class Run:
    """One measurement."""

    label: str
    """The name of the run in reports."""
    connections: int = 1000
    """The number of connections."""
    connect_rate: float = 1500
    """Connects per second."""
    in_flight: int = 1000
    """Maximum number of concurrent connects."""
    connect_grace: float = 60
    """Seconds that connecting may take in addition to the time at `connect_rate`."""
    reconnect_timeout: float = 60
    """Seconds in which disconnected clients must be live again."""
    rate: float = 100
    """Records per second; 0 for none."""
    burst: int = 1
    """Records published at once."""
    record_bytes: int = 330
    """Size of a record's value in bytes."""
    broadcast_rate: float = 20
    """WS_MAX_BROADCAST_RATE of the server."""
    events: bool = False
    """True to publish generated events instead of records of `record_bytes`."""
    frames: str = "single"
    """"single" or "batch"."""
    deflate: bool = False
    """True if clients offer permessage-deflate."""
    transport: Transport = Transport.WEBSOCKET
    workload: Workload = attrs.field(factory=Workload)
    affected: int = 0
    """The number of disturbed connections."""
    away: int = 0
    """Records published while the affected clients are disconnected."""
    away_rate: float = 10_000
    """Records per second during the disconnection."""
    settings: Mapping[str, str] = attrs.field(factory=dict)
    """Settings of the server for this run."""
    disturbance: Disturbance = Disturbance.NONE
    stream_first: bool = False
    """True if publishing begins before the first connect."""
    warmup: float = 3
    """Seconds between the last connect and the measurement."""
    seconds: float = 15
    """Seconds of the measurement."""


@attrs.frozen
class Scenario:
    """Runs that are compared with the first run."""

    help: str
    runs: tuple[Run, ...]

    def with_options(self, options: Mapping[str, Any]) -> Scenario:
        """Return the scenario with other numbers."""
        return attrs.evolve(self, runs=tuple(_evolved(run, options) for run in self.runs))

    def within(self, catalogue: Catalogue) -> Scenario:
        """Return the same scenario with the catalogue's topics; generated events use all topics."""
        runs = []
        for run in self.runs:
            topics = len(catalogue.topics) if run.events else run.workload.topics
            workload = attrs.evolve(run.workload, topics=topics).within(catalogue)
            runs.append(attrs.evolve(run, workload=workload))
        return attrs.evolve(self, runs=tuple(runs))


def _evolved(run: Run, options: Mapping[str, Any]) -> Run:
    # Zero connections or records per second stay zero.
    kept = {name for name in ("connections", "rate") if not getattr(run, name)}
    changed = {name: value for name, value in options.items() if name not in {*kept, "clients"}}
    if changed.get("events"):
        # Generated events are in all topics, not only in the scenario's channels.
        changed["workload"] = EVENTS
    if run.affected and "clients" in options:
        # The number of undisturbed clients does not change.
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
        "One channel, all clients subscribed to it, evenly spaced records.", (Run("steady"),)
    ),
    "bytes": Scenario(
        "Generated events to subscribers of *.*: single frames and batches, plain and compressed.",
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
        "The records of `steady`, a second's worth at once.",
        (Run("evenly"), Run("in bursts", burst=100)),
    ),
    "storm": Scenario(
        "Most clients are cut off at once and resume during the stream.",
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
        "Clients whose absence exceeds the history resume together.",
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
                reconnect_timeout=300,
                rate=200,
                workload=Workload(tokens=50),
                seconds=10,
            ),
        ),
    ),
    "ingest": Scenario(
        "Many records with few deliveries: 10 subscribers of 1% of 1,000 tokens.",
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
        "Memory over time: ten minutes of `tokens`.",
        (Run("soak", workload=TOKENS, rate=20, warmup=10, seconds=600),),
    ),
    "tokens": Scenario(
        "10,000 channels by Zipf's law, 20 per subscriber, some patterns.",
        (Run("tokens", workload=TOKENS, rate=20),),
    ),
    "patterns": Scenario(
        "800 channels, one pattern per subscriber.",
        (Run("patterns", workload=Workload(tokens=100, topics=8, patterned=1.0)),),
    ),
    "filters": Scenario(
        "1,000 subscribers with 50 distinct filters, compared with none.",
        (
            Run("no filter", rate=200),
            Run("all met", rate=200, workload=Workload(filters=50)),
            Run("half met", rate=200, workload=Workload(filters=50, thresholds=True)),
        ),
    ),
    "sse": Scenario(
        "1,000 subscribers over Server-Sent Events, compared with WebSockets.",
        (
            Run("WebSocket"),
            Run("events", transport=Transport.EVENTS),
            Run("WebSocket, batches", frames="batch"),
            Run("events, batches", transport=Transport.EVENTS, frames="batch"),
        ),
    ),
    "slow": Scenario(
        "Latency of the others while 1% of the clients stop reading.",
        (
            Run("all read"),
            Run("1% do not", affected=10, disturbance=Disturbance.STALL),
        ),
    ),
    "connect": Scenario(
        "Connects per second, idle and with 10 records per second to all.",
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
        "CPU without connections, and memory per idle connection.",
        (
            Run("nobody", connections=0, rate=0, seconds=20),
            Run("idle connections", rate=0, seconds=10),
        ),
    ),
}

# Suites have limits for their figures; `suite` has their runs.
SUITES: Final[Mapping[str, str]] = {
    "short": "Suite: the project's promises, in three minutes.",
    "all": "Suite: all of the project's promises, in half an hour.",
}
