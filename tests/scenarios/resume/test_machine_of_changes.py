"""The same machine on a log that changes: partitions added, topics recreated, records cut off."""

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
from tests.scenarios.resume.test_machine import (
    CATEGORIES,
    PATTERNS,
    Action,
    Break,
    Come,
    Crash,
    LogReader,
    Pause,
    Publish,
    Slow,
    Widen,
    World,
    actions,
    crowds,
    deletions,
    retentions,
)
from tests.virtual_time import in_virtual_time

TOPICS = [default_catalogue().categories[category].name for category in CATEGORIES]


@attrs.frozen
class Add:
    """A topic gets one more partition."""

    topic: int


@attrs.frozen
class Recreate:
    """A topic is deleted and created again."""

    topic: int


@attrs.frozen
class Truncate:
    """A partition loses a share of its records, the newest."""

    topic: int
    partition: int
    share: float


@attrs.frozen
class Begin:
    """A client subscribes to one more pattern, from the beginning of the log."""

    client: int
    pattern: str


Change = Add | Recreate | Truncate | Begin

topics = st.integers(0, 1)
changes: st.SearchStrategy[Change] = st.one_of(
    st.builds(Add, topics),
    st.builds(Recreate, topics),
    st.builds(Truncate, topics, st.integers(0, 3), st.floats(0.1, 1)),
    st.builds(Begin, st.integers(0, 2), st.sampled_from(PATTERNS)),
)


@attrs.define
class Published:
    """A record, and what became of it. `number`: in its value; `life`: the id of its topic."""

    number: int
    key: TopicPartition
    offset: int
    life: str
    patterns: tuple[str, ...]
    cut: bool = False


@attrs.frozen
class Obligation:
    """What a client has been promised: a pattern, from these positions of these topics on."""

    pattern: str
    positions: dict[TopicPartition, int]
    ids: dict[str, str]


class Chaser(Follower):
    """A follower that notes what it was promised and told, with the ids of that moment."""

    def __init__(self, *channels: str) -> None:
        super().__init__(*channels)
        self.promises: list[Obligation] = []
        self.told: set[tuple[str, TopicPartition, int]] = set()
        self.numbers: Counter[int] = Counter()
        # It was cut off beside live subscriptions: some of theirs come again.
        self.again = False

    async def come(self, nursery: trio.Nursery, *args: Any, **options: Any) -> None:
        """Connect; it may have been cut off half-way."""
        self.again |= self.catching_up
        await super().connect(nursery, *args, **options)

    def take(self, item: dict[str, Any]) -> None:
        """Note what has come."""
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
                self.told |= {(life, key, offset) for offset in range(first, last + 1)}
        if item["type"] == "subscription_ack":
            moved = {
                TopicPartition(topic, int(partition)): offset
                for topic, partitions in item["positions"].items()
                for partition, offset in partitions.items()
            }
            self.promises += [
                Obligation(name, moved, dict(item["ids"])) for name in item["subscribed"]
            ]

    def owes(self, record: Published, generations: dict[str, list[str]]) -> bool:
        """Whether the follower has to have a record, or was told that it is lost."""
        if record.cut or record.life != generations[record.key.topic][-1]:
            return False
        for promise in self.promises:
            own = promise.ids.get(record.key.topic)
            if own is None or promise.pattern not in record.patterns:
                continue
            if own != record.life or record.offset > promise.positions.get(record.key, -1):
                return True
        return False


class ChangingWorld(World):
    """A world whose log changes."""

    def __init__(self, nursery: trio.Nursery, chasers: list[Chaser]) -> None:
        super().__init__(nursery, list(chasers), SCANS)
        self._chasers = chasers
        self.published: list[Published] = []
        self.generations = {topic: [topic_id] for topic, topic_id in self._log.ids.items()}

    async def change(self, action: Action | Change) -> None:
        """Let something happen."""
        match action:
            case Publish(channels, size):
                for token, category, partition in channels:
                    self._publish(token, category, partition, size)
            case Add(topic):
                self._log.add_partitions(TOPICS[topic], 1)
            case Recreate(topic):
                self._log.recreate(TOPICS[topic])
                self.generations[TOPICS[topic]].append(self._log.ids[TOPICS[topic]])
            case Truncate(topic, number, share):
                self._truncate(TOPICS[topic], number, share)
            case Begin(client, pattern):
                follower = self._chasers[client]
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
        # The last ones are those that were added.
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
        for one in self.published:
            if one.life == self._log.ids[topic] and one.key == key and one.offset >= offset:
                one.cut = True

    def check(self) -> None:
        """Everybody has what it was promised, or was told; and nothing that is there twice."""
        for chaser in self._chasers:
            for one in self.published:
                came = chaser.numbers[one.number]
                if chaser.owes(one, self.generations) and not came:
                    assert (one.life, one.key, one.offset) in chaser.told, (one, chaser.items)
                if came > 1 and not chaser.again:
                    assert one.cut or one.life != self.generations[one.key.topic][-1], one


def play(chasers: list[Chaser], retained: tuple[int, ...], plan: list[Action | Change]) -> None:
    """Let it all happen, and see what the clients have got."""

    async def main(_clock: MockClock) -> None:
        # It takes far less: this is for a server that hangs.
        with trio.fail_after(7200):
            async with trio.open_nursery() as nursery:
                world = ChangingWorld(nursery, chasers)
                await world.start(retained)
                for action in plan:
                    await world.change(action)
                await world.settle()
                nursery.cancel_scope.cancel()
            world.check()

    in_virtual_time(main)


# Brokers stay: an instance that has not noticed a change takes it for one of the client's.
steady = actions.filter(
    lambda one: isinstance(one, Publish | Come | Widen | Break | Crash | LogReader | Pause)
)


# As many as an instance has by default.
SCANS = 4

# One short way into each kind of trouble: random plans find them, but not in every run.
COME = Come(0, 0, 1 << 20, 0.0)
AWAY = Break(0)
SETTLE = Pause(0.7)
TRADES = Publish((("BTC", "trade", 0), ("ETH", "trade", 0)) * 3, 0)
LARGE = Publish((("BTC", "trade", 0),) * 60, 5000)
WAYS: dict[str, list[Action | Change]] = {
    "new partition": [COME, SETTLE, AWAY, Add(0), TRADES, SETTLE],
    "recreated": [COME, SETTLE, TRADES, SETTLE, AWAY, Recreate(0), TRADES, TRADES, SETTLE],
    "recreated live": [COME, SETTLE, TRADES, SETTLE, Recreate(0), TRADES, TRADES, SETTLE],
    "truncated": [COME, SETTLE, TRADES, SETTLE, Truncate(0, 1, 0.5), TRADES, TRADES, SETTLE],
    "second beginning": [
        LARGE,
        SETTLE,
        Come(0, 0, 500, 0.2),
        SETTLE,
        Begin(0, "*.*"),
        SETTLE,
        TRADES,
        Pause(7.0),
        AWAY,
    ],
    # The client has taken all it was sent: notes of where it is would come now.
    "second beginning on a log that stops answering": [
        *[LARGE] * 5,
        SETTLE,
        COME,
        SETTLE,
        Slow(0, 10, 0.1),
        Begin(0, "*.*"),
        Pause(2.8),
        LogReader(0, there=True, held=True),
        Pause(5.0),
        AWAY,
    ],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("retained", [0, 1 << 20])
def test_one_way_into_each_change(way: str, retained: int) -> None:
    """What the machine looks for, one by one."""
    crowd = [["*.*"], ["BTC.trade"], ["*.trade"]]
    play([Chaser(*patterns) for patterns in crowd], (retained, retained), WAYS[way])


@given(crowds, retentions, st.lists(steady | changes | deletions, max_size=25))
@settings(max_examples=40, deadline=None)
def test_on_a_log_that_changes_nothing_is_missing_untold(
    crowd: list[list[str]], retained: tuple[int, ...], plan: list[Action | Change]
) -> None:
    """New partitions, recreated topics, truncation, overlaps and second beginnings."""
    play([Chaser(*patterns) for patterns in crowd], retained, plan)
