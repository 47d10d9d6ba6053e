"""Random actions on a log that changes: added partitions, recreated topics, truncation."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from odin_ws.catalogue import default_catalogue
from odin_ws.pattern import matching_patterns
from odin_ws.records import TopicPartition
from odin_ws.testing.follower import Follower
from odin_ws.testing.scenario import Closed
from tests.hypothesis_examples import examples
from tests.scenarios.resume.test_random_actions import (
    CATEGORIES,
    PATTERNS,
    Action,
    BreakOff,
    Cluster,
    Connect,
    Crash,
    Pause,
    Publish,
    SetLogReader,
    SlowLogReader,
    Subscribe,
    actions,
    client_patterns,
    deletions,
    retentions,
)
from tests.virtual_time import in_virtual_time

TOPICS = [default_catalogue().categories[category].name for category in CATEGORIES]


@attrs.frozen
class AddPartition:
    """Add a partition to a topic."""

    topic: int


@attrs.frozen
class Recreate:
    """Delete a topic and create it again."""

    topic: int


@attrs.frozen
class Truncate:
    """Remove the newest share of a partition's records."""

    topic: int
    partition: int
    share: float


@attrs.frozen
class SubscribeFromStart:
    """Subscribe a client to one more pattern, from the beginning of the log."""

    client: int
    pattern: str


Change = AddPartition | Recreate | Truncate | SubscribeFromStart

topics = st.integers(0, 1)
changes: st.SearchStrategy[Change] = st.one_of(
    st.builds(AddPartition, topics),
    st.builds(Recreate, topics),
    st.builds(Truncate, topics, st.integers(0, 3), st.floats(0.1, 1)),
    st.builds(SubscribeFromStart, st.integers(0, 2), st.sampled_from(PATTERNS)),
)


@attrs.define
class Published:
    """A record and whether it was truncated.

    `number`: in its value; `life`: the id of its topic.
    """

    number: int
    key: TopicPartition
    offset: int
    life: str
    patterns: tuple[str, ...]
    truncated: bool = False


@attrs.frozen
class Obligation:
    """A pattern that the server promised to deliver after these positions, with the topic ids."""

    pattern: str
    positions: dict[TopicPartition, int]
    ids: dict[str, str]


class RecordingFollower(Follower):
    """A follower that records what it was promised and what was reported lost."""

    def __init__(self, *channels: str) -> None:
        super().__init__(*channels)
        self.promises: list[Obligation] = []
        self.reported: set[tuple[str, TopicPartition, int]] = set()
        self.numbers: Counter[int] = Counter()
        # True after a disconnect during a replay beside live subscriptions: the next connection
        # repeats some of their messages.
        self.may_repeat = False

    async def connect(self, nursery: trio.Nursery, *args: Any, **options: Any) -> None:
        """Connect; the previous connection may have ended during a replay."""
        self.may_repeat |= self.catching_up
        await super().connect(nursery, *args, **options)

    def take(self, item: dict[str, Any]) -> None:
        """Record a received item."""
        before = dict(self.ids)
        super().take(item)
        for topic, topic_id in item.get("ids", {}).items():
            if before.get(topic, topic_id) != topic_id:
                assert item["type"] in {"feed", "resume_ack", "subscription_ack"}, item
                assert item.get("reason") == "recreated", item
        if "seq" in item:
            self.numbers[item["data"]["n"]] += 1
            return
        for topic, partitions in item.get("lost", {}).items():
            for partition, (first, last) in partitions.items():
                key = TopicPartition(topic, int(partition))
                life = self.ids.get(topic, "")
                self.reported |= {(life, key, offset) for offset in range(first, last + 1)}
        if item["type"] == "subscription_ack":
            moved = {
                TopicPartition(topic, int(partition)): offset
                for topic, partitions in item["positions"].items()
                for partition, offset in partitions.items()
            }
            self.promises += [
                Obligation(name, moved, dict(item["ids"])) for name in item["subscribed"]
            ]

    def is_owed(self, record: Published, generations: dict[str, list[str]]) -> bool:
        """Return whether the server must deliver the record, or report it lost."""
        if record.truncated or record.life != generations[record.key.topic][-1]:
            return False
        for promise in self.promises:
            own = promise.ids.get(record.key.topic)
            if own is None or promise.pattern not in record.patterns:
                continue
            if own != record.life or record.offset > promise.positions.get(record.key, -1):
                return True
        return False


class ChangingCluster(Cluster):
    """A cluster whose log changes."""

    def __init__(self, nursery: trio.Nursery, followers: list[RecordingFollower]) -> None:
        super().__init__(nursery, list(followers), SCANS)
        self._recording = followers
        self.published: list[Published] = []
        self.generations = {topic: [topic_id] for topic, topic_id in self._log.ids.items()}

    async def change(self, action: Action | Change) -> None:
        """Carry out an action or change."""
        match action:
            case Publish(channels, size):
                for token, category, partition in channels:
                    self._publish(token, category, partition, size)
            case AddPartition(topic):
                self._log.add_partitions(TOPICS[topic], 1)
            case Recreate(topic):
                self._log.recreate(TOPICS[topic])
                self.generations[TOPICS[topic]].append(self._log.ids[TOPICS[topic]])
            case Truncate(topic, number, share):
                self._truncate(TOPICS[topic], number, share)
            case SubscribeFromStart(client, pattern):
                follower = self._recording[client]
                if follower.live and not follower.closed:
                    with suppress(Closed):
                        await follower.send(
                            "subscribe", channels=[pattern], since_ms=0, positions=True
                        )
            case _:
                await self.do(action)

    def _partitions(self, topic: str) -> int:
        return sum(key.topic == topic for key in self._log.ends())

    def _publish(self, token: str, category: str, partition: int, size: int) -> None:
        topic = default_catalogue().categories[category].name
        # 0 is the partition that was added last.
        number = self._partitions(topic) - 1 - partition
        value = b'{"n":%d,"x":"%b"}' % (len(self.published), b"x" * size)
        record = self._log.append(topic, token.encode(), value, partition=number)
        self.published.append(
            Published(
                len(self.published),
                TopicPartition(topic, number),
                record.offset,
                self._log.ids[topic],
                matching_patterns(token, category),
            )
        )

    def _truncate(self, topic: str, number: int, share: float) -> None:
        key = TopicPartition(topic, number % self._partitions(topic))
        first, end = self._log.bounds()[key]
        offset = end - max(1, round(share * (end - first)))
        if offset < first:
            return
        self._log.truncate(topic, key.partition, offset)
        for record in self.published:
            if (
                record.life == self._log.ids[topic]
                and record.key == key
                and record.offset >= offset
            ):
                record.truncated = True

    def check(self) -> None:
        """Check that each client received each owed record or its loss, and none twice."""
        for follower in self._recording:
            for record in self.published:
                received = follower.numbers[record.number]
                if follower.is_owed(record, self.generations) and not received:
                    assert (record.life, record.key, record.offset) in follower.reported, (
                        record,
                        follower.items,
                    )
                if received > 1 and not follower.may_repeat:
                    assert (
                        record.truncated or record.life != self.generations[record.key.topic][-1]
                    ), record


def play(
    followers: list[RecordingFollower], retained: tuple[int, ...], plan: list[Action | Change]
) -> None:
    """Carry out a plan, and check what the clients have received."""

    async def main(_clock: MockClock) -> None:
        # A run takes far less: this detects a server that hangs.
        with trio.fail_after(7200):
            async with trio.open_nursery() as nursery:
                cluster = ChangingCluster(nursery, followers)
                await cluster.start(retained)
                for action in plan:
                    await cluster.change(action)
                await cluster.settle()
                nursery.cancel_scope.cancel()
            cluster.check()

    in_virtual_time(main)


# Without broker outages: an instance that has not noticed a change takes the client to be wrong.
steady = actions.filter(
    lambda one: isinstance(
        one, Publish | Connect | Subscribe | BreakOff | Crash | SetLogReader | Pause
    )
)


# The default of WS_REPLAY_CONSUMERS.
SCANS = 4

# A short plan for each kind of change: random plans do not find all of them in each run.
CONNECT = Connect(0, 0, 1 << 20, 0.0)
DISCONNECT = BreakOff(0)
SETTLE = Pause(0.7)
TRADES = Publish((("BTC", "trade", 0), ("ETH", "trade", 0)) * 3, 0)
LARGE = Publish((("BTC", "trade", 0),) * 60, 5000)
PLANS: dict[str, list[Action | Change]] = {
    "new partition": [CONNECT, SETTLE, DISCONNECT, AddPartition(0), TRADES, SETTLE],
    "recreated": [CONNECT, SETTLE, TRADES, SETTLE, DISCONNECT, Recreate(0), TRADES, TRADES, SETTLE],
    "recreated live": [CONNECT, SETTLE, TRADES, SETTLE, Recreate(0), TRADES, TRADES, SETTLE],
    "truncated": [CONNECT, SETTLE, TRADES, SETTLE, Truncate(0, 1, 0.5), TRADES, TRADES, SETTLE],
    "second replay": [
        LARGE,
        SETTLE,
        Connect(0, 0, 500, 0.2),
        SETTLE,
        SubscribeFromStart(0, "*.*"),
        SETTLE,
        TRADES,
        Pause(7.0),
        DISCONNECT,
    ],
    # The client has read all it was sent: a positions notice could be sent now.
    "second replay on a log that stops answering": [
        *[LARGE] * 5,
        SETTLE,
        CONNECT,
        SETTLE,
        SlowLogReader(0, 10, 0.1),
        SubscribeFromStart(0, "*.*"),
        Pause(2.8),
        SetLogReader(0, there=True, held=True),
        Pause(5.0),
        DISCONNECT,
    ],
}


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("retained", [0, 1 << 20])
def test_each_change_loses_no_record(name: str, retained: int) -> None:
    """One short plan for each change."""
    patterns_of = [["*.*"], ["BTC.trade"], ["*.trade"]]
    play(
        [RecordingFollower(*patterns) for patterns in patterns_of],
        (retained, retained),
        PLANS[name],
    )


@given(client_patterns, retentions, st.lists(steady | changes | deletions, max_size=25))
@settings(max_examples=examples(40))
def test_random_changes_lose_no_record_unreported(
    patterns_of: list[list[str]], retained: tuple[int, ...], plan: list[Action | Change]
) -> None:
    """Added partitions, recreated topics, truncation, overlaps and second replays."""
    play([RecordingFollower(*patterns) for patterns in patterns_of], retained, plan)
