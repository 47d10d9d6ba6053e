"""Samples the service's counters once per second, for the charts of the console."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs
import trio

from odin_ws.histogram import Histogram
from odin_ws.lifecycle import ServiceState
from odin_ws.ops.console.series import Series
from odin_ws.service import Service

__all__ = ["SAMPLE_SECONDS", "Sampler"]

# Seconds between two samples. A sample reads counters and no connection: 0.1 ms, independent of
# the number of connections.
SAMPLE_SECONDS: Final = 1.0

_MS: Final = 1000.0

# Decimals of rates and times in JSON.
_DIGITS: Final = 3


@attrs.frozen
class _Counts:
    """The counters of a service at a time of Trio's clock."""

    at: float
    messages: int
    records: Mapping[str, int]
    closed: Mapping[str, int]
    rejected: Mapping[str, int]
    errors: Mapping[str, int]
    ages: Sequence[int]
    delays: Sequence[int]
    delay_seconds: float

    @classmethod
    def of(cls, service: Service) -> _Counts:
        hub, server, loop = service.hub.stats, service.server, service.resources.loop
        sessions = server.stats.sessions
        return cls(
            trio.current_time(),
            hub.messages_sent,
            Counter(hub.received),
            {reason.value.label: count for reason, count in server.stats.closed.items()},
            Counter(server.admission.rejections),
            Counter(sessions.rejected_commands) + Counter(sessions.rejected_names),
            list(hub.age.counts),
            list(loop.delays.counts),
            loop.delays.total,
        )


class Sampler:
    """Keeps the samples of the last quarter of an hour.

    Args:
        service: the sampled service.
        clock: the wall clock.

    Attributes:
        series: the samples.
        drained_from: the connections at the start of the drain; None before.
        draining_since: the start of the drain, by Trio's clock.
    """

    def __init__(self, service: Service, clock: Callable[[], float] = time.time) -> None:
        self.series = Series()
        self.drained_from: int | None = None
        self.draining_since = 0.0
        self._service = service
        self._clock = clock
        self._before = _Counts.of(service)
        self._connections = 0

    async def run(self) -> None:
        """Sample until cancelled, soon after the beginning of each second."""
        while True:
            await trio.sleep(SAMPLE_SECONDS - self._clock() % SAMPLE_SECONDS)
            self.sample()

    def sample(self) -> None:
        """Take one sample."""
        now = _Counts.of(self._service)
        seconds = now.at - self._before.at
        self._notice_drain(now.at)
        # A second wake-up within a second, or a clock set back: the next sample includes this one.
        at = int(self._clock())
        if seconds <= 0 or at <= self.series.last:
            return
        self.series.append(at, self._gauges(now, seconds), self._counts(now))
        self._before = now

    def _notice_drain(self, now: float) -> None:
        service = self._service
        if service.lifecycle.state < ServiceState.DRAINING:
            self._connections = service.server.admission.active
        elif self.drained_from is None:
            self.drained_from, self.draining_since = self._connections, now

    def _gauges(self, now: _Counts, seconds: float) -> dict[str, float | None]:
        service, before = self._service, self._before
        resources, server = service.resources, service.server
        ages = _since(now.ages, before.ages)
        delays = _since(now.delays, before.delays)
        bounds = service.hub.stats.age.bounds
        gauges: dict[str, float | None] = {
            "messages_out": round((now.messages - before.messages) / seconds, _DIGITS),
            "age_p50_ms": _in_ms(quantile(bounds, ages, 0.5)),
            "age_p99_ms": _in_ms(quantile(bounds, ages, 0.99)),
            "connections": server.admission.active,
            "cpu_percent": _rounded(resources.cpu_percent),
            "memory_bytes": resources.memory_in_use,
            "loop_delay_mean_ms": _in_ms(
                (now.delay_seconds - before.delay_seconds) / sum(delays) if sum(delays) else None
            ),
            "loop_delay_max_ms": _in_ms(_highest(resources.loop.delays, delays)),
            "replays": server.replays.active,
            "scans": server.scans.stats.active,
            "paced": service.source_status.paced,
        }
        for topic in service.hub.stream.topics:
            records = now.records.get(topic, 0) - before.records.get(topic, 0)
            gauges[f"records_in:{topic}"] = round(records / seconds, _DIGITS)
            gauges[f"lag:{topic}"] = service.source_status.lag.get(topic)
        return gauges

    def _counts(self, now: _Counts) -> dict[str, float]:
        before = self._before
        return {
            **_more("closed", now.closed, before.closed),
            **_more("rejected", now.rejected, before.rejected),
            **_more("errors", now.errors, before.errors),
        }


def _more(kind: str, now: Mapping[Any, int], before: Mapping[Any, int]) -> dict[str, float]:
    """Return the increases by `kind:label`; labels without are left out."""
    return {
        f"{kind}:{label}": count - before.get(label, 0)
        for label, count in now.items()
        if count > before.get(label, 0)
    }


def _since(now: Sequence[int], before: Sequence[int]) -> list[int]:
    return [count - earlier for count, earlier in zip(now, before, strict=True)]


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """Return a quantile of counts by bucket, interpolated within its bucket; None without values.

    For the last bucket, which has no upper bound, returns the highest bound.
    """
    rank = share * sum(counts)
    if not rank:
        return None
    seen, lower = 0, 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if count and seen + count >= rank:
            return lower + (bound - lower) * (rank - seen) / count
        seen, lower = seen + count, bound
    return lower


def _highest(values: Histogram, counts: Sequence[int]) -> float | None:
    """Return the upper bound of the highest bucket with a value; None without values.

    For the last bucket, which has no upper bound, returns the maximum since the start.
    """
    filled = [index for index, count in enumerate(counts) if count]
    if not filled:
        return None
    return values.bounds[filled[-1]] if filled[-1] < len(values.bounds) else values.maximum


def _in_ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(_MS * seconds, _DIGITS)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)
