"""The project's promises as runs and figures with limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Final

import attrs

from odin_ws.bench.report import ratio
from odin_ws.bench.results import Measurement
from odin_ws.bench.workload import SCENARIOS, TOKENS, Disturbance, Run

__all__ = ["CASES", "Case", "Figure", "Measured"]


@attrs.frozen
class Measured:
    """A run's measurement, and the baseline's before and after it."""

    server: Measurement
    baselines: Sequence[Measurement]


@attrs.frozen
class Figure:
    """One figure of a case, and its limit.

    `value`: computed from the case's runs, None if there was nothing to measure. `form`: its
    format.
    `most`, `least`: its limits, None for none.
    """

    name: str
    value: Callable[[Sequence[Measured]], float | None]
    form: str
    most: float | None = None
    least: float | None = None

    @property
    def limit(self) -> str:
        """The limit in words."""
        if self.most is not None:
            return f"at most {self.form.format(self.most)}"
        return "" if self.least is None else f"at least {self.form.format(self.least)}"

    def reached(self, measured: Sequence[Measured]) -> bool | None:
        """Return whether the limit is kept; None if there is no limit or no value."""
        value = self.value(measured)
        if value is None or (self.most is None and self.least is None):
            return None
        return (self.most is None or value <= self.most) and (
            self.least is None or value >= self.least
        )


@attrs.frozen
class Case:
    """Runs and their figures; with `baseline` each run is between two of the baseline."""

    name: str
    runs: tuple[Run, ...]
    figures: tuple[Figure, ...]
    baseline: bool = False

    def missed(self, measured: Sequence[Measured]) -> list[str]:
        """Return the names of the figures that are not within their limits."""
        return [one.name for one in self.figures if one.reached(measured) is False]


# ---- figures


def _of_last(name: str) -> Callable[[Sequence[Measured]], float | None]:
    def value(measured: Sequence[Measured]) -> float | None:
        found: float | None = getattr(measured[-1].server, name)
        return found

    return value


def _p50(measured: Sequence[Measured]) -> float | None:
    latency = measured[-1].server.latency
    return None if latency is None else latency.p50


def _p99(measured: Sequence[Measured]) -> float | None:
    latency = measured[-1].server.latency
    return None if latency is None else latency.p99


def _p99_against_the_first(measured: Sequence[Measured]) -> float | None:
    first, last = (_p99([one]) for one in (measured[0], measured[-1]))
    return last / first if first and last else None


def _ratio(measured: Sequence[Measured]) -> float | None:
    return ratio(measured[-1].server, measured[-1].baselines)


def _wrong(measured: Sequence[Measured]) -> float:
    return sum(sum(one.server.problems.values()) for one in measured)


def _against(name: str, run: int) -> Callable[[Sequence[Measured]], float | None]:
    """Return a figure of one run, as a multiple of the first run's."""

    def value(measured: Sequence[Measured]) -> float | None:
        first, other = (getattr(measured[one].server, name) for one in (0, run))
        return other / first if first and other else None

    return value


def _more_memory(measured: Sequence[Measured]) -> float | None:
    """Return how many kilobytes larger an idle connection of the last run is than of the first."""
    first, last = measured[0].server.idle_kb, measured[-1].server.idle_kb
    return None if first is None or last is None else last - first


def _cost(most: float) -> tuple[Figure, ...]:
    return (Figure("CPU against the baseline", _ratio, "{:.2f} x", most=most), _LATENCY, _RIGHT)


def _soon(p50: float, p99: float) -> tuple[Figure, ...]:
    return (
        Figure("p50", _p50, "{:.0f} ms", most=p50),
        Figure("p99", _p99, "{:.0f} ms", most=p99),
        _RIGHT,
    )


def _delivered(least: float, p99: float) -> tuple[Figure, ...]:
    return (
        # The window of the measurement may include a second more or less.
        Figure("delivered", _of_last("delivered"), "{:,.0f}/s", least=0.98 * least),
        Figure("p99", _p99, "{:.0f} ms", most=p99),
        _RIGHT,
    )


def _many(p99: float) -> tuple[Figure, ...]:
    return (
        *_delivered(240_000, p99),
        Figure("all connected after", _of_last("connect_seconds"), "{:.1f} s", most=15),
        Figure("memory", _of_last("rss_after_mb"), "{:.0f} MB", most=320),
    )


def _crowd(seconds: float) -> tuple[Figure, ...]:
    return (
        Figure("all live after", _of_last("back_seconds"), "{:.1f} s", most=seconds),
        Figure("p99 of the others", _of_last("against_calm"), "{:.2f} x", most=2),
        Figure("CPU of scans", _scan_seconds, "{:.1f} s"),
        _RIGHT,
    )


def _bytes() -> tuple[Figure, ...]:
    """Return the figures of the scenario `bytes`."""
    return (
        Figure("bytes, single frames, deflate", _against("bytes_each", 1), "{:.1%}", most=0.75),
        Figure("bytes, batches", _against("bytes_each", 2), "{:.1%}"),
        Figure("bytes, batches, deflate", _against("bytes_each", 3), "{:.1%}", most=0.40),
        Figure("CPU, single frames, deflate", _against("cpu_us", 1), "{:.2f} x", most=1.1),
        Figure("CPU, batches, deflate", _against("cpu_us", 3), "{:.2f} x", most=1.1),
        _RIGHT,
    )


def _scan_seconds(measured: Sequence[Measured]) -> float | None:
    scanned = measured[-1].server.scanned
    return None if scanned is None else scanned.seconds


_RIGHT: Final = Figure("lost, doubled, closed", _wrong, "{:.0f}", most=0)
_LATENCY: Final = Figure("p99", _p99, "{:.0f} ms")


def _connect_ratio(measured: Sequence[Measured]) -> float | None:
    """Return CPU of a connect against the baseline's: accept, one read, one write, in C."""
    last = measured[-1]
    baselines = [one.connect_us for one in last.baselines if one.connect_us]
    own = last.server.connect_us
    return own / fmean(baselines) if own and baselines else None


# Guessed: to be set from a run of `bench all` on a quiet machine.
_GUESSED_CONNECT_RATIO: Final = 12
_GUESSED_STORM_SECONDS: Final = 9

_CONNECTS: Final = (
    Figure("connects", _of_last("connects"), "{:,.0f}/s", least=2000),
    Figure("CPU per connect", _of_last("connect_us"), "{:.0f} us"),
    Figure(
        "CPU per connect against the baseline",
        _connect_ratio,
        "{:.1f} x",
        most=_GUESSED_CONNECT_RATIO,
    ),
    _RIGHT,
)
_IDLE_CPU: Final = Figure("CPU", _of_last("cpu_percent"), "{:.1f}%", most=2)
_IDLE_MEMORY: Final = Figure(
    "memory per idle connection", _of_last("idle_kb"), "{:.1f} KB", most=11
)

# ---- runs

_STEADY: Final = Run("steady")
_EVENLY: Final = attrs.evolve(_STEADY, label="1,000 x 100/s", broadcast_rate=0)
_DEFAULT: Final = attrs.evolve(_STEADY, label="1,000 x 100/s")
_SPARSELY: Final = attrs.evolve(_STEADY, label="1,000 x 20/s", rate=20)
_MILLION: Final = attrs.evolve(_STEADY, label="1,000 x 1,000/s", rate=1000)
_TWELVE: Final = Run(
    "12,000 x 20/s", connections=12_000, connect_rate=3000, rate=20, stream_first=True, warmup=5
)
# By Zipf's law a subscriber gets one record in six: 5 per second of these.
_TOKENS: Final = Run("tokens", workload=TOKENS, rate=30)
_BYTES: Final = SCENARIOS["bytes"].runs
_BATCHES: Final = attrs.evolve(_BYTES[-1], label="1,000 x 2,000/s", rate=2000)
_IDLE, _IDLE_CONNECTIONS = SCENARIOS["idle"].runs
_CONNECT_IDLE, _CONNECT_STREAM = SCENARIOS["connect"].runs
(_CROWD,) = SCENARIOS["crowd"].runs
_STORM: Final = Run(
    "storm",
    connections=12_200,
    affected=12_000,
    disturbance=Disturbance.DROP,
    connect_rate=3000,
    in_flight=4000,
    rate=10,
    seconds=20,
)


def _shorter(run: Run, seconds: float) -> Run:
    return attrs.evolve(run, seconds=seconds, warmup=2)


CASES: Final[Mapping[str, Sequence[Case]]] = {
    "short": (
        Case(
            "1,000 x 100/s, broadcast rate 0", (_shorter(_EVENLY, 8),), _cost(1.25), baseline=True
        ),
        Case(
            "1,000 x 20/s, broadcast rate 20",
            (_shorter(_SPARSELY, 8),),
            (_cost(2)[0], *_soon(15, 50)),
            baseline=True,
        ),
        Case("1,000 x 100/s, broadcast rate 20", (_shorter(_DEFAULT, 8),), _soon(35, 65)),
        Case("1,000 x 1,000/s", (_shorter(_MILLION, 8),), _delivered(1_000_000, 150)),
        Case("bytes: 1,000 x 200/s of events", tuple(_shorter(one, 5) for one in _BYTES), _bytes()),
        Case("1,000 x 2,000/s, batches, deflate", (_shorter(_BATCHES, 8),), _delivered(2e6, 200)),
        Case(
            "1,000 x 60/s, 20 of 10,000 channels",
            # As many messages as 12,000 connections get at 5 per second.
            (_shorter(attrs.evolve(_TOKENS, rate=360), 8),),
            _cost(2),
            baseline=True,
        ),
        Case(
            "connecting, idle",
            (_CONNECT_IDLE,),
            _CONNECTS,
            baseline=True,
        ),
        Case(
            "connecting, 10/s to all",
            (_CONNECT_STREAM,),
            (Figure("connects", _of_last("connects"), "{:,.0f}/s", least=1500), _RIGHT),
        ),
        Case("no connections", (_shorter(_IDLE, 10),), (_IDLE_CPU,)),
        Case("1,000 idle", (_shorter(_IDLE_CONNECTIONS, 5),), (_IDLE_MEMORY,)),
    ),
    "all": (
        Case("1,000 x 100/s, broadcast rate 0", (_EVENLY,), _cost(1.25), baseline=True),
        Case(
            "1,000 x 20/s, broadcast rate 20",
            (_SPARSELY,),
            (_cost(2)[0], *_soon(15, 50)),
            baseline=True,
        ),
        Case("1,000 x 100/s, broadcast rate 20", (_DEFAULT,), _soon(35, 65)),
        Case("1,000 x 1,000/s", (_MILLION,), _delivered(1_000_000, 150)),
        Case("bytes: 1,000 x 200/s of events", _BYTES, _bytes()),
        Case("1,000 x 2,000/s, batches, deflate", (_BATCHES,), _delivered(2e6, 200)),
        Case("12,000 x 20/s, broadcast rate 20", (_TWELVE,), _many(350)),
        Case(
            "12,000 x 20/s, broadcast rate 0",
            (attrs.evolve(_TWELVE, broadcast_rate=0),),
            _many(350),
        ),
        Case(
            "12,000 x 5/s, 20 of 10,000 channels",
            (attrs.evolve(_TOKENS, connections=12_000, connect_rate=3000),),
            _cost(2),
            baseline=True,
        ),
        Case(
            "10,000 idle",
            (attrs.evolve(_IDLE_CONNECTIONS, connections=10_000, connect_rate=3000),),
            (_IDLE_MEMORY,),
        ),
        Case(
            "10,000 idle, deflate",
            tuple(
                attrs.evolve(
                    _IDLE_CONNECTIONS, connections=10_000, connect_rate=3000, deflate=deflate
                )
                for deflate in (False, True)
            ),
            (Figure("more memory each", _more_memory, "{:.1f} KB", most=1), _RIGHT),
        ),
        Case(
            "10,000 x 10/s",
            (Run("10,000 x 10/s", connections=10_000, connect_rate=3000, rate=10),),
            (
                Figure("memory per connection", _of_last("streaming_kb"), "{:.1f} KB", most=24),
                _RIGHT,
            ),
        ),
        Case(
            "soak: 10 minutes of `tokens`",
            SCENARIOS["soak"].runs,
            (Figure("memory gained", _of_last("growth_percent"), "{:.1f}%", most=2), _RIGHT),
        ),
        Case(
            "connecting, idle",
            (attrs.evolve(_CONNECT_IDLE, connections=12_000),),
            _CONNECTS,
            baseline=True,
        ),
        Case(
            "connecting, 10/s to all",
            (attrs.evolve(_CONNECT_STREAM, connections=12_000),),
            (Figure("connects", _of_last("connects"), "{:,.0f}/s", least=1500), _RIGHT),
        ),
        Case(
            "storm: 12,000 of 12,200 resume",
            (_STORM,),
            (
                Figure(
                    "all reconnected after",
                    _of_last("back_seconds"),
                    "{:.1f} s",
                    most=_GUESSED_STORM_SECONDS,
                ),
                Figure("p99 of the others", _p99, "{:.0f} ms", most=1000),
                _RIGHT,
            ),
        ),
        Case(
            "crowd: 1,000 back after 120,000 records",
            (_CROWD,),
            _crowd(30),
        ),
        Case(
            "crowd: 12,000 back after 120,000 records",
            (attrs.evolve(_CROWD, connections=12_200, affected=12_000, connect_grace=90),),
            _crowd(180),
        ),
        Case(
            "ingest: 10 subscribers on 1% of the tokens",
            SCENARIOS["ingest"].runs,
            (
                Figure("records", _of_last("published_rate"), "{:,.0f}/s", least=98_000),
                # The server keeps up, so messages are fresh.
                Figure("p99", _p99, "{:.0f} ms", most=1000),
                _RIGHT,
            ),
        ),
        Case("no connections", (_IDLE,), (_IDLE_CPU,)),
        Case(
            "filters: 1,000 x 200/s, 50 distinct filters",
            SCENARIOS["filters"].runs,
            (
                Figure("CPU per record, all met", _against("record_us", 1), "{:.2f} x", most=1.3),
                Figure("CPU per record, half met", _against("record_us", 2), "{:.2f} x", most=1.3),
                Figure("CPU per message, half met", _against("cpu_us", 2), "{:.2f} x"),
                _LATENCY,
                _RIGHT,
            ),
        ),
        Case(
            "sse: 1,000 x 100/s over Server-Sent Events",
            SCENARIOS["sse"].runs,
            (
                Figure("CPU per message", _against("cpu_us", 1), "{:.2f} x", most=1.5),
                Figure("bytes per message", _against("bytes_each", 1), "{:.2f} x", most=1.5),
                Figure("CPU per message, batches", _against("cpu_us", 3), "{:.2f} x", most=1.5),
                Figure("bytes per message, batches", _against("bytes_each", 3), "{:.2f} x"),
                _LATENCY,
                _RIGHT,
            ),
        ),
        Case(
            "slow: 1% of 1,000 stop reading",
            SCENARIOS["slow"].runs,
            (
                Figure("p99 of the others", _p99_against_the_first, "{:.2f} x", most=1.2),
                _RIGHT,
            ),
        ),
    ),
}
