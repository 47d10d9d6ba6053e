"""Faults for tests: slow and half-open clients, torn frames, lost brokers, cut logs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from odin_ws.records import Record
from odin_ws.testing.memory_log import MemoryLog
from odin_ws.testing.scenario import Scenario, ScenarioClient

__all__ = [
    "cut_log",
    "delete_log_before",
    "go_half_open",
    "read_slowly",
    "rebalanced",
    "stalled_broker",
    "tear_next_frame",
]


def read_slowly(client: ScenarioClient, bytes_per_second: float) -> None:
    """Limit a client's network to this number of bytes per second; 0 delivers no bytes.

    Connect the client with a small `capacity`, the bytes that the network buffers.
    """
    client.stream.throttle(bytes_per_second)


def go_half_open(client: ScenarioClient) -> None:
    """Drop all further bytes of a client's connection; both sides keep their end open."""
    client.stream.go_half_open()


def tear_next_frame(client: ScenarioClient, after: int = 3) -> None:
    """Break the connection after this many bytes of the client's next send."""
    client.stream.tear(after)


@contextmanager
def stalled_broker(scenario: Scenario, reason: str = "the broker is away") -> Iterator[None]:
    """Make Kafka unavailable during the block, for live reading and for replays."""
    scenario.source.lose_broker(reason)
    scenario.log_reader.fail(reason)
    try:
        yield
    finally:
        scenario.log_reader.recover()
        scenario.source.find_broker()


def cut_log(log: MemoryLog, record: Record) -> None:
    """Delete a record and all later records of its partition, as an unclean election does."""
    log.truncate(record.topic, record.partition, record.offset)


def delete_log_before(log: MemoryLog, record: Record) -> None:
    """Delete the records before this one in its partition, as retention does."""
    log.delete_before(record.topic, record.partition, record.offset)


@contextmanager
def rebalanced(scenario: Scenario, *topics: str) -> Iterator[None]:
    """Assign these topics to another member of the group during the block.

    The server closes the subscribers of these topics with 1012.
    """
    scenario.source.revoke(*topics)
    try:
        yield
    finally:
        scenario.source.reassign()
