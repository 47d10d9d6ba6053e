"""The broker of a benchmark: a given one, Apache Kafka or the embedded one; and its topics."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from odin_ws.bench.errors import BenchFailed
from odin_ws.testing.brokers import (
    BrokerFailed,
    BrokerUnavailable,
    apache_kafka,
    embedded_broker,
)

__all__ = ["open_broker"]


@asynccontextmanager
async def open_broker(
    named: str | None, libs: Path, directory: Path
) -> AsyncIterator[tuple[str, str]]:
    """Yield the broker's address as host:port, and its name for reports.

    Raises:
        BenchFailed: there is no broker, or it does not start.
    """
    try:
        if named is not None:
            yield named, f"the broker at {named}"
        elif _has_apache(libs):
            async with apache_kafka(libs, directory) as broker:
                yield broker.bootstrap, "Apache Kafka"
        else:
            async with embedded_broker() as broker:
                yield broker.bootstrap, "the embedded broker"
    except (BrokerUnavailable, BrokerFailed) as error:
        raise BenchFailed(str(error)) from error


def _has_apache(libs: Path) -> bool:
    return shutil.which("java") is not None and any(libs.glob("kafka_*.jar"))
