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
    """The connections of one load process."""

    host: str
    port: int
    path: str
    total: int
    """The number of connections of all load processes."""
    first: int
    """The number of this process's first connection."""
    count: int
    """The number of this process's connections."""
    affected: int
    """The number of disturbed connections: the first ones of `total`."""
    connect_rate: float
    """Connects per second of this process."""
    in_flight: int
    """Maximum number of concurrent connects of this process."""
    workload: Workload
    names: Names
    partitions: int
    """Partitions per topic."""
    subscribe: bool
    """False for the baseline, which takes no commands."""
    positions: bool
    """True if clients keep positions, to resume."""
    from_start: bool
    """True if publishing begins after the last subscription, so that clients receive record 1."""
    frames: str
    """"single" or "batch"."""
    deflate: bool
    """True if clients offer permessage-deflate."""
    transport: str
    """A value of Transport."""


@attrs.frozen
class PublishPlan:
    """The records to publish."""

    brokers: str
    rate: float
    """Records per second."""
    burst: int
    """Records published at once."""
    record_bytes: int
    """Size of a record's value in bytes."""
    workload: Workload
    names: Names
    events: bool
    """True if records are generated events; otherwise a record has a head and padding."""


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
