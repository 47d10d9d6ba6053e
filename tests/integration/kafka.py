"""Where Apache Kafka is, and fresh topics, for integration tests."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import pytest
import trio
from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

__all__ = [
    "PARTITIONS",
    "READ_SECONDS",
    "TOPICS",
    "create_topics",
    "delete_topics",
    "fresh_topics",
    "libs",
    "read_records",
]

# Written out, and not taken from the catalogue: clients rely on these names.
TOPICS = (
    "odin.trades",
    "odin.liquidity",
    "odin.metadata",
    "odin.social",
    "odin.community",
    "odin.creation",
    "odin.analytics",
    "odin.balances",
)
PARTITIONS = 12

# Ninety-six partitions are deleted and created in 0.4 s on a free machine; the rest is for a busy
# one.
TOPICS_SECONDS = 30
POLL_SECONDS = 0.05

# For records that the independent client reads; a free machine takes milliseconds.
READ_SECONDS = 20

T = TypeVar("T")

LIBS = Path(__file__).parents[1] / "apache_kafka" / "libs"
OLDEST_LIBS = LIBS.parent / "oldest" / "libs"


def missing(reason: str) -> NoReturn:
    """Skip the test, or fail it if ODIN_REQUIRE_KAFKA=1 requires Kafka."""
    if os.environ.get("ODIN_REQUIRE_KAFKA") == "1":
        pytest.fail(f"ODIN_REQUIRE_KAFKA=1, but {reason}")
    pytest.skip(reason)


def libs(folder: Path = LIBS) -> Path:
    """Return the folder with Apache Kafka's jars; without them or Java, see `missing`."""
    if shutil.which("java") is None:
        missing("Apache Kafka needs Java 17, and there is no `java` on the PATH")
    if not any(folder.glob("kafka_*.jar")):
        missing("Apache Kafka's jars are missing: `make test` copies them, given Maven")
    return folder


async def create_topics(
    bootstrap: str,
    names: Collection[str] = TOPICS,
    partitions: int = PARTITIONS,
    config: Mapping[str, str] | None = None,
) -> None:
    """Create the topics with these topic settings, and wait until every partition has a leader.

    Raises:
        confluent_kafka.KafkaException: a topic exists already, or the broker rejects it.
        trio.TooSlowError: they did not exist within `TOPICS_SECONDS`.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap})
    wanted = [
        NewTopic(name, num_partitions=partitions, replication_factor=1, config=dict(config or {}))
        for name in names
    ]
    with trio.fail_after(TOPICS_SECONDS):
        futures = admin.create_topics(wanted)
        for future in futures.values():
            await _in_thread(future.result)
        await _until(lambda: _all_led(admin, names, partitions))


async def delete_topics(bootstrap: str, names: Collection[str] = TOPICS) -> None:
    """Delete the existing ones of the topics, and wait until the broker no longer knows them.

    Raises:
        confluent_kafka.KafkaException: the broker rejects.
        trio.TooSlowError: they existed after `TOPICS_SECONDS`.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap})
    with trio.fail_after(TOPICS_SECONDS):
        existing = await _in_thread(lambda: _existing(admin, names))
        if not existing:
            return
        for future in admin.delete_topics(existing).values():
            await _in_thread(future.result)
        await _until(lambda: not _existing(admin, names))


async def fresh_topics(
    bootstrap: str, names: Collection[str] = TOPICS, partitions: int = PARTITIONS
) -> None:
    """Delete and create the topics: empty, with every offset at 0."""
    await delete_topics(bootstrap, names)
    await create_topics(bootstrap, names, partitions)


def _existing(admin: AdminClient, names: Collection[str]) -> list[str]:
    known = admin.list_topics(timeout=TOPICS_SECONDS).topics
    return [name for name in names if name in known]


def _all_led(admin: AdminClient, names: Collection[str], partitions: int) -> bool:
    known = admin.list_topics(timeout=TOPICS_SECONDS).topics
    return all(
        name in known
        and len(known[name].partitions) == partitions
        # -1 stands for no leader.
        and all(partition.leader >= 0 for partition in known[name].partitions.values())
        for name in names
    )


async def _until(holds: Callable[[], bool]) -> None:
    # The broker does not notify, so the test polls.
    while True:
        if await _in_thread(holds):
            return
        await trio.sleep(POLL_SECONDS)


async def _in_thread(call: Callable[[], T]) -> T:
    # The broker may be down, and a blocked thread must not delay the end of a test.
    return await trio.to_thread.run_sync(call, abandon_on_cancel=True)


async def read_records(
    bootstrap: str, topics: Collection[str], partitions: int, count: int
) -> list[Message]:
    """Read the first `count` records of topics with an independent consumer."""

    def read() -> list[Message]:
        consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": uuid.uuid4().hex})
        try:
            consumer.assign(
                [
                    TopicPartition(topic, number, 0)
                    for topic in topics
                    for number in range(partitions)
                ]
            )
            found: list[Message] = []
            while len(found) < count:
                several = consumer.consume(count - len(found), READ_SECONDS)
                assert several, f"{len(found)} of {count} records"
                found += several
            return found
        finally:
            consumer.close()

    return await trio.to_thread.run_sync(read)
