"""The publisher, a process of its own, and its list of acknowledged records.

`python -m tests.chaos.publisher BOOTSTRAP DIRECTORY` publishes until SIGTERM, then waits until the
broker has acknowledged everything, and writes the list.
"""

from __future__ import annotations

import functools
import json
import math
import signal
import sys
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import attrs
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from tests.chaos.ledger import Ledger, pack
from tests.chaos.plan import PARTITIONS, TOPICS
from tests.chaos.progress import write_progress

__all__ = ["Acknowledged", "Mismatch", "load_ledger", "read_log", "save_list", "streams"]

# Seconds between two calls of the producer.
TICK_SECONDS: Final = 0.02

# Timeout of the last acknowledgements: a restarted broker needs some seconds.
FLUSH_SECONDS: Final = 60

EVENTS: Final = {"trade": b"TRADE_EXECUTED", "liquidity": b"LIQUIDITY_ADDED"}

# Padding to the size of an ordinary trade.
VALUE: Final = b'{"type":"%s","timestamp":%d,"data":{"n":%d,"pad":"' + b"x" * 200 + b'"}}'

# Timeout per poll when a topic is read back; a broker responds within milliseconds.
READ_SECONDS: Final = 20
AT_ONCE: Final = 10_000

PRODUCER: Final = {
    # A retry must neither write a record twice nor reorder records.
    "enable.idempotence": True,
    # Short batches: without them, 500 records per second would be as many requests.
    "linger.ms": 5,
    # Reconnect soon to a restarted broker.
    "reconnect.backoff.max.ms": 500,
    # By default librdkafka logs every lost connection to stderr.
    "log_level": 0,
}


class Mismatch(Exception):
    """The publisher's list and the log differ, so the run has no outcome."""


class Stream(NamedTuple):
    """The records of one channel: their rate per second, and the time of the first."""

    channel: str
    topic: str
    key: bytes
    event: bytes
    rate: float
    phase: float


@attrs.define
class Acknowledged:
    """Acknowledged records in columns: stream, packed position, time."""

    streams: array[int] = attrs.field(factory=lambda: array("q"))
    positions: array[int] = attrs.field(factory=lambda: array("q"))
    times: array[float] = attrs.field(factory=lambda: array("d"))
    failed: list[str] = attrs.field(factory=list)

    def note(
        self, stream: int, topic_number: int, error: KafkaError | None, message: Message
    ) -> None:
        """Store an acknowledgement, as delivery callback of the producer."""
        partition, offset = message.partition(), message.offset()
        if error is not None or partition is None or offset is None or offset < 0:
            self.failed.append(f"{message.topic()}: {error or 'no offset'}")
            return
        self.streams.append(stream)
        self.positions.append(pack(topic_number, partition, offset))
        self.times.append(time.monotonic())


def streams(tokens: list[str], rates: dict[str, float]) -> list[Stream]:
    """Return the channels of a run, spread evenly over time."""
    found = []
    for category, rate in rates.items():
        for number, token in enumerate(tokens):
            phase = number / len(tokens) / rate
            channel, topic = f"{token}.{category}", TOPICS[category]
            found.append(Stream(channel, topic, token.encode(), EVENTS[category], rate, phase))
    return found


class Publisher:
    """Publishes each record of the streams at its time, and stores acknowledgements."""

    def __init__(self, producer: Producer, wanted: list[Stream]) -> None:
        topics = list(TOPICS.values())
        self.noted: Final = Acknowledged()
        self.sent = 0
        self._producer = producer
        self._counts = [0] * len(wanted)
        self._streams = [
            (number, stream, functools.partial(self.noted.note, number, topics.index(stream.topic)))
            for number, stream in enumerate(wanted)
        ]

    def publish_due(self, elapsed: float) -> None:
        """Produce the records up to `elapsed` seconds after the start."""
        for number, stream, report in self._streams:
            due = math.floor((elapsed - stream.phase) * stream.rate) + 1
            for count in range(self._counts[number], due):
                value = VALUE % (stream.event, time.time_ns() // 1_000_000, count)
                self._producer.produce(stream.topic, value, stream.key, on_delivery=report)
                self._counts[number] = count + 1
                self.sent += 1
        self._producer.poll(0)

    def finish(self) -> int:
        """Wait for all acknowledgements; return the number of records without one."""
        return self._producer.flush(FLUSH_SECONDS)


def save_list(
    directory: Path, channels: list[str], noted: Acknowledged, sent: int, left: int
) -> None:
    """Write the list; `sent`: records produced, `left`: records not acknowledged."""
    head = {
        "channels": channels,
        "acknowledged": len(noted.times),
        "sent": sent,
        "left": left,
        "failed": noted.failed,
    }
    with (directory / "ledger").open("wb") as file:
        file.write(json.dumps(head).encode() + b"\n")
        for column in (noted.streams, noted.positions, noted.times):
            file.write(column.tobytes())


def load_ledger(directory: Path) -> Ledger:
    """Return the ledger of a list written by `save_list`.

    Raises:
        Mismatch: the broker has not acknowledged all records.
    """
    with (directory / "ledger").open("rb") as file:
        head = json.loads(file.readline())
        numbers: array[int] = array("q")
        positions: array[int] = array("q")
        times: array[float] = array("d")
        numbers.fromfile(file, head["acknowledged"])
        positions.fromfile(file, head["acknowledged"])
        times.fromfile(file, head["acknowledged"])
    if head["failed"] or head["left"] or head["sent"] != head["acknowledged"]:
        raise Mismatch(
            f"the broker acknowledged {head['acknowledged']} of {head['sent']} records; "
            f"{head['failed'][:3]}"
        )
    ledger = Ledger(list(TOPICS.values()))
    for number, position, when in zip(numbers, positions, times, strict=True):
        ledger.add(head["channels"][number], position, when)
    if len(ledger) != head["acknowledged"]:
        raise Mismatch("the broker reported one offset for two records")
    return ledger


def read_log(bootstrap: str) -> Iterator[tuple[str, int]]:
    """Read both topics to their ends; return the channel and packed position of each record.

    Raises:
        Mismatch: the broker returns fewer records than its offsets say.
    """
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "chaos", "enable.auto.commit": False}
    )
    try:
        places = [
            TopicPartition(topic, partition, 0)
            for topic in TOPICS.values()
            for partition in range(PARTITIONS)
        ]
        ends = [consumer.get_watermark_offsets(place, timeout=READ_SECONDS)[1] for place in places]
        consumer.assign(places)
        yield from _read(consumer, sum(ends))
    finally:
        consumer.close()


def _read(consumer: Consumer, left: int) -> Iterator[tuple[str, int]]:
    categories = {topic: (n, category) for n, (category, topic) in enumerate(TOPICS.items())}
    while left:
        # `consume` waits for the requested number of records.
        messages = consumer.consume(min(AT_ONCE, left), timeout=READ_SECONDS)
        if not messages:
            raise Mismatch(f"{left} records of the log do not come")
        left -= len(messages)
        for message in messages:
            match message.topic(), message.partition(), message.offset(), message.key():
                case str(topic), int(partition), int(offset), bytes(key) if not message.error():
                    number, category = categories[topic]
                    yield f"{key.decode()}.{category}", pack(number, partition, offset)
                case _:
                    raise Mismatch(f"reading the log: {message.error()}")


def main(bootstrap: str, directory: Path) -> int:
    """Publish as `DIRECTORY/publish.json` says until SIGTERM; return the exit status."""
    stop: list[int] = []

    def end(number: int, _frame: Any) -> None:
        stop.append(number)

    signal.signal(signal.SIGTERM, end)
    reported = json.loads((directory / "publish.json").read_text("utf-8"))
    wanted = streams(reported["tokens"], reported["rates"])
    publisher = Publisher(Producer({"bootstrap.servers": bootstrap, **PRODUCER}), wanted)
    began = time.monotonic()
    while not stop:
        publisher.publish_due(time.monotonic() - began)
        write_progress(
            directory, {"sent": publisher.sent, "acknowledged": len(publisher.noted.times)}
        )
        time.sleep(TICK_SECONDS)
    left = publisher.finish()
    noted = publisher.noted
    save_list(directory, [stream.channel for stream in wanted], noted, publisher.sent, left)
    return 1 if left or noted.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
