"""The results of one run: measured counts and times, and derived figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from odin_ws.bench.histogram import quantiles

__all__ = ["QUANTILES", "Latency", "Measurement", "Sample", "Scanned"]

# With fewer connections, memory per connection would mostly be other memory.
_ENOUGH = 50

QUANTILES = (0.5, 0.9, 0.99, 0.999)


@attrs.frozen
class Sample:
    """The state at one moment: seconds since the measurement began and since the last sample.

    `delivered`: messages per second. `p50`, `p99`: milliseconds, None without messages. `rss`: the
    server's bytes.
    """

    at: float
    delivered: float
    p50: float | None
    p99: float | None
    rss: int


@attrs.frozen
class Latency:
    """Latency from publish to receipt, in milliseconds."""

    p50: float
    p90: float
    p99: float
    p999: float
    worst: float

    @classmethod
    def of(cls, counts: NDArray[np.int64], worst_us: int) -> Latency | None:
        """Return the latencies of a histogram; None if it is empty."""
        if not counts.any():
            return None
        worst = worst_us / 1000
        # The bin of the largest value ends above it.
        p50, p90, p99, p999 = (min(found, worst) for found in quantiles(counts, QUANTILES))
        return cls(p50, p90, p99, p999, worst)


@attrs.frozen
class Scanned:
    """The cost of the server's scans of the log, by its own metrics."""

    scans: int
    records: int
    seconds: float
    """CPU time of matching records with clients, and of decoding matched ones."""


@attrs.frozen(kw_only=True)
class Measurement:
    """One run. Times in seconds, memory in bytes; `received` during the measurement.

    `connect_cpu`: the server's CPU seconds until all were subscribed.

    `latency`: of undisturbed clients, `counts` its histogram. `load_cpu`, `publisher_cpu` and
    `others_cpu`: shares of a core, and of the cores that are not reserved for the server.
    `published`: all records, `published_rate`: per second. `back_seconds`: until all clients that
    were cut off were subscribed again, or live again after a long absence. `calm`: the latency
    before they reconnected. `scanned`: the cost of scans meanwhile. `problems`: counts of errors
    that must never happen, by name.
    """

    label: str
    connections: int
    subscribed: int
    connect_seconds: float
    connect_cpu: float
    rate: float
    seconds: float
    received: int
    bytes: int
    latency: Latency | None
    calm: Latency | None = None
    scanned: Scanned | None = None
    counts: NDArray[np.int64] = attrs.field(repr=False)
    cpu_seconds: float
    rss_before: int
    rss_connected: int
    rss_after: int
    load_cpu: float
    publisher_cpu: float
    others_cpu: float
    published: int
    published_rate: float
    back_seconds: float | None
    rejected_connections: Mapping[str, int]
    closes: Mapping[str, int]
    problems: Mapping[str, int]
    samples: Sequence[Sample] = attrs.field(repr=False)

    @property
    def delivered(self) -> float:
        """Messages per second."""
        return self.received / self.seconds

    @property
    def cpu_us(self) -> float | None:
        """The server's CPU microseconds per delivered message."""
        return self.cpu_seconds / self.received * 1e6 if self.received else None

    @property
    def record_us(self) -> float | None:
        """The server's CPU microseconds per published record."""
        records = self.published_rate * self.seconds
        return self.cpu_seconds / records * 1e6 if records else None

    @property
    def bytes_each(self) -> float | None:
        """Bytes on the wire per delivered message, with frame headers."""
        return self.bytes / self.received if self.received else None

    @property
    def connects(self) -> float | None:
        """Connections that were made and subscribed per second."""
        return self.subscribed / self.connect_seconds if self.connect_seconds else None

    @property
    def connect_us(self) -> float | None:
        """The server's CPU microseconds per connect, from accept to the first ack."""
        if self.subscribed < _ENOUGH:
            return None
        return self.connect_cpu / self.subscribed * 1e6

    @property
    def against_calm(self) -> float | None:
        """The p99 of undisturbed clients, as a multiple of its value before."""
        return self.latency.p99 / self.calm.p99 if self.latency and self.calm else None

    @property
    def idle_kb(self) -> float | None:
        """The server's resident kilobytes per connection, once all are connected."""
        return self._each(self.rss_connected)

    @property
    def streaming_kb(self) -> float | None:
        """The same at the end, including history."""
        return self._each(self.rss_after)

    @property
    def rss_after_mb(self) -> float:
        """The server's resident memory at the end, in megabytes."""
        return self.rss_after / 1e6

    @property
    def cpu_percent(self) -> float:
        """The server's CPU in percent of a core."""
        return 100 * self.cpu_seconds / self.seconds

    @property
    def growth_percent(self) -> float | None:
        """The growth of memory from the second quarter of the run to the last."""
        quarter = len(self.samples) // 4
        if not quarter:
            return None
        early = fmean(sample.rss for sample in self.samples[quarter : 2 * quarter])
        late = fmean(sample.rss for sample in self.samples[-quarter:])
        return 100 * (late / early - 1)

    @property
    def failed(self) -> bool:
        """Whether a message was lost, doubled or out of order, or a client was not served."""
        return any(self.problems.values())

    def _each(self, rss: int) -> float | None:
        if self.subscribed < _ENOUGH:
            return None
        return (rss - self.rss_before) / self.subscribed / 1000

    def to_json(self) -> dict[str, Any]:
        """Return all of it except the histogram, with derived figures."""
        fields = attrs.asdict(self, filter=lambda field, _value: field.name != "counts")
        derived = (
            *("delivered", "cpu_us", "record_us", "cpu_percent", "connects", "connect_us"),
            "against_calm",
            *("idle_kb", "streaming_kb", "growth_percent"),
        )
        return fields | {name: getattr(self, name) for name in derived}
