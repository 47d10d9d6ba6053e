"""The results of one run: counts and times as measured, and figures derived from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from odin_ws.bench.histogram import quantiles

__all__ = ["QUANTILES", "Latency", "Measurement", "Sample", "Scanned"]

# With fewer connections, memory per connection would be that of everything else.
_ENOUGH = 50

QUANTILES = (0.5, 0.9, 0.99, 0.999)


@attrs.frozen
class Sample:
    """How it stood at one moment: seconds since measuring began, and since the sample before.

    `delivered`: messages a second. `p50`, `p99`: milliseconds, None without a message.
    `rss`: bytes of the server.
    """

    at: float
    delivered: float
    p50: float | None
    p99: float | None
    rss: int


@attrs.frozen
class Latency:
    """From publish to receipt, in milliseconds."""

    p50: float
    p90: float
    p99: float
    p999: float
    worst: float

    @classmethod
    def of(cls, counts: NDArray[np.int64], worst_us: int) -> Latency | None:
        """The latency of a histogram; None of an empty one."""
        if not counts.any():
            return None
        worst = worst_us / 1000
        # The bin of the largest ends beyond it.
        p50, p90, p99, p999 = (min(found, worst) for found in quantiles(counts, QUANTILES))
        return cls(p50, p90, p99, p999, worst)


@attrs.frozen
class Scanned:
    """The cost of the server's scans of the log, by its own metrics."""

    scans: int
    records: int
    seconds: float
    """CPU time of finding out who wants each record, and of decoding those that are wanted."""


@attrs.frozen(kw_only=True)
class Measurement:
    """One run. Times in seconds, memory in bytes; `received` while it was measured.

    `connect_cpu`: seconds that the server took until all were subscribed.

    `latency`: of those that were not disturbed, `counts` its histogram. `load_cpu`, `publisher_cpu`
    and `others_cpu` are shares: of a core, and of the cores that the server does not have to
    itself. `published`: records in all, `published_rate`: a second. `back_seconds`: until all that
    were cut off were subscribed again, or live again where they were away for long. `calm`: the
    latency before they came back. `scanned`: what scans of the log took meanwhile. `problems`: what
    must never happen, by name.
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
        """Messages a second."""
        return self.received / self.seconds

    @property
    def cpu_us(self) -> float | None:
        """CPU microseconds of the server for each delivered message."""
        return self.cpu_seconds / self.received * 1e6 if self.received else None

    @property
    def bytes_each(self) -> float | None:
        """Bytes on the wire for each delivered message, with the headers of WebSocket frames."""
        return self.bytes / self.received if self.received else None

    @property
    def connects(self) -> float | None:
        """Connections made and subscribed a second."""
        return self.subscribed / self.connect_seconds if self.connect_seconds else None

    @property
    def connect_us(self) -> float | None:
        """CPU microseconds of the server for each connect, from accept to the first ack."""
        if self.subscribed < _ENOUGH:
            return None
        return self.connect_cpu / self.subscribed * 1e6

    @property
    def against_calm(self) -> float | None:
        """The p99 of those that were not disturbed, as a multiple of what it was before."""
        return self.latency.p99 / self.calm.p99 if self.latency and self.calm else None

    @property
    def idle_kb(self) -> float | None:
        """Resident kilobytes of the server for each connection, once all are there."""
        return self._each(self.rss_connected)

    @property
    def streaming_kb(self) -> float | None:
        """The same in the end; the kept past is in it."""
        return self._each(self.rss_after)

    @property
    def rss_after_mb(self) -> float:
        """Resident memory of the server in the end, in megabytes."""
        return self.rss_after / 1e6

    @property
    def cpu_percent(self) -> float:
        """Of one core, what the server took."""
        return 100 * self.cpu_seconds / self.seconds

    @property
    def growth_percent(self) -> float | None:
        """By how much memory grew from the second quarter of the run to the last."""
        quarter = len(self.samples) // 4
        if not quarter:
            return None
        early = fmean(sample.rss for sample in self.samples[quarter : 2 * quarter])
        late = fmean(sample.rss for sample in self.samples[-quarter:])
        return 100 * (late / early - 1)

    @property
    def failed(self) -> bool:
        """Whether something was lost, doubled or out of order, or somebody was not served."""
        return any(self.problems.values())

    def _each(self, rss: int) -> float | None:
        if self.subscribed < _ENOUGH:
            return None
        return (rss - self.rss_before) / self.subscribed / 1000

    def to_json(self) -> dict[str, Any]:
        """All of it but the histogram, with what follows from it."""
        fields = attrs.asdict(self, filter=lambda field, _value: field.name != "counts")
        derived = (
            *("delivered", "cpu_us", "cpu_percent", "connects", "connect_us", "against_calm"),
            *("idle_kb", "streaming_kb", "growth_percent"),
        )
        return fields | {name: getattr(self, name) for name in derived}
