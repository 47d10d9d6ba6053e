"""Requests and responses of every version, with the bytes of another implementation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import attrs

from odin_ws.kafka.protocol import (
    EARLIEST,
    LATEST,
    CommittedOffset,
    CommittedOffsets,
    FetchFrom,
    FetchRequest,
    FindCoordinatorRequest,
    KafkaRequest,
    ListOffsetsRequest,
    MetadataRequest,
    OffsetFetchRequest,
    OffsetForLeaderEpochRequest,
)
from odin_ws.records import TopicPartition

__all__ = [
    "COMMITTED",
    "FETCH",
    "FIRST",
    "FOURTH",
    "GOLDEN",
    "KEYS",
    "NEWS",
    "OTHER",
    "REQUESTS",
    "TOPIC_ID",
    "TRADES",
    "Golden",
]

TOPIC_ID: Final = "0123456789abcdef0123456789abcdef"
TRADES: Final = "odin.trades"
NEWS: Final = "odin.news"
FIRST, FOURTH = TopicPartition(TRADES, 0), TopicPartition(TRADES, 3)
OTHER = TopicPartition(NEWS, 1)

FETCH: Final = FetchRequest(
    0.5,
    1,
    1_000_000,
    77,
    3,
    {FIRST: FetchFrom(1_234_567_890_123, 5, 65_536), FOURTH: FetchFrom(0, -1, 1024)},
    [TopicPartition(TRADES, 1), TopicPartition(TRADES, 2)],
    {TRADES: TOPIC_ID},
)

REQUESTS: Final[dict[str, KafkaRequest[Any]]] = {
    "Metadata": MetadataRequest([TRADES, NEWS]),
    "Fetch": FETCH,
    "ListOffsets": ListOffsetsRequest({FIRST: LATEST, FOURTH: 1_700_000_000_000, OTHER: EARLIEST}),
    "OffsetForLeaderEpoch": OffsetForLeaderEpochRequest({FIRST: 5, FOURTH: 4}, {FIRST: 6}),
    "FindCoordinator": FindCoordinatorRequest("ws-server-group"),
    "OffsetFetch": OffsetFetchRequest("ws-server-group", [FIRST, FOURTH, OTHER]),
}

KEYS: Final = {
    "Fetch": 1,
    "ListOffsets": 2,
    "Metadata": 3,
    "OffsetFetch": 9,
    "FindCoordinator": 10,
    "OffsetForLeaderEpoch": 23,
}


@attrs.frozen
class Golden:
    """One version of an API."""

    name: str
    version: int
    request: bytes
    response: bytes

    @property
    def key(self) -> int:
        """The API's key."""
        return KEYS[self.name]

    @property
    def message(self) -> KafkaRequest[Any]:
        """The request in this project's words."""
        return REQUESTS[self.name]

    def __str__(self) -> str:
        return f"{self.name}-{self.version}"


def _read() -> list[Golden]:
    found: dict[tuple[str, int], dict[str, bytes]] = {}
    for line in Path(__file__).with_name("golden.txt").read_text().splitlines():
        if not line.startswith("#"):
            name, version, kind, content = line.split()
            found.setdefault((name, int(version)), {})[kind] = bytes.fromhex(content)
    return [Golden(*key, one["request"], one["response"]) for key, one in found.items()]


GOLDEN: Final = _read()

COMMITTED: Final = CommittedOffsets(
    0,
    {
        FIRST: CommittedOffset(0, 42),
        FOURTH: CommittedOffset(0, -1),
        OTHER: CommittedOffset(29, -1),
    },
)
