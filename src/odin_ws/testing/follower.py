"""A client that resumes: stores its positions, and knows which records it must have received."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import attrs
import trio
import trio_websocket

from odin_ws.catalogue import Catalogue, default_catalogue
from odin_ws.log_reader import Span
from odin_ws.pattern import matching_patterns
from odin_ws.records import Record, TopicPartition
from odin_ws.testing.assertions import assert_offsets, offsets_of, position_of
from odin_ws.testing.scenario import Closed, Scenario, ScenarioClient

__all__ = ["Follower", "Interest", "by_topic", "key_of", "wanted"]

Positions = Mapping[TopicPartition, int]


def key_of(record: Record) -> TopicPartition:
    """Return the partition of a record."""
    return TopicPartition(record.topic, record.partition)


def by_topic(positions: Positions) -> dict[str, dict[int, int]]:
    """Return positions in the form of the commands `resume` and `reconnect`."""
    found: dict[str, dict[int, int]] = defaultdict(dict)
    for key, offset in positions.items():
        found[key.topic][key.partition] = offset
    return found


def wanted(
    records: Iterable[Record],
    patterns: Iterable[str],
    starts: Positions,
    catalogue: Catalogue | None = None,
) -> dict[TopicPartition, list[int]]:
    """Return by partition the offsets of matching records after `starts`, in order."""
    topics = (catalogue or default_catalogue()).topics
    found: dict[TopicPartition, list[int]] = defaultdict(list)
    expected = set(patterns)
    # Cached by token: tests compare thousands of records per client, with few different tokens.
    matching: dict[tuple[str, bytes | None], bool] = {}
    for record in records:
        channel = record.topic, record.key
        if channel not in matching:
            assert record.key is not None
            names = matching_patterns(record.key.decode(), topics[record.topic].category)
            matching[channel] = not expected.isdisjoint(names)
        if matching[channel]:
            key = key_of(record)
            if key in starts and record.offset > starts[key]:
                found[key].append(record.offset)
    return dict(found)


@attrs.define
class Interest:
    """A pattern, with the positions at which the subscription to it started and ended."""

    pattern: str
    starts: dict[TopicPartition, int]
    ends: Positions | None = None

    def offsets(
        self, records: Collection[Record], catalogue: Catalogue | None = None
    ) -> Iterator[tuple[TopicPartition, int]]:
        """Yield partition and offset of the matching records.

        All records of partitions that were added after the start are included.
        """
        topics = {key.topic for key in self.starts}
        keys = {(record.topic, record.partition) for record in records if record.topic in topics}
        added = {TopicPartition(*key): -1 for key in keys}
        starts = {**added, **self.starts}
        for key, offsets in wanted(records, [self.pattern], starts, catalogue).items():
            for offset in offsets:
                if self.ends is None or offset <= self.ends.get(key, offset):
                    yield key, offset


class Follower:
    """A client that subscribes first, and resumes from its positions after each reconnect.

    The client follows docs/protocol.md over any number of connections to any instance; `check` then
    asserts that it has received all records.

    Args:
        channels: the channels to subscribe to.
        pause: seconds between two reads.
        keeps_ids: whether the client detects recreated topics by their ids.
        catalogue: the catalogue of another domain; None for Odin's.
    """

    def __init__(
        self,
        *channels: str,
        pause: float = 0.0,
        keeps_ids: bool = True,
        catalogue: Catalogue | None = None,
    ) -> None:
        self.messages: list[dict[str, Any]] = []
        """The messages of all connections."""
        self.items: list[dict[str, Any]] = []
        """All items of the last connection, in order."""
        self.positions: dict[TopicPartition, int] = {}
        """The offset of the last record of each partition."""
        self.topics: set[str] = set()
        """The topics with positions, also topics without a partition."""
        self.ids: dict[str, str] = {}
        """The id of each topic."""
        self.lost: dict[TopicPartition, list[Span]] = defaultdict(list)
        """The ranges of offsets that the server reported as lost, by partition."""
        self.interests: list[Interest] = []
        """The acknowledged subscriptions, over all connections."""
        self.live = False
        """True if the first command of this connection is acknowledged."""
        self.catching_up = False
        """True if a replay of one subscription runs beside live subscriptions."""
        self.pause = pause
        self._channels = channels
        self._keeps_ids = keeps_ids
        self._catalogue = catalogue
        self._closed: Closed | None = None
        self._ended = trio.Event()
        self._client: ScenarioClient | None = None

    @property
    def channels(self) -> list[str]:
        """The channels of the current subscriptions."""
        if not self.interests:
            return list(self._channels)
        return list(
            {interest.pattern: None for interest in self.interests if interest.ends is None}
        )

    @property
    def closed(self) -> Closed | None:
        """The end of the last connection; None while the client is connected."""
        return self._closed

    @property
    def client(self) -> ScenarioClient:
        """The connection, for faults."""
        assert self._client is not None
        return self._client

    async def wait_closed(self) -> tuple[int, str]:
        """Wait until the connection has ended and is read to its end; return code and reason."""
        with trio.fail_after(600):
            await self._ended.wait()
        assert self._closed
        return self._closed.code, self._closed.reason

    @property
    def responses(self) -> list[dict[str, Any]]:
        """The items of the last connection besides messages and `positions`."""
        return [item for item in self.items if "seq" not in item and item["type"] != "positions"]

    async def connect(
        self, nursery: trio.Nursery, scenario: Scenario, *, capacity: int = 1 << 20, **data: Any
    ) -> None:
        """Connect, subscribe or resume with `data` added, and read in a task of the nursery."""
        self.items, self.live, self.catching_up = [], False, False
        self._closed, self._ended = None, trio.Event()
        client = self._client = await scenario.connect(capacity=capacity)
        kind = "resume" if self.interests else "subscribe"
        fields = self._resume() if self.interests else {"positions": True}
        data_ = {**fields, "channels": self.channels, **data}
        await client.send(json.dumps({"type": kind, "data": data_}))
        nursery.start_soon(self._read, client)

    def _resume(self) -> dict[str, Any]:
        positions: dict[str, dict[int, int]] = {topic: {} for topic in self.topics}
        ids = {"ids": self.ids} if self._keeps_ids and self.ids else {}
        return {"positions": positions | by_topic(self.positions), **ids}

    async def send(self, kind: str, **data: Any) -> None:
        """Send a command; its response is among the items."""
        await self.client.send(json.dumps({"type": kind, "data": data}))

    def break_off(self) -> None:
        """End the connection without a close frame, as a network failure does."""
        client, self._client = self._client, None
        if client is not None:
            client.stream.break_off()
            self._close(1006, "")

    def _close(self, code: int, reason: str) -> None:
        self._closed = Closed(code, reason)
        self._ended.set()

    async def _read(self, client: ScenarioClient) -> None:
        while True:
            try:
                text = await client.websocket.get_message()
            except trio_websocket.ConnectionClosed as error:
                if client is self._client:
                    # Without a close frame the library reports no code.
                    close_frame = error.reason
                    self._close(
                        int(close_frame.code) if close_frame else 1006,
                        (close_frame and close_frame.reason) or "",
                    )
                return
            if client is not self._client:
                return
            self.take(json.loads(text))
            if self.pause:
                await trio.sleep(self.pause)

    def take(self, item: dict[str, Any]) -> None:
        """Record a received item, and update positions as docs/protocol.md requires."""
        self.items.append(item)
        if "seq" in item:
            self.messages.append(item)
            if item.get("replay") or not self.catching_up:
                key, offset = position_of(item, self._catalogue)
                self.positions[key] = max(offset, self.positions.get(key, offset))
            return
        for topic, topic_id in item.get("ids", {}).items() if self._keeps_ids else ():
            if self.ids.setdefault(topic, topic_id) != topic_id:
                self.ids[topic] = topic_id
                for key in [key for key in self.positions if key.topic == topic]:
                    del self.positions[key]
        moved = _by_partition(item.get("positions", {}))
        self.topics.update(item.get("positions", ()))
        lost = {key: Span(*span) for key, span in _by_partition(item.get("lost", {})).items()}
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
                for interest in self.interests:
                    interest.starts = {**moved, **interest.starts}
            case "unsubscription_ack":
                # In each partition all records up to here have arrived, and no later record does.
                for interest in self.interests:
                    if interest.ends is None and interest.pattern in item["unsubscribed"]:
                        interest.ends = dict(self.positions)

    def check(self, records: Collection[Record]) -> None:
        """Assert that the client received its part of `records` once and in order, except losses.

        The error lists by partition the missing, duplicated and disordered offsets.
        """
        assert self.interests, "nothing was subscribed"
        got = offsets_of(self.messages, self._catalogue)
        expected = {
            key for interest in self.interests for key in interest.offsets(records, self._catalogue)
        }
        received = {key: set(offsets) for key, offsets in got.items()}
        ought: dict[TopicPartition, list[int]] = defaultdict(list)
        for key, offset in sorted(expected):
            is_lost = any(span.first <= offset <= span.last for span in self.lost.get(key, ()))
            if not is_lost or offset in received.get(key, ()):
                ought[key].append(offset)
        assert_offsets(got, ought)


def _by_partition(topics: Mapping[str, Mapping[str, Any]]) -> dict[TopicPartition, Any]:
    return {
        TopicPartition(topic, int(partition)): value
        for topic, partitions in topics.items()
        for partition, value in partitions.items()
    }
