"""`python -m odin_ws.bench.publisher`: a process that publishes numbered records at a rate.

Standard input has the plan and then commands, standard output the results, as lines of JSON.
"""

from __future__ import annotations

import select
import sys
import time
from typing import Any, Final

import numpy as np
import orjson
from confluent_kafka import KafkaError, Producer

from odin_ws.bench.messages import PublishPlan, Reader, read_plan, send_event
from odin_ws.bench.subscriptions import popularity
from odin_ws.bench.workload import catalogue_of
from odin_ws.testing.events import EventGenerator
from odin_ws.testing.record_formats import encode_key, value_prefix

# Above this rate in records per second the producer batches for some milliseconds, like kpub.py.
_MANY: Final = 500

__all__ = ["main"]

_STATUS_SECONDS: Final = 0.5

# Timeout for the broker's last acknowledgements.
_FLUSH_SECONDS: Final = 30

# Minimum sleep in seconds, also if records are due at shorter intervals.
_SLICE_SECONDS: Final = 0.002

# Records per call; the clock is read and acknowledgements are handled between calls.
_AT_ONCE: Final = 500

# Length of the repeated sequence of channels. Channels are drawn in advance, so that a record costs
# a few microseconds.
_DRAWN: Final = 1 << 18

_VALUE: Final = (
    b'{"type":"TRADE_EXECUTED","timestamp":%d,"data":{"k":%d,"n":%d,"m":%d,"pub_us":%d,"pad":"%b"}}'
)


# The fields with channel and number, which are added to the values of events.
_DATA: Final = b'"data":{'
_NUMBERED: Final = b'"data":{"k":%d,"n":%d,"m":%d,'


class Publisher:
    """Publishes records; `counts` has the number of records of each channel."""

    def __init__(self, plan: PublishPlan) -> None:
        self._plan = plan
        topics = len(plan.names.topics)
        self._topics = [plan.names.topics[k % topics] for k in range(plan.workload.channels)]
        catalogue = catalogue_of(plan.names.catalogue_file)
        formats = [catalogue.topics[topic] for topic in self._topics]
        self._keys = [
            encode_key(plan.names.token(k // topics), topic.key) for k, topic in enumerate(formats)
        ]
        self._prefixes = [value_prefix(topic.value) for topic in formats]
        drawn = np.random.default_rng(1).choice(
            plan.workload.channels, _DRAWN, p=popularity(plan.workload)
        )
        self._drawn: list[int] = drawn.tolist()
        self._pad = b"x" * max(0, plan.record_bytes - len(_VALUE % (10**12, 0, 0, 0, 10**15, b"")))
        tokens = [plan.names.token(number) for number in range(plan.workload.tokens)]
        self._events = EventGenerator(tokens, 1, catalogue) if plan.events else None
        # The remainder that filters compare; 0 without filters.
        self._divisor = max(1, plan.workload.filters)
        self._channels = {
            (topic, key): channel
            for channel, (topic, key) in enumerate(zip(self._topics, self._keys, strict=True))
        }
        self.counts = [0] * plan.workload.channels
        self.published = 0
        self.failed = 0
        self._producer = Producer(
            {
                "bootstrap.servers": plan.brokers,
                # Above that rate single records would load the broker, not the server.
                "linger.ms": 1 if plan.rate < _MANY else 5,
                "acks": 1,
                "queue.buffering.max.messages": 2_000_000,
                "on_delivery": self._delivered,
                # One call per record would be half of the cost of publishing it.
                "delivery.report.only.error": True,
            }
        )

    def _delivered(self, error: KafkaError | None, _message: Any) -> None:
        self.failed += error is not None

    def publish(self, until: int) -> None:
        """Publish until `until` records are published in all, at most `_AT_ONCE` per call."""
        until = min(until, self.published + _AT_ONCE)
        if self._events is not None:
            self._publish_events(self._events, until)
            return
        pad, drawn, counts = self._pad, self._drawn, self.counts
        produce, topics, keys = self._producer.produce, self._topics, self._keys
        prefixes, divisor = self._prefixes, self._divisor
        for index in range(self.published, until):
            channel = drawn[index % _DRAWN]
            counts[channel] += 1
            now_us = time.time_ns() // 1000
            number = counts[channel]
            value = _VALUE % (now_us // 1000, channel, number, number % divisor, now_us, pad)
            produce(topics[channel], prefixes[channel] + value, keys[channel])
        self.published = max(until, self.published)
        self._producer.poll(0)

    def _publish_events(self, events: EventGenerator, until: int) -> None:
        for _ in range(self.published, until):
            event = events.next(time.time_ns() // 1000)
            channel = self._channels[event.topic, event.key]
            self.counts[channel] += 1
            number = self.counts[channel]
            numbered = _NUMBERED % (channel, number, number % self._divisor)
            self._producer.produce(event.topic, event.value.replace(_DATA, numbered, 1), event.key)
        self.published = max(until, self.published)
        self._producer.poll(0)

    def flush(self) -> None:
        """Wait until the broker has acknowledged all records."""
        self.failed += self._producer.flush(_FLUSH_SECONDS)


def main() -> None:
    """Publish from `start` to `stop`."""
    plan: PublishPlan = read_plan(PublishPlan, sys.stdin.buffer.readline())
    _run(Publisher(plan), plan, Reader())


def _run(publisher: Publisher, plan: PublishPlan, reader: Reader) -> None:
    send_event(event="ready")
    started, before, rate = 0.0, 0, plan.rate
    began: float | None = None
    next_status = 0.0
    while not reader.ended:
        now = time.monotonic()
        wait = _STATUS_SECONDS
        if began is not None:
            slots = int((now - began) * rate / plan.burst) + 1
            publisher.publish(before + slots * plan.burst)
            next_slot = began + slots * plan.burst / rate
            behind = publisher.published < before + slots * plan.burst
            wait = 0.0 if behind else max(_SLICE_SECONDS, next_slot - now)
        if now >= next_status:
            next_status = now + _STATUS_SECONDS
            send_event(event="status", published=publisher.published, cpu=time.process_time())
        wait = min(wait, next_status - now)
        if not select.select([sys.stdin], [], [], wait)[0]:
            continue
        for line in reader.lines():
            match orjson.loads(line):
                case {"do": "start"}:
                    started = began = time.monotonic()
                case {"do": "rate", "rate": rate}:
                    began, before = time.monotonic(), publisher.published
                    send_event(event="counts", published=publisher.counts)
                case {"do": "stop"}:
                    seconds = time.monotonic() - started
                    publisher.flush()
                    send_event(
                        event="result",
                        published=publisher.counts,
                        failed=publisher.failed,
                        seconds=seconds,
                    )
                    return


if __name__ == "__main__":
    main()
