"""Counters of the hub, for metrics."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

import attrs

from odin_ws.histogram import Histogram
from odin_ws.history.record_decoder import InvalidRecord
from odin_ws.protocol.envelope import ChannelMessage

__all__ = ["Compressed", "HubStats"]

# Buckets of record age and cycle time in seconds: from immediate to far behind.
_AGE_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_CYCLE_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)


@attrs.define(eq=False)
class Compressed:
    """Texts that were compressed, each once for all clients that get it."""

    texts: int = 0
    input_bytes: int = 0
    output_bytes: int = 0  # as if sent once; a text that does not get shorter is sent as it is
    seconds: float = 0.0  # CPU time


@attrs.define(eq=False)
class HubStats:
    """Counts since the start."""

    received: Counter[str] = attrs.field(factory=Counter)  # records by topic
    invalid_records: Counter[InvalidRecord] = attrs.field(factory=Counter)
    unknown_types: int = 0
    messages_sent: int = 0
    filter_comparisons: int = 0  # of filters with the records of their subscriptions
    messages_skipped: int = 0  # replaced by newer ones, for `delivery: latest` and `max_rate`
    compressed: Compressed = attrs.field(factory=Compressed)
    age: Histogram = attrs.field(factory=lambda: Histogram(_AGE_BOUNDS))
    busy_seconds: float = 0.0  # of the event loop, reading and writing
    cycle: Histogram = attrs.field(factory=lambda: Histogram(_CYCLE_BOUNDS))

    def observe_cycle(self, messages: Sequence[ChannelMessage], took: float) -> None:
        """Count a cycle of `took` seconds, and the ages of its records."""
        self.cycle.observe(took)
        now_ms = time.time() * 1000
        for message in messages:
            # A record without a timestamp has -1.
            if message.record.timestamp >= 0:
                self.age.observe(max(0.0, now_ms - message.record.timestamp) / 1000)
