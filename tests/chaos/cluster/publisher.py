"""Publishes during the whole run, and records whether the brokers have acknowledged each record."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Mapping
from typing import Final

import trio
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, Producer
from confluent_kafka import TopicPartition as Place

from tests.chaos.cluster.truth import Entry, State, Truth
from tests.integration.cluster import Transaction
from tests.integration.running_source import Sent, wait_until

__all__ = ["Publisher", "read_back"]

TICK_SECONDS: Final = 0.02

# Timeout of acknowledgements: on a free machine another broker takes over within 4 s.
FLUSH_SECONDS: Final = 60.0
READ_SECONDS: Final = 30.0

PRODUCER: Final = {
    "acks": "all",
    # A retry must neither write a record twice nor reorder records.
    "enable.idempotence": True,
    "linger.ms": 5,
    "message.max.bytes": 8 << 20,
    "reconnect.backoff.max.ms": 500,
    # A silent broker must not delay records to its successor.
    "socket.timeout.ms": 5000,
    "topic.metadata.refresh.interval.ms": 2000,
    "log_level": 0,
}


class Publisher:
    """Publishes records of each category, and stores their acknowledgements in `truth`.

    Args:
        bootstrap: the addresses of the brokers.
        topics: the topic of each category.
        tokens: the tokens, used in turn.
        rates: records per second of each category, over all tokens.
        truth: receives all records and their states.
    """

    def __init__(
        self,
        bootstrap: str,
        topics: Mapping[str, str],
        tokens: list[str],
        rates: Mapping[str, float],
        truth: Truth,
    ) -> None:
        self._bootstrap = bootstrap
        self._topics = topics
        self._tokens = tokens
        self._rates = dict(rates)
        self._truth = truth
        self._read_scheduler = dict.fromkeys(topics, 0)
        self._producers = {category: self._producer() for category in topics}
        # Replaced producers, which may have records in flight.
        self._retired: list[Producer] = []
        # Categories that are not published at present.
        self.paused: set[str] = set()

    def _producer(self) -> Producer:
        return Producer({"bootstrap.servers": self._bootstrap, **PRODUCER})

    async def run(self) -> None:
        """Publish at the rates until cancelled."""
        owed = dict.fromkeys(self._rates, 0.0)
        before = trio.current_time()
        while True:
            now = trio.current_time()
            for category, rate in self._rates.items():
                if category in self.paused:
                    continue
                owed[category] += rate * (now - before)
                while owed[category] >= 1:
                    owed[category] -= 1
                    self.publish(category)
            before = now
            for producer in (*self._producers.values(), *self._retired):
                producer.poll(0)
            await trio.sleep(TICK_SECONDS)

    def publish(self, category: str, count: int = 1, pad: int = 0) -> list[Entry]:
        """Produce and return records of the tokens in turn; `pad`: additional bytes in each."""
        entries = []
        for _ in range(count):
            entry = self._begin(category)
            self._producers[category].produce(
                self._topics[category],
                _value(entry, pad),
                entry.token.encode(),
                on_delivery=functools.partial(_report, entry),
            )
            entries.append(entry)
        return entries

    def _begin(self, category: str) -> Entry:
        self._read_scheduler[category] += 1
        token = self._tokens[self._read_scheduler[category] % len(self._tokens)]
        return self._truth.begin(category, token)

    async def acknowledged(self, category: str) -> None:
        """Wait until the brokers have acknowledged all records of a category.

        Raises:
            trio.TooSlowError: an acknowledgement did not arrive in time.
        """
        entries = [entry for entry in self._truth.entries.values() if entry.category == category]
        await wait_until(
            lambda: not any(entry.state is State.PENDING for entry in entries), FLUSH_SECONDS
        )

    def renew(self, category: str) -> None:
        """Use a new producer, which has no state of the topic's former log."""
        self._retired.append(self._producers[category])
        self._producers[category] = self._producer()

    async def transaction(self, category: str, count: int) -> tuple[Transaction, list[Entry]]:
        """Write records in a transaction, which stays open."""
        entries = [self._begin(category) for _ in range(count)]
        transaction = Transaction(self._bootstrap)
        await transaction.write(
            Sent(self._topics[category], entry.token.encode(), _value(entry, 0))
            for entry in entries
        )
        return transaction, entries


def _value(entry: Entry, pad: int) -> bytes:
    data = {"n": entry.number, "pad": "x" * pad}
    now = time.time_ns() // 1_000_000
    return json.dumps({"type": "CHAOS", "timestamp": now, "data": data}).encode()


def _report(entry: Entry, error: KafkaError | None, message: Message) -> None:
    partition, offset = message.partition(), message.offset()
    if error is not None or partition is None or offset is None:
        entry.state = State.UNKNOWN
        return
    entry.state, entry.partition, entry.offset = State.ACKNOWLEDGED, partition, offset


def read_back(bootstrap: str, topics: Mapping[str, str], truth: Truth) -> int:
    """Read all logs to their ends, mark their records as present, and return their number.

    Raises:
        trio.TooSlowError: a log could not be read to its end.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "chaos",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "fetch.message.max.bytes": 8 << 20,
        }
    )
    try:
        known = consumer.list_topics(timeout=READ_SECONDS).topics
        left = {(name, number) for name in topics.values() for number in known[name].partitions}
        consumer.assign([Place(name, number, OFFSET_BEGINNING) for name, number in left])
        count, deadline = 0, time.monotonic() + READ_SECONDS
        while left:
            if time.monotonic() > deadline:
                raise trio.TooSlowError
            for message in consumer.consume(1000, timeout=0.2):
                error = message.error()
                if error is None:
                    _found(message, truth)
                    count += 1
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 -- its public name
                    left.discard((message.topic(), message.partition()))
        return count
    finally:
        consumer.close()


def _found(message: Message, truth: Truth) -> None:
    number = json.loads(message.value() or b"")["data"]["n"]
    entry = truth.entries[number]
    entry.in_log = True
    entry.copies += 1
    entry.partition, entry.offset = message.partition() or 0, message.offset() or 0
