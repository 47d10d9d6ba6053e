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

# Minimum number for memory per connection: with fewer connections, other memory dominates.
_ENOUGH = 50

QUANTILES = (0.5, 0.9, 0.99, 0.999)


@attrs.frozen
class Sample:
    """The state at one moment of the measurement."""

    at: float
    """Seconds since the start of the measurement."""
    delivered: float
    """Messages per second since the previous sample."""
    p50: float | None
    """Highest median latency of a load process, in milliseconds; None without recent messages."""
    p99: float | None
    """Highest 99th percentile of a load process, in milliseconds; None without recent messages."""
    rss: int
    """Resident bytes of the server."""


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
        # The upper bound of the last bin may exceed the largest value.
        p50, p90, p99, p999 = (min(found, worst) for found in quantiles(counts, QUANTILES))
        return cls(p50, p90, p99, p999, worst)


@attrs.frozen
class Scanned:
    """The cost of the server's scans of the log, from the server's metrics."""

    scans: int
    records: int
    seconds: float
    """CPU time of matching records with clients, and of decoding matched ones."""


@attrs.frozen(kw_only=True)
class Measurement:
    """The results of one run. Times are in seconds, sizes in bytes."""

    label: str
    connections: int
    """The number of connections of the run."""
    subscribed: int
    """Connections with an acknowledged subscription."""
    connect_seconds: float
    """Seconds from the first connect to the last subscription."""
    connect_cpu: float
    """CPU seconds of the server until the last subscription."""
    rate: float
    """Records per second that the run publishes."""
    seconds: float
    """The length of the measurement."""
    received: int
    """Messages received during the measurement."""
    bytes: int
    """Bytes of the messages' frames received during the measurement."""
    latency: Latency | None
    """Latency of undisturbed clients; None without messages."""
    calm: Latency | None = None
    """Latency of undisturbed clients before the others reconnected."""
    scanned: Scanned | None = None
    """The cost of scans since the start of the measurement; None if unknown."""
    counts: NDArray[np.int64] = attrs.field(repr=False)
    """The histogram of `latency`."""
    cpu_seconds: float
    """CPU seconds of the server during the measurement."""
    rss_before: int
    """Resident bytes of the server before the first connect."""
    rss_connected: int
    """Resident bytes of the server after the last connect."""
    rss_after: int
    """Resident bytes of the server at the end."""
    load_cpu: float
    """CPU of the busiest load process, as a share of a core."""
    publisher_cpu: float
    """CPU of the publisher, as a share of a core."""
    others_cpu: float
    """Busy share of the cores that are not reserved for the server."""
    published: int
    """All records published."""
    published_rate: float
    """Records published per second."""
    back_seconds: float | None
    """Seconds until all clients that were cut off were subscribed again, or live again after a long
    absence."""
    rejected_connections: Mapping[str, int]
    """Rejected connects, by status or reason."""
    closes: Mapping[str, int]
    """Ended connections, by code or reason."""
    problems: Mapping[str, int]
    """Counts of errors that must never happen, by name."""
    samples: Sequence[Sample] = attrs.field(repr=False)
    """A sample per second."""

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
        """Connections made and subscribed per second."""
        return self.subscribed / self.connect_seconds if self.connect_seconds else None

    @property
    def connect_us(self) -> float | None:
        """The server's CPU microseconds per connect, from accept to the first ack."""
        if self.subscribed < _ENOUGH:
            return None
        return self.connect_cpu / self.subscribed * 1e6

    @property
    def against_calm(self) -> float | None:
        """The p99 of undisturbed clients, as a multiple of their p99 before the disturbance."""
        return self.latency.p99 / self.calm.p99 if self.latency and self.calm else None

    @property
    def idle_kb(self) -> float | None:
        """The server's resident kilobytes per connection, after the last connect."""
        return self._each(self.rss_connected)

    @property
    def streaming_kb(self) -> float | None:
        """The server's resident kilobytes per connection at the end, including history."""
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
        """True if a message was lost, doubled or out of order, or a client was not served."""
        return any(self.problems.values())

    def _each(self, rss: int) -> float | None:
        if self.subscribed < _ENOUGH:
            return None
        return (rss - self.rss_before) / self.subscribed / 1000

    def to_json(self) -> dict[str, Any]:
        """Return all fields except the histogram, with derived figures."""
        fields = attrs.asdict(self, filter=lambda field, _value: field.name != "counts")
        derived = (
            *("delivered", "cpu_us", "record_us", "cpu_percent", "connects", "connect_us"),
            "against_calm",
            *("idle_kb", "streaming_kb", "growth_percent"),
        )
        return fields | {name: getattr(self, name) for name in derived}
