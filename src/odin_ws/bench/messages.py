"""What the benchmark tells its processes, and how both sides read lines of JSON."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import attrs
import orjson

from odin_ws.bench.workload import Names, Workload

__all__ = ["LoadPlan", "PublishPlan", "Reader", "read_plan", "tell", "to_json"]

_READ_BYTES = 1 << 20


@attrs.frozen
class LoadPlan:
    """Connections of one process.

    `first` of `total`, `count` of them; the first `affected` of `total` are the group that is
    disturbed. `positions`: they keep positions, to resume. `subscribe`: the floor is not asked for
    anything. `from_start`: nothing is published before all are subscribed, so they get record 1.
    `frames`: "single" or "batch"; `deflate`: they offer permessage-deflate.
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


@attrs.frozen
class PublishPlan:
    """What to publish. `rate`: records a second, in bursts of `burst` at once.

    `events`: records are the demo's events, else a head and `x`s.
    """

    brokers: str
    rate: float
    burst: int
    record_bytes: int
    workload: Workload
    names: Names
    events: bool


def to_json(plan: LoadPlan | PublishPlan) -> bytes:
    """A plan as a line."""
    return orjson.dumps(attrs.asdict(plan)) + b"\n"


def read_plan(plan: type[Any], line: bytes) -> Any:
    """The plan of a line."""
    fields = orjson.loads(line)
    fields["workload"] = Workload(**fields["workload"])
    fields["names"] = Names(**fields["names"])
    return plan(**fields)


class Reader:
    """Lines on standard input, read when there are some."""

    def __init__(self) -> None:
        self._begun = b""
        self.ended = False

    def lines(self) -> Iterator[bytes]:
        """The whole lines that one read brings; it waits where there is nothing."""
        read = os.read(sys.stdin.fileno(), _READ_BYTES)
        self.ended = not read
        *lines, self._begun = (self._begun + read).split(b"\n")
        yield from lines


def tell(**news: Any) -> None:
    """Write a line of JSON to standard output."""
    sys.stdout.buffer.write(orjson.dumps(news, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
    sys.stdout.buffer.flush()
