"""A KafkaLogReader that runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from odin_ws.kafka.log_reader import KafkaLogReader
from odin_ws.kafka.options import KafkaOptions

__all__ = ["running"]


@asynccontextmanager
async def running(options: KafkaOptions, readers: int = 1) -> AsyncIterator[KafkaLogReader]:
    """Run a log reader for the length of the block."""
    log_reader = KafkaLogReader(options, readers)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log_reader.run)
        yield log_reader
        nursery.cancel_scope.cancel()
