"""`python -m odin_ws.bench.load`: a process that opens connections and reads their messages.

Standard input has the plan and then commands, standard output the results, as lines of JSON.
"""

from __future__ import annotations

import resource
import select
import sys
import time
from typing import Any, Final

import numpy as np
import orjson

from odin_ws.bench.compiled import compiled_like
from odin_ws.bench.connections import Connections, Phase
from odin_ws.bench.filtered_numbers import matched
from odin_ws.bench.histogram import quantiles
from odin_ws.bench.messages import LoadPlan, Reader, read_plan, send_event
from odin_ws.bench.socket_drain import Ready, drain
from odin_ws.bench.subscriptions import subscriptions
from odin_ws.bench.tables import UNKNOWN, Problem, Tables
from odin_ws.bench.workload import Transport

__all__ = ["main"]

# Seconds between two status events.
_STATUS_SECONDS: Final = 0.5

# Maximum wait in compiled code, in seconds.
_TICK_SECONDS: Final = 0.1


class Load:
    """The connections of this process, their received messages, and commands for both."""

    def __init__(self, plan: LoadPlan, reader: Reader) -> None:
        self._plan = plan
        self._reader = reader
        chosen = subscriptions(plan.workload, plan.names, plan.total)
        mine = chosen[plan.first : plan.first + plan.count]
        channels = [subscription.channels for subscription in mine]
        starts = np.cumsum([0, *map(len, channels)])
        affected = max(0, min(plan.count, plan.affected - plan.first))
        self._affected = range(affected)
        self._tables = Tables.empty(
            starts,
            np.concatenate([*channels, np.zeros(0, np.int64)]),
            np.array([int(number < affected) for number in range(plan.count)], np.int64),
            topics=plan.workload.topics,
            partitions=plan.partitions,
            thresholds=np.array(
                [plan.workload.threshold(plan.first + number) for number in range(plan.count)],
                np.int64,
            ),
            filters=plan.workload.filters,
            events=plan.transport == Transport.EVENTS,
        )
        if plan.from_start:
            self._tables.numbers[:] = 0
        self._epoll = select.epoll()
        self._ready = Ready.empty(self._epoll.fileno(), _raise_descriptor_limit())
        self._epoll.register(sys.stdin.fileno(), select.EPOLLIN)
        self._connections = Connections(plan, mine, self._epoll, self._ready, self._tables)
        self._latency_before = self._tables.latency.copy()
        self._next_status = 0.0
        self._settle_until: float | None = None
        self._settle_seconds = 0.0
        self._settled = 0
        self._published = np.zeros(0, np.int64)
        # Compiles the code, or loads it from disk, before the first message and the measurement.
        self._drain = compiled_like(drain, self._ready, self._tables, 1)
        self._drain(self._ready, self._tables, 1)
        nothing = np.zeros(0, np.int64)
        matched(nothing, plan.workload.filters, nothing)

    def run(self) -> None:
        """Run commands until `finish` or until standard input is closed."""
        send_event(event="ready")
        while not self._reader.ended:
            wait = min(self._connections.start_due(), _TICK_SECONDS)
            until = time.time() + wait
            count = self._drain(self._ready, self._tables, int(until * 1_000_000))
            for descriptor in self._ready.attention[:count].tolist():
                if descriptor == sys.stdin.fileno():
                    for line in self._reader.lines():
                        self._run_command(orjson.loads(line))
                else:
                    self._connections.handle(descriptor)
            if self._tables.other_frames.used[1]:
                self._connections.handle_other_frames()
            now = time.monotonic()
            if now >= self._next_status:
                self._next_status = now + _STATUS_SECONDS
                self._send_status()
            if self._settle_until is not None and self._is_settled(now, self._settle_until):
                self._send_result()
                return

    def _run_command(self, command: dict[str, Any]) -> None:
        match command:
            case {"do": "connect"}:
                self._connections.connect(range(self._plan.count))
                self._send_done()
            case {"do": "drop"}:
                self._connections.drop(self._affected)
                self._send_done()
            case {"do": "cut_off"}:
                self._connections.cut_off(self._affected)
                self._send_done()
            case {"do": "reconnect"}:
                self._published = np.array(command["published"], np.int64)
                self._connections.reconnect()
                self._send_done()
            case {"do": "stall"}:
                self._connections.stall(self._affected)
                self._send_done()
            case {"do": "measure"}:
                self._tables.latency[:] = 0
                self._tables.worst[:] = 0
                self._latency_before[:] = 0
                self._send_totals()
            case {"do": "measured"}:
                self._send_totals()
            case {"do": "settle"}:
                self._published = np.array(command["published"], np.int64)
                self._settle_seconds = command["seconds"]
                self._settle_until = time.monotonic() + self._settle_seconds

    def _is_settled(self, now: float, until: float) -> bool:
        """Return whether all messages have arrived, or none has arrived for a while."""
        received = int(self._tables.received.sum())
        if received != self._settled:
            self._settled, self._settle_until = received, now + self._settle_seconds
            return not self._missing()
        return now >= until or not self._missing()

    def _send_done(self) -> None:
        self._send_status()
        send_event(event="done")

    def _missing(self) -> int:
        """Return the number of missing deliveries of the last record of each channel."""
        tables = self._tables
        alive = self._connections.phases == Phase.SUBSCRIBED
        if self._plan.affected and not self._plan.positions:
            alive[self._affected] = False  # stalled connections do not read
        each = np.diff(tables.starts)
        counted = np.repeat(alive, each) & (tables.numbers != UNKNOWN)
        filters, thresholds = self._plan.workload.filters, np.repeat(tables.thresholds, each)
        published = matched(self._published[tables.keys], filters, thresholds)
        behind = published - matched(tables.numbers, filters, thresholds)
        return int(behind[counted].clip(0).sum())

    def _send_status(self) -> None:
        tables, connections = self._tables, self._connections
        interval = tables.latency - self._latency_before
        self._latency_before[:] = tables.latency
        send_event(
            event="status",
            at=time.monotonic(),
            received=tables.received.sum(),
            subscribed=connections.subscribed,
            missing=self._missing() if len(self._published) else 0,
            latency=quantiles(interval.sum(axis=0), (0.5, 0.99)),
            subscribed_at=connections.subscribed_at,
        )

    def _send_totals(self) -> None:
        tables = self._tables
        send_event(
            event="totals",
            received=tables.received,
            worst=tables.worst,
            latency=tables.latency,
            volume=tables.volume[0],
            cpu=time.process_time(),
            at=time.monotonic(),
        )

    def _send_result(self) -> None:
        connections = self._connections
        problems = {
            problem.name.lower(): int(self._tables.problems[problem]) for problem in Problem
        }
        send_event(
            event="result",
            received=self._tables.received,
            problems={**problems, "missing": self._missing(), "rejected": connections.rejected},
            closes=connections.closes,
            rejected_connections=connections.rejected_connections,
        )


def _raise_descriptor_limit() -> int:
    """Raise the descriptor limit as far as possible; returns the limit."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(hard, 1 << 20) if hard != resource.RLIM_INFINITY else 1 << 20


def main() -> None:
    """Read the plan, then run commands."""
    plan = read_plan(LoadPlan, sys.stdin.buffer.readline())
    Load(plan, Reader()).run()


if __name__ == "__main__":
    main()
