"""An ingest without a hub, for tests of what it takes and reports."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from collections.abc import Set as AbstractSet

from odin_ws.catalogue import default_catalogue
from odin_ws.history import History, ResumeCursor, SnapshotCache
from odin_ws.hub import Ingest, OffsetGaps, Stream
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.records import Batch, GapReason, Item, TopicPartition
from odin_ws.steps import finish
from tests.factories import record

__all__ = [
    "CATALOGUE",
    "EXPIRED",
    "FIRST",
    "MOST",
    "RECREATED",
    "SECOND",
    "SOCIAL",
    "TRUNCATED",
    "IngestHarness",
    "batch",
    "keep_in",
    "places",
]

CATALOGUE = default_catalogue()
FIRST, SECOND = (TopicPartition("odin.trades", number) for number in (0, 1))
SOCIAL = TopicPartition("odin.social", 0)

EXPIRED, RECREATED, TRUNCATED = GapReason.EXPIRED, GapReason.RECREATED, GapReason.TRUNCATED

MOST = 1 << 62


class IngestHarness:
    """An ingest, and what it reports."""

    def __init__(self) -> None:
        self.gaps: list[OffsetGaps] = []
        self.moved: list[AbstractSet[str]] = []
        self.ingest = Ingest(
            Stream(CATALOGUE),
            History(CATALOGUE, 1 << 30, math.inf),
            SnapshotCache(CATALOGUE, 1 << 30),
            max_record_bytes=1 << 20,
            on_offset_gaps=self.gaps.append,
            on_moved=self.moved.append,
        )

    def take(self, *items: Item) -> list[str]:
        """Take items whole; returns the places of what is to be delivered."""
        messages: list[ChannelMessage] = []
        left = deque(items)
        while left:
            self.ingest.take(left, keep_in(messages), 1 << 30)
        return places(messages)

    def kept(self, *keys: TopicPartition) -> list[str]:
        """The places of what is remembered of these partitions, in order."""
        resume_cursor = ResumeCursor({"*.*": dict.fromkeys(keys, -1)})
        return places(finish(self.ingest.history.gather(resume_cursor, MOST, MOST)).messages)


def keep_in(messages: list[ChannelMessage]) -> Callable[[ChannelMessage], int]:
    """What a hub does whose subscribers want everything."""

    def deliver(message: ChannelMessage) -> int:
        messages.append(message)
        return len(message.value)

    return deliver


def places(messages: object) -> list[str]:
    """Partition and offset of each message."""
    assert hasattr(messages, "__iter__")
    return [f"{message.record.partition}-{message.record.offset}" for message in messages]


def batch(*offsets: int, key: TopicPartition = FIRST, token: bytes = b"BTC") -> Batch:
    """Records of one partition."""
    return Batch(
        [
            record(token, topic=key.topic, partition=key.partition, offset=offset)
            for offset in offsets
        ]
    )
