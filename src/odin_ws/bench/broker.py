"""The broker of a benchmark (a given one, Apache Kafka or the embedded one), and its topics."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from odin_ws.bench.errors import BenchFailed
from odin_ws.catalogue import Catalogue, default_catalogue
from odin_ws.testing.brokers import (
    BrokerFailed,
    BrokerUnavailable,
    apache_kafka,
    embedded_broker,
)

__all__ = ["PARTITIONS", "create_topics", "open_broker"]


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


# The number of partitions in Odin's cluster.
PARTITIONS: Final = 12

# Creating 96 partitions takes half a second; the rest is for a busy broker.
_PATIENCE: Final = 30
_POLL_SECONDS: Final = 0.1


async def create_topics(brokers: str, catalogue: Catalogue | None = None) -> None:
    """Create the missing topics of `catalogue` (Odin's); returns when all partitions have leaders.

    Raises:
        BenchFailed: the broker does not respond, or a topic has too many partitions.
    """
    topics = (catalogue or default_catalogue()).topics.keys()
    admin = AdminClient({"bootstrap.servers": brokers})
    try:
        with trio.fail_after(2 * _PATIENCE):
            await trio.to_thread.run_sync(_create, admin, topics, abandon_on_cancel=True)
            while True:
                if await trio.to_thread.run_sync(_are_led, admin, topics, abandon_on_cancel=True):
                    return
                await trio.sleep(_POLL_SECONDS)
    except (KafkaException, trio.TooSlowError) as error:
        raise BenchFailed(f"the broker at {brokers}: {error}") from error


def _create(admin: AdminClient, topics: Collection[str]) -> None:
    there = admin.list_topics(timeout=_PATIENCE).topics
    wanted = [
        NewTopic(name, num_partitions=PARTITIONS, replication_factor=1)
        for name in topics
        if name not in there
    ]
    if wanted:
        for future in admin.create_topics(wanted).values():
            future.result(_PATIENCE)


def _are_led(admin: AdminClient, topics: Collection[str]) -> bool:
    there = admin.list_topics(timeout=_PATIENCE).topics
    for name in topics:
        if name not in there:
            return False
        partitions = there[name].partitions.values()
        if any(partition.leader < 0 for partition in partitions):
            return False
        if len(partitions) > PARTITIONS:
            raise BenchFailed(f"{name} has {len(partitions)} partitions: at most {PARTITIONS}")
    return True
