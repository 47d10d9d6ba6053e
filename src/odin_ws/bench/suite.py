"""The project's promises as runs and figures with limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from odin_ws.bench.cases import Case, Figure
from odin_ws.bench.errors import BenchFailed
from odin_ws.bench.figures import (
    CONNECTS,
    CONNECTS_UNDER_STREAM,
    IDLE_CPU,
    IDLE_MEMORY,
    LATENCY,
    RIGHT,
    STORM,
    against_first,
    bytes_on_the_wire,
    cpu_and_latency,
    crowd_return,
    latency_within,
    many_connections,
    more_memory,
    of_last,
    p99_against_first,
    p99_of_last,
    throughput,
)
from odin_ws.bench.workload import SCENARIOS, TOKENS, Disturbance, Run

__all__ = ["CASES", "cases_of"]

_STEADY: Final = Run("steady")
_EVENLY: Final = attrs.evolve(_STEADY, label="1,000 x 100/s", broadcast_rate=0)
_DEFAULT: Final = attrs.evolve(_STEADY, label="1,000 x 100/s")
_SPARSELY: Final = attrs.evolve(_STEADY, label="1,000 x 20/s", rate=20)
_MILLION: Final = attrs.evolve(_STEADY, label="1,000 x 1,000/s", rate=1000)
_TWELVE: Final = Run(
    "12,000 x 20/s", connections=12_000, connect_rate=3000, rate=20, stream_first=True, warmup=5
)
# By Zipf's law a subscriber receives one record in six, here 5 records per second.
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
            "1,000 x 100/s, broadcast rate 0",
            (_shorter(_EVENLY, 8),),
            cpu_and_latency(1.25),
            baseline=True,
        ),
        Case(
            "1,000 x 20/s, broadcast rate 20",
            (_shorter(_SPARSELY, 8),),
            (cpu_and_latency(2)[0], *latency_within(15, 50)),
            baseline=True,
        ),
        Case("1,000 x 100/s, broadcast rate 20", (_shorter(_DEFAULT, 8),), latency_within(35, 65)),
        Case("1,000 x 1,000/s", (_shorter(_MILLION, 8),), throughput(1_000_000, 150)),
        Case(
            "bytes: 1,000 x 200/s of events",
            tuple(_shorter(size, 5) for size in _BYTES),
            bytes_on_the_wire(),
        ),
        Case("1,000 x 2,000/s, batches, deflate", (_shorter(_BATCHES, 8),), throughput(2e6, 200)),
        Case(
            "1,000 x 60/s, 20 of 10,000 channels",
            # The total of 12,000 connections with 5 messages per second each.
            (_shorter(attrs.evolve(_TOKENS, rate=360), 8),),
            cpu_and_latency(2),
            baseline=True,
        ),
        Case(
            "connecting, idle",
            (_CONNECT_IDLE,),
            CONNECTS,
            baseline=True,
        ),
        Case(
            "connecting, 10/s to all",
            (_CONNECT_STREAM,),
            CONNECTS_UNDER_STREAM,
        ),
        Case("no connections", (_shorter(_IDLE, 10),), (IDLE_CPU,)),
        Case("1,000 idle", (_shorter(_IDLE_CONNECTIONS, 5),), (IDLE_MEMORY,)),
    ),
    "all": (
        Case("1,000 x 100/s, broadcast rate 0", (_EVENLY,), cpu_and_latency(1.25), baseline=True),
        Case(
            "1,000 x 20/s, broadcast rate 20",
            (_SPARSELY,),
            (cpu_and_latency(2)[0], *latency_within(15, 50)),
            baseline=True,
        ),
        Case("1,000 x 100/s, broadcast rate 20", (_DEFAULT,), latency_within(35, 65)),
        Case("1,000 x 1,000/s", (_MILLION,), throughput(1_000_000, 150)),
        Case("bytes: 1,000 x 200/s of events", _BYTES, bytes_on_the_wire()),
        Case("1,000 x 2,000/s, batches, deflate", (_BATCHES,), throughput(2e6, 200)),
        Case("12,000 x 20/s, broadcast rate 20", (_TWELVE,), many_connections(350)),
        Case(
            "12,000 x 20/s, broadcast rate 0",
            (attrs.evolve(_TWELVE, broadcast_rate=0),),
            many_connections(350),
        ),
        Case(
            "12,000 x 5/s, 20 of 10,000 channels",
            (attrs.evolve(_TOKENS, connections=12_000, connect_rate=3000),),
            cpu_and_latency(2),
            baseline=True,
        ),
        Case(
            "10,000 idle",
            (attrs.evolve(_IDLE_CONNECTIONS, connections=10_000, connect_rate=3000),),
            (IDLE_MEMORY,),
        ),
        Case(
            "10,000 idle, deflate",
            tuple(
                attrs.evolve(
                    _IDLE_CONNECTIONS, connections=10_000, connect_rate=3000, deflate=deflate
                )
                for deflate in (False, True)
            ),
            (Figure("more memory each", more_memory, "{:.1f} KB", most=1), RIGHT),
        ),
        Case(
            "10,000 x 10/s",
            (Run("10,000 x 10/s", connections=10_000, connect_rate=3000, rate=10),),
            (
                Figure("memory per connection", of_last("streaming_kb"), "{:.1f} KB", most=24),
                RIGHT,
            ),
        ),
        Case(
            "soak: 10 minutes of `tokens`",
            SCENARIOS["soak"].runs,
            (Figure("memory gained", of_last("growth_percent"), "{:.1f}%", most=2), RIGHT),
        ),
        Case(
            "connecting, idle",
            (attrs.evolve(_CONNECT_IDLE, connections=12_000),),
            CONNECTS,
            baseline=True,
        ),
        Case(
            "connecting, 10/s to all",
            (attrs.evolve(_CONNECT_STREAM, connections=12_000),),
            CONNECTS_UNDER_STREAM,
        ),
        Case(
            "storm: 12,000 of 12,200 resume",
            (_STORM,),
            STORM,
        ),
        Case(
            "crowd: 1,000 back after 120,000 records",
            (_CROWD,),
            crowd_return(30),
        ),
        Case(
            "crowd: 12,000 back after 120,000 records",
            (attrs.evolve(_CROWD, connections=12_200, affected=12_000, connect_grace=90),),
            crowd_return(180),
        ),
        Case(
            "ingest: 10 subscribers on 1% of the tokens",
            SCENARIOS["ingest"].runs,
            (
                Figure("records", of_last("published_rate"), "{:,.0f}/s", least=98_000),
                # The server keeps up, so messages are fresh.
                Figure("p99", p99_of_last, "{:.0f} ms", most=1000),
                RIGHT,
            ),
        ),
        Case("no connections", (_IDLE,), (IDLE_CPU,)),
        Case(
            "filters: 1,000 x 200/s, 50 distinct filters",
            SCENARIOS["filters"].runs,
            (
                Figure(
                    "CPU per record, all met", against_first("record_us", 1), "{:.2f} x", most=1.3
                ),
                Figure(
                    "CPU per record, half met", against_first("record_us", 2), "{:.2f} x", most=1.3
                ),
                Figure("CPU per message, half met", against_first("cpu_us", 2), "{:.2f} x"),
                LATENCY,
                RIGHT,
            ),
        ),
        Case(
            "sse: 1,000 x 100/s over Server-Sent Events",
            SCENARIOS["sse"].runs,
            (
                Figure("CPU per message", against_first("cpu_us", 1), "{:.2f} x", most=1.5),
                Figure("bytes per message", against_first("bytes_each", 1), "{:.2f} x", most=1.5),
                Figure(
                    "CPU per message, batches", against_first("cpu_us", 3), "{:.2f} x", most=1.5
                ),
                Figure("bytes per message, batches", against_first("bytes_each", 3), "{:.2f} x"),
                LATENCY,
                RIGHT,
            ),
        ),
        Case(
            "slow: 1% of 1,000 stop reading",
            SCENARIOS["slow"].runs,
            (
                Figure("p99 of the others", p99_against_first, "{:.2f} x", most=1.2),
                RIGHT,
            ),
        ),
    ),
}


def cases_of(suite: str, texts: Sequence[str] = ()) -> Sequence[Case]:
    """Return the cases of a suite whose names contain one of some texts; all without texts.

    Raises:
        BenchFailed: no case's name contains one of the texts.
    """
    cases = CASES[suite]
    for text in texts:
        if not any(text in case.name for case in cases):
            names = "\n".join(f"  {case.name}" for case in cases)
            raise BenchFailed(f"no case of {suite} is called {text!r}; its cases:\n{names}")
    return [case for case in cases if not texts or any(text in case.name for text in texts)]
