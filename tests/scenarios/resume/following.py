"""A client that keeps its positions and comes back with them, and what it ought to have got."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

import attrs
import trio
import trio_websocket

from odin_ws.catalogue import default_catalogue
from odin_ws.log_reader import Span
from odin_ws.pattern import matching_patterns
from odin_ws.records import Record, TopicPartition
from odin_ws.testing.memory_log import MemoryLog
from odin_ws.testing.scenario import Closed, Scenario, ScenarioClient

__all__ = [
    "Follower",
    "after",
    "all_messages",
    "by_topic",
    "everything",
    "following",
    "key_of",
    "offsets_of",
    "place_of",
    "publish",
    "publish_long",
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


async def say(client: ScenarioClient, kind: str, **data: Any) -> None:
    """Send a command, without waiting for its answer."""
    await client.send(json.dumps({"type": kind, "data": data}))


async def all_messages(client: ScenarioClient, seconds: float = 5) -> list[dict[str, Any]]:
    """Every message that comes until none has come for so long."""
    found = []
    while not await client.silence(seconds):
        found.append(await client.message())
    return found


async def publish(scenario: Scenario, count: int, of: str = "BTC") -> list[Record]:
    """Publish some trades of a token, and let them be read."""
    records = [scenario.publish(of, "trade", number) for number in range(count)]
    await trio.sleep(1)
    return records


async def publish_long(scenario: Scenario, count: int) -> None:
    """Publish records of 1,000 bytes, of seven tokens."""
    for number in range(count):
        scenario.publish(f"T{number % 7}", "trade", [number, "x" * 1000])
    await trio.sleep(count / 1000 + 1)


@attrs.define
class Interest:
    """A pattern, from the positions behind which it was acknowledged to those where it ended."""

    pattern: str
    starts: dict[TopicPartition, int]
    ends: Positions | None = None

    def offsets(self, records: Collection[Record]) -> Iterator[tuple[TopicPartition, int]]:
        """The places of its records; a partition that was added later is wanted whole."""
        topics = {key.topic for key in self.starts}
        added = {key_of(one): -1 for one in records if one.topic in topics}
        for key, offsets in wanted(records, [self.pattern], {**added, **self.starts}).items():
            for offset in offsets:
                if self.ends is None or offset <= self.ends.get(key, offset):
                    yield key, offset


class Follower:
    """Subscribes the first time and resumes from then on, as the protocol tells clients to.

    `items`: all that its last connection brought, in order. `messages`: those of all connections.
    `pause`: seconds between two reads. `live`: its ack has come. `topics`: those it has positions
    of, if only to know that a topic has no partitions. `catching_up`: a subscription that begins in
    the past is replayed beside others. `keeps_ids`: it notices recreated topics by their ids.
    """

    def __init__(self, *channels: str, pause: float = 0.0, keeps_ids: bool = True) -> None:
        self.interests: list[Interest] = []
        self._channels = channels
        self.pause = pause
        self.positions: dict[TopicPartition, int] = {}
        self.topics: set[str] = set()
        self.ids: dict[str, str] = {}
        self.catching_up = False
        self._keeps_ids = keeps_ids
        self.messages: list[dict[str, Any]] = []
        self.lost: dict[TopicPartition, list[Span]] = defaultdict(list)
        self.items: list[dict[str, Any]] = []
        self.live = False
        self._closed: Closed | None = None
        self._gone = trio.Event()
        self._client: ScenarioClient | None = None

    @property
    def channels(self) -> list[str]:
        """What it wants now."""
        if not self.interests:
            return list(self._channels)
        return list({one.pattern: None for one in self.interests if one.ends is None})

    @property
    def closed(self) -> Closed | None:
        """How the last connection ended; None while it is there."""
        return self._closed

    async def gone(self) -> tuple[int, str]:
        """Wait until the connection has ended and all of it is read; code and reason."""
        with trio.fail_after(600):
            await self._gone.wait()
        assert self._closed
        return self._closed.code, self._closed.reason

    @property
    def answers(self) -> list[dict[str, Any]]:
        """What came on the last connection besides messages and notes of where it is."""
        return [one for one in self.items if "seq" not in one and one["type"] != "positions"]

    async def come(
        self, nursery: trio.Nursery, scenario: Scenario, *, capacity: int = 1 << 20, **data: Any
    ) -> None:
        """Connect, ask with `data` added, and read in a task of the nursery."""
        self.items, self.live, self.catching_up = [], False, False
        self._closed, self._gone = None, trio.Event()
        client = self._client = await scenario.connect(capacity=capacity)
        if not self.interests:
            ask = {"type": "subscribe", "data": {"positions": True}}
        else:
            positions: dict[str, dict[int, int]] = {topic: {} for topic in self.topics}
            positions |= by_topic(self.positions)
            ask = {"type": "resume", "data": {"positions": positions}}
            if self._keeps_ids and self.ids:
                ask["data"] |= {"ids": self.ids}  # type: ignore[operator]  # a dict
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
            self._close(1006, "")

    def _close(self, code: int, reason: str) -> None:
        self._closed = Closed(code, reason)
        self._gone.set()

    async def _read(self, client: ScenarioClient) -> None:
        while True:
            try:
                text = await client.websocket.get_message()
            except trio_websocket.ConnectionClosed as error:
                if client is self._client:
                    # Without a close frame the library makes none up.
                    said = error.reason
                    self._close(int(said.code) if said else 1006, (said and said.reason) or "")
                return
            if client is not self._client:
                return
            self.take(json.loads(text))
            if self.pause:
                await trio.sleep(self.pause)

    def take(self, item: dict[str, Any]) -> None:
        """Note what has come, and follow it as docs/protocol.md says."""
        self.items.append(item)
        if "seq" in item:
            self.messages.append(item)
            if item.get("replay") or not self.catching_up:
                key, offset = place_of(item)
                self.positions[key] = max(offset, self.positions.get(key, offset))
            return
        for topic, topic_id in item.get("ids", {}).items() if self._keeps_ids else ():
            if self.ids.setdefault(topic, topic_id) != topic_id:
                self.ids[topic] = topic_id
                for key in [key for key in self.positions if key.topic == topic]:
                    del self.positions[key]
        moved = _places(item.get("positions", {}))
        self.topics.update(item.get("positions", ()))
        lost = {key: Span(*span) for key, span in _places(item.get("lost", {})).items()}
        for key, span in lost.items():
            self.lost[key].append(span)
            if item["type"] == "replay_incomplete":
                moved[key] = max(span.last, self.positions.get(key, -1))
        if item["type"] == "feed":
            moved = {key: min(at, self.positions.get(key, at)) for key, at in moved.items()}
        self.positions |= moved
        self._follow(item, moved)

    def _follow(self, item: dict[str, Any], moved: Positions) -> None:
        match item["type"]:
            case "replay_complete":
                self.catching_up = False
            case "subscription_ack":
                self.catching_up = self.live and "replayed" in item
                self.live = True
                self.interests += [Interest(name, dict(moved)) for name in item["subscribed"]]
            case "resume_ack":
                self.catching_up = self.live
                self.live = True
                for one in self.interests:
                    one.starts = {**moved, **one.starts}
            case "unsubscription_ack":
                # In each partition all came up to here, and no more of it does.
                for one in self.interests:
                    if one.ends is None and one.pattern in item["unsubscribed"]:
                        one.ends = dict(self.positions)

    def check(self, records: Collection[Record]) -> None:
        """Of `records` it has got its own, each once and in order, or was told they are lost."""
        assert self.interests
        got = offsets_of(self.messages)
        asked = {place for one in self.interests for place in one.offsets(records)}
        ought: dict[TopicPartition, list[int]] = defaultdict(list)
        for key, offset in sorted(asked):
            is_lost = any(span.first <= offset <= span.last for span in self.lost.get(key, ()))
            if offset in got.get(key, ()) or not is_lost:
                ought[key].append(offset)
        assert got == ought


def following(records: Iterable[Record], *channels: str) -> Follower:
    """A client that has got no record yet of these partitions."""
    follower = Follower(*channels)
    follower.positions = {key_of(one): -1 for one in records}
    follower.interests = [Interest(name, dict(follower.positions)) for name in channels]
    return follower


def _places(topics: Mapping[str, Mapping[str, Any]]) -> dict[TopicPartition, Any]:
    return {
        TopicPartition(topic, int(partition)): value
        for topic, partitions in topics.items()
        for partition, value in partitions.items()
    }
