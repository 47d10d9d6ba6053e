"""The outcome of a hostile run, and the promises that it broke."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import attrs

from odin_ws.bench.results import Measurement
from odin_ws.settings.handshake import PUBLIC_CONNECTIONS

__all__ = ["Outcome", "ServerState", "report"]

# Growth after the first hostile clients; a leak would grow with each of them.
_MAX_GROWTH: Final = 0.1
_MOST_P99: Final = 2.0

# The connections of the ops port at a time.
_OPS_CONNECTIONS: Final = 64

# Rejections of an address that has reached its limit.
_PER_ADDRESS_REASONS: Final = ("max_connections_per_ip", "connect_rate_per_ip")


@attrs.frozen
class ServerState:
    """The server at rest, after the hostile clients have left: resident bytes, and connections."""

    rss: int
    connections: int


@attrs.frozen
class Outcome:
    """`beside`: both measurements. `states`: before, and after each. `log`: everything printed.

    `proxied`: connections that a trusted proxy passed on for one client at a time. `on_ops_port`:
    hostile clients of the ops port at a time.
    """

    alone: Measurement
    beside: Sequence[Measurement]
    states: Sequence[ServerState]
    counts: Mapping[str, Mapping[str, int]]
    log: str
    proxied: int = 0
    on_ops_port: int = 0

    @property
    def tracebacks(self) -> int:
        """Tracebacks in the log, both Python's own and those in JSON lines."""
        return self.log.count("Traceback (most recent call last)") + self.log.count('"exception":')

    @property
    def broken(self) -> list[str]:
        """A sentence for each broken promise."""
        found = []
        for one in (self.alone, *self.beside):
            found += [
                f"{one.label}: {count} {name}" for name, count in one.problems.items() if count
            ]
            if one.latency is None:
                found.append(f"{one.label}: nothing was received")
        worst = max((one.latency.p99 for one in self.beside if one.latency), default=0.0)
        if self.alone.latency and worst > _MOST_P99 * self.alone.latency.p99:
            found.append(f"p99 is {worst / self.alone.latency.p99:.1f} times that without bad ones")
        if self.growth > _MAX_GROWTH:
            found.append(
                f"memory has grown by {self.growth:.0%} between the first time and the second"
            )
        if self.states[-1].connections:
            found.append(f"{self.states[-1].connections} connections are left")
        if self.tracebacks or any(self.counts["errors"].values()):
            found.append(f"{self.tracebacks} tracebacks in the log, {dict(self.counts['errors'])}")
        limited = any(self.counts["rejected"].get(reason) for reason in _PER_ADDRESS_REASONS)
        if self.proxied > PUBLIC_CONNECTIONS and not limited:
            found.append(f"none of {self.proxied} connections of one proxied client was rejected")
        if self.on_ops_port > _OPS_CONNECTIONS and not self.counts["rejected on the ops port"]:
            found.append(f"none of {self.on_ops_port} clients of the ops port was rejected")
        return found

    @property
    def growth(self) -> float:
        """Growth of resident memory between the two measurements beside hostile clients."""
        *_, first, second = self.states
        return second.rss / first.rss - 1


def report(outcome: Outcome) -> Iterator[str]:
    """The figures, as lines."""
    yield f"{'':16} {'received':>10} {'p50 ms':>7} {'p99 ms':>7} {'worst':>7} {'CPU':>5} problems"
    for one in (outcome.alone, *outcome.beside):
        if one.latency is not None:
            yield (
                f"{one.label:16} {one.received:10,} {one.latency.p50:7.0f} {one.latency.p99:7.0f} "
                f"{one.latency.worst:7.0f} {one.cpu_percent:4.0f}% {sum(one.problems.values()):8}"
            )
    states = ", ".join(f"{state.rss / 1e6:.1f} MB" for state in outcome.states)
    peak = max(sample.rss for one in outcome.beside for sample in one.samples)
    yield f"memory before, after, after once more: {states}; at most {peak / 1e6:.1f} MB"
    yield f"connections left: {outcome.states[-1].connections}; tracebacks: {outcome.tracebacks}"
    for name in ("rejected", "closed", "rejected on the ops port"):
        counts = sorted(outcome.counts[name].items(), key=lambda item: -item[1])
        yield f"{name}: " + ", ".join(f"{count} {reason}" for reason, count in counts)
