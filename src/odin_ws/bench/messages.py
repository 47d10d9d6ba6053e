"""The plans and events between the benchmark and its processes, as lines of JSON."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import attrs
import orjson

from odin_ws.bench.workload import Names, Workload

__all__ = ["LoadPlan", "PublishPlan", "Reader", "read_plan", "send_event", "to_json"]

_READ_BYTES = 1 << 20


@attrs.frozen
class LoadPlan:
    """The connections of one process.

    `first` of `total`, `count` of them; the first `affected` of `total` are disturbed. `positions`:
    clients keep positions, to resume. `subscribe`: False for the baseline, which takes no commands.
    `from_start`: nothing is published before all are subscribed, so they get record 1. `frames`:
    "single" or "batch"; `deflate`: clients offer permessage-deflate; `transport`: see Transport.
    """

    host: str
    port: int
    path: str
    total: int
    first: int
    count: int
    affected: int
    connect_rate: float
    in_flight: int
    workload: Workload
    names: Names
    partitions: int
    subscribe: bool
    positions: bool
    from_start: bool
    frames: str
    deflate: bool
    transport: str


@attrs.frozen
class PublishPlan:
    """What to publish. `rate`: records per second, in bursts of `burst`.

    `events`: records are generated events, otherwise a head and padding.
    """

    brokers: str
    rate: float
    burst: int
    record_bytes: int
    workload: Workload
    names: Names
    events: bool


def to_json(plan: LoadPlan | PublishPlan) -> bytes:
    """Return a plan as a line of JSON."""
    return orjson.dumps(attrs.asdict(plan)) + b"\n"


def read_plan(plan: type[Any], line: bytes) -> Any:
    """Parse a plan from a line."""
    fields = orjson.loads(line)
    fields["workload"] = Workload(**fields["workload"])
    fields["names"] = Names(**fields["names"])
    return plan(**fields)


class Reader:
    """Reads lines of standard input without blocking longer than needed."""

    def __init__(self) -> None:
        self._begun = b""
        self.ended = False

    def lines(self) -> Iterator[bytes]:
        """Yield the whole lines of one read; blocks if there is no input."""
        read = os.read(sys.stdin.fileno(), _READ_BYTES)
        self.ended = not read
        *lines, self._begun = (self._begun + read).split(b"\n")
        yield from lines


def send_event(**news: Any) -> None:
    """Write a line of JSON to standard output."""
    sys.stdout.buffer.write(orjson.dumps(news, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
    sys.stdout.buffer.flush()
