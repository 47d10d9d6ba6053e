"""A log reader of a cluster in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio

from odin_ws.kafka.log_reader import KafkaLogReader
from odin_ws.kafka.options import KafkaOptions
from odin_ws.kafka.security import KafkaSecurity
from odin_ws.log_reader import Span
from odin_ws.records import TopicPartition
from tests.kafka.log_reader_contract import read_all
from tests.kafka.memory_cluster import StoredLog

__all__ = ["BOUND", "KEY", "OPTIONS", "OTHER", "TOPIC", "append_batches", "offsets", "running"]


TOPIC = "odin.trades"


KEY, OTHER = TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)


BOUND = 5.0


OPTIONS = KafkaOptions(KafkaSecurity(("nowhere:1",)), None, 1, 1, 0, BOUND, 0, 0)


@asynccontextmanager
async def running(readings: int = 1, bound: float = BOUND) -> AsyncIterator[KafkaLogReader]:
    """A log reader that runs for the length of the block."""
    reader = KafkaLogReader(attrs.evolve(OPTIONS, probe=bound), readings)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.run)
        yield reader
        nursery.cancel_scope.cancel()


async def offsets(reader: KafkaLogReader, key: TopicPartition, span: Span) -> list[int]:
    """The offsets of the records of one span."""
    return [record.offset for record in await read_all(reader, {key: span})]


def append_batches(log: StoredLog, count: int) -> None:
    """Append batches of ten records, each so large that a fetch brings only one."""
    for _ in range(count):
        log.append(10, size=200_000)
