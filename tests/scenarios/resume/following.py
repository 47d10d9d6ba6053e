"""A client that keeps its positions and comes back with them, and what it ought to have got."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

import trio
import trio_websocket

from odin_ws.archive import Span
from odin_ws.catalogue import default_catalogue, matching_patterns
from odin_ws.records import Record, TopicPartition
from odin_ws.source.memory import MemoryLog
from odin_ws.testing.scenario import Client, Closed, Scenario

__all__ = [
    "Follower",
    "after",
    "all_messages",
    "by_topic",
    "everything",
    "key_of",
    "offsets_of",
    "place_of",
    "say",
    "wanted",
]

_CATALOGUE: Final = default_catalogue()

Positions = Mapping[TopicPartition, int]


def place_of(message: Mapping[str, Any]) -> tuple[TopicPartition, int]:
    """The partition and the offset of a message's record."""
    partition, _, offset = message["pos"].partition("-")
    category = message["channel"].rpartition(".")[2]
    return TopicPartition(_CATALOGUE.categories[category].name, int(partition)), int(offset)


def key_of(record: Record) -> TopicPartition:
    """Where a record is."""
    return TopicPartition(record.topic, record.partition)


def by_topic(positions: Positions) -> dict[str, dict[int, int]]:
    """As a `resume` wants them."""
    found: dict[str, dict[int, int]] = defaultdict(dict)
    for key, offset in positions.items():
        found[key.topic][key.partition] = offset
    return found


def after(*records: Record, less: int = 0) -> dict[str, dict[int, int]]:
    """Where a client is that has got these records, or stands so much before them."""
    return by_topic({key_of(one): one.offset - less for one in records})


def everything(log: MemoryLog) -> list[Record]:
    """All that a log has."""
    return log.read({key: has.first for key, has in log.bounds().items()}, None)


def wanted(
    records: Iterable[Record], patterns: Iterable[str], starts: Positions
) -> dict[TopicPartition, list[int]]:
    """The offsets of the records of some patterns behind `starts`, by partition and in order."""
    found: dict[TopicPartition, list[int]] = defaultdict(list)
    asked = set(patterns)
    for record in records:
        assert record.key is not None
        category = _CATALOGUE.topics[record.topic].category
        key = key_of(record)
        is_asked_for = asked.intersection(matching_patterns(record.key.decode(), category))
        if is_asked_for and key in starts and record.offset > starts[key]:
            found[key].append(record.offset)
    return dict(found)


def offsets_of(messages: Iterable[Mapping[str, Any]]) -> dict[TopicPartition, list[int]]:
    """The offsets of messages as they came, by partition."""
    found: dict[TopicPartition, list[int]] = defaultdict(list)
    for message in messages:
        key, offset = place_of(message)
        found[key].append(offset)
    return dict(found)


async def say(client: Client, kind: str, **data: Any) -> None:
    """Send a command, without waiting for its answer."""
    await client.send(json.dumps({"type": kind, "data": data}))


async def all_messages(client: Client, seconds: float = 5) -> list[dict[str, Any]]:
    """Every message that comes until none has come for so long."""
    found = []
    while not await client.silence(seconds):
        found.append(await client.message())
    return found


class Follower:
    """Subscribes the first time and resumes from then on, as the protocol tells clients to.

    `items`: all that its last connection brought, in order. `messages`: those of all connections.
    `pause`: seconds between two reads. `closed`: how the last connection ended, None while it is
    there; `live`: its ack has come.
    """

    def __init__(self, *channels: str, pause: float = 0.0) -> None:
        self.channels = channels
        self.pause = pause
        self.positions: dict[TopicPartition, int] = {}
        self.starts: dict[TopicPartition, int] | None = None
        self.messages: list[dict[str, Any]] = []
        self.lost: dict[TopicPartition, list[Span]] = defaultdict(list)
        self.items: list[dict[str, Any]] = []
        self.live = False
        self.closed: Closed | None = None
        self._client: Client | None = None

    @property
    def answers(self) -> list[dict[str, Any]]:
        """What came on the last connection and is no message."""
        return [item for item in self.items if "seq" not in item]

    async def come(
        self, nursery: trio.Nursery, scenario: Scenario, *, capacity: int = 1 << 20, **data: Any
    ) -> None:
        """Connect, ask with `data` added, and read in a task of the nursery."""
        self.items, self.live, self.closed = [], False, None
        client = self._client = await scenario.connect(capacity=capacity)
        if self.starts is None:
            ask = {"type": "subscribe", "data": {"positions": True}}
        else:
            ask = {"type": "resume", "data": {"positions": by_topic(self.positions)}}
        ask["data"] |= {"channels": self.channels, **data}  # type: ignore[operator]  # a dict
        await client.send(json.dumps(ask))
        nursery.start_soon(self._read, client)

    async def say(self, kind: str, **data: Any) -> None:
        """Send a command; its answer is among the items."""
        assert self._client is not None
        await say(self._client, kind, **data)

    def break_off(self) -> None:
        """End the connection as a network does."""
        client, self._client = self._client, None
        if client is not None:
            client.stream.break_off()
            self.closed = Closed(1006, "")

    async def _read(self, client: Client) -> None:
        while True:
            try:
                text = await client.websocket.get_message()
            except trio_websocket.ConnectionClosed as error:
                if client is self._client:
                    reason = error.reason
                    self.closed = (
                        Closed(int(reason.code), reason.reason or "") if reason else Closed(1006, "")
                    )
                return
            if client is not self._client:
                return
            self.take(json.loads(text))
            if self.pause:
                await trio.sleep(self.pause)

    def take(self, item: dict[str, Any]) -> None:
        """Note what has come, and follow it."""
        self.items.append(item)
        if "seq" in item:
            self.messages.append(item)
            key, offset = place_of(item)
            self.positions[key] = max(offset, self.positions.get(key, offset))
            return
        moved = _places(item.get("positions", {}))
        lost = {key: Span(*span) for key, span in _places(item.get("lost", {})).items()}
        for key, span in lost.items():
            self.lost[key].append(span)
            if item["type"] == "resume_ack":
                moved[key] = span.last
            elif item["type"] == "replay_incomplete":
                moved[key] = max(span.last, self.positions.get(key, -1))
        if item["type"] in {"subscription_ack", "resume_ack"}:
            self.live = True
            if self.starts is None:
                self.starts = dict(moved)
        self.positions |= moved

    def check(self, records: Iterable[Record]) -> None:
        """Of `records` it has got its own, each once and in order, or was told they are lost."""
        assert self.starts is not None
        got = offsets_of(self.messages)
        ought = {
            key: [
                offset
                for offset in offsets
                if offset in got.get(key, ())
                or not any(lost.first <= offset <= lost.last for lost in self.lost[key])
            ]
            for key, offsets in wanted(records, self.channels, self.starts).items()
        }
        assert got == {key: offsets for key, offsets in ought.items() if offsets}


def _places(topics: Mapping[str, Mapping[str, Any]]) -> dict[TopicPartition, Any]:
    return {
        TopicPartition(topic, int(partition)): value
        for topic, partitions in topics.items()
        for partition, value in partitions.items()
    }
