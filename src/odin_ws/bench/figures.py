"""The figures of a suite's cases: their computation from measurements, and their limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Final

from odin_ws.bench.cases import Figure, Measured
from odin_ws.bench.report import ratio

__all__ = [
    "CONNECTS",
    "CONNECTS_UNDER_STREAM",
    "IDLE_CPU",
    "IDLE_MEMORY",
    "LATENCY",
    "RIGHT",
    "STORM",
    "against_first",
    "bytes_on_the_wire",
    "cpu_and_latency",
    "crowd_return",
    "latency_within",
    "many_connections",
    "more_memory",
    "of_last",
    "p99_against_first",
    "p99_of_last",
    "throughput",
]

# ---- values


def of_last(name: str) -> Callable[[Sequence[Measured]], float | None]:
    """Return a function that returns an attribute of the Measurement of a case's last run."""

    def value(measured: Sequence[Measured]) -> float | None:
        found: float | None = getattr(measured[-1].server, name)
        return found

    return value


def p50_of_last(measured: Sequence[Measured]) -> float | None:
    """Return the median latency of the last run."""
    latency = measured[-1].server.latency
    return None if latency is None else latency.p50


def p99_of_last(measured: Sequence[Measured]) -> float | None:
    """Return the 99th percentile of the last run's latency."""
    latency = measured[-1].server.latency
    return None if latency is None else latency.p99


def p99_against_first(measured: Sequence[Measured]) -> float | None:
    """Return the last run's 99th percentile, as a multiple of the first run's."""
    first, last = (p99_of_last([case]) for case in (measured[0], measured[-1]))
    return last / first if first and last else None


def against_first(name: str, run: int) -> Callable[[Sequence[Measured]], float | None]:
    """Return a function that returns an attribute of one run as a multiple of the first run's."""

    def value(measured: Sequence[Measured]) -> float | None:
        first, other = (getattr(measured[one].server, name) for one in (0, run))
        return other / first if first and other else None

    return value


def more_memory(measured: Sequence[Measured]) -> float | None:
    """Return how many kilobytes larger an idle connection of the last run is than of the first."""
    first, last = measured[0].server.idle_kb, measured[-1].server.idle_kb
    return None if first is None or last is None else last - first


def _cpu_ratio(measured: Sequence[Measured]) -> float | None:
    return ratio(measured[-1].server, measured[-1].baselines)


def _connect_ratio(measured: Sequence[Measured]) -> float | None:
    """Return CPU of a connect against the baseline's: accept, one read, one write, in C."""
    last = measured[-1]
    baselines = [baseline.connect_us for baseline in last.baselines if baseline.connect_us]
    own = last.server.connect_us
    return own / fmean(baselines) if own and baselines else None


def _problems(measured: Sequence[Measured]) -> float:
    return sum(sum(case.server.problems.values()) for case in measured)


def _scan_seconds(measured: Sequence[Measured]) -> float | None:
    scanned = measured[-1].server.scanned
    return None if scanned is None else scanned.seconds


# ---- figures

_CONNECTS_PER_SECOND: Final = 2000

# Half of the CPU of a connect before 2026-11-30: 963 us, with a baseline of 51 us. 1.5 times
# Centrifugo's 317 us in the same run gives nearly the same ratio, 9.3.
_CONNECT_RATIO: Final = 9.4

# 6 s on a machine with 3,300 connects per second, scaled to the lower limit of connects.
_STORM_SECONDS: Final = 6 * 3300 / _CONNECTS_PER_SECOND

RIGHT: Final = Figure("lost, doubled, closed", _problems, "{:.0f}", most=0)
LATENCY: Final = Figure("p99", p99_of_last, "{:.0f} ms")
IDLE_CPU: Final = Figure("CPU", of_last("cpu_percent"), "{:.1f}%", most=2)
IDLE_MEMORY: Final = Figure("memory per idle connection", of_last("idle_kb"), "{:.1f} KB", most=11)

CONNECTS: Final = (
    Figure("connects", of_last("connects"), "{:,.0f}/s", least=_CONNECTS_PER_SECOND),
    Figure("CPU per connect", of_last("connect_us"), "{:.0f} us"),
    Figure(
        "CPU per connect against the baseline",
        _connect_ratio,
        "{:.1f} x",
        most=_CONNECT_RATIO,
    ),
    RIGHT,
)
CONNECTS_UNDER_STREAM: Final = (
    Figure("connects", of_last("connects"), "{:,.0f}/s", least=1500),
    RIGHT,
)
STORM: Final = (
    Figure("all reconnected after", of_last("back_seconds"), "{:.1f} s", most=_STORM_SECONDS),
    Figure("p99 of the others", p99_of_last, "{:.0f} ms", most=1000),
    RIGHT,
)


def cpu_and_latency(most: float) -> tuple[Figure, ...]:
    """Return CPU per message against the baseline's, `most` times as much, and latency."""
    return (Figure("CPU against the baseline", _cpu_ratio, "{:.2f} x", most=most), LATENCY, RIGHT)


def latency_within(p50: float, p99: float) -> tuple[Figure, ...]:
    """Return latency with limits in milliseconds."""
    return (
        Figure("p50", p50_of_last, "{:.0f} ms", most=p50),
        Figure("p99", p99_of_last, "{:.0f} ms", most=p99),
        RIGHT,
    )


def throughput(least: float, p99: float) -> tuple[Figure, ...]:
    """Return figures with a lower limit of messages per second and a latency limit in ms."""
    return (
        # The measurement may include the messages of one second more or less.
        Figure("delivered", of_last("delivered"), "{:,.0f}/s", least=0.98 * least),
        Figure("p99", p99_of_last, "{:.0f} ms", most=p99),
        RIGHT,
    )


def many_connections(p99: float) -> tuple[Figure, ...]:
    """Return the figures of 12,000 connections that receive 20 messages per second each."""
    return (
        *throughput(240_000, p99),
        Figure("all connected after", of_last("connect_seconds"), "{:.1f} s", most=15),
        Figure("memory", of_last("rss_after_mb"), "{:.0f} MB", most=320),
    )


def crowd_return(seconds: float) -> tuple[Figure, ...]:
    """Return the figures of the scenario `crowd`: all clients must be live again in time."""
    return (
        Figure("all live after", of_last("back_seconds"), "{:.1f} s", most=seconds),
        Figure("p99 of the others", of_last("against_calm"), "{:.2f} x", most=2),
        Figure("CPU of scans", _scan_seconds, "{:.1f} s"),
        RIGHT,
    )


def bytes_on_the_wire() -> tuple[Figure, ...]:
    """Return the figures of the scenario `bytes`."""
    return (
        Figure(
            "bytes, single frames, deflate", against_first("bytes_each", 1), "{:.1%}", most=0.75
        ),
        Figure("bytes, batches", against_first("bytes_each", 2), "{:.1%}"),
        Figure("bytes, batches, deflate", against_first("bytes_each", 3), "{:.1%}", most=0.40),
        Figure("CPU, single frames, deflate", against_first("cpu_us", 1), "{:.2f} x", most=1.1),
        Figure("CPU, batches, deflate", against_first("cpu_us", 3), "{:.2f} x", most=1.1),
        RIGHT,
    )
