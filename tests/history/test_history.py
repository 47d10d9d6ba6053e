"""The in-memory history returns what a plain list would, within its size and age."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from odin_ws.catalogue import default_catalogue
from odin_ws.history import History, ResumeCursor
from odin_ws.history.history import retained_bytes
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.records import TopicPartition
from odin_ws.steps import finish
from tests.factories import message
from tests.hypothesis_examples import examples

CATALOGUE = default_catalogue()

# Tokens that are parts of other tokens, or names of categories.
TOKENS = ("BTC", "a.b", "b", "trade")
CATEGORIES = ("trade", "social")
PATTERNS = [f"{token}.{category}" for token in (*TOKENS, "*") for category in (*CATEGORIES, "*")]
KEYS = [
    TopicPartition(CATALOGUE.categories[category].name, partition)
    for category in CATEGORIES
    for partition in (0, 1)
]
MAX_BYTES = 20_000
MAX_SECONDS = 10.0

keys = st.sampled_from(KEYS)
patterns = st.sets(st.sampled_from(PATTERNS), max_size=4)
positions = st.dictionaries(keys, st.integers(-1, 60), max_size=4)

NO_LIMIT = 1 << 62


def partition_of(one: ChannelMessage) -> TopicPartition:
    """Return the partition of the message."""
    return TopicPartition(one.record.topic, one.record.partition)


def orders(messages: Iterable[ChannelMessage]) -> list[int]:
    """Return the messages' places in the hub's order."""
    return [message.order for message in messages]


@attrs.frozen
class Kept:
    """A message and the time at which it was kept."""

    at: float
    message: ChannelMessage


class HistoryAgainstAList(RuleBasedStateMachine):
    """The history and, as its model, a list of messages, the oldest first."""

    def __init__(self) -> None:
        super().__init__()
        self.history = History(CATALOGUE, MAX_BYTES, MAX_SECONDS)
        self.kept: list[Kept] = []
        self.floors: dict[TopicPartition, int] = {}
        self.next = dict.fromkeys(KEYS, 0)
        self.now = 0.0
        self.order = 0

    @rule(key=keys, offset=st.integers(-1, 50))
    def begin(self, key: TopicPartition, offset: int) -> None:
        """Reading of a partition begins at an offset before or after the previous one."""
        self.history.begin(key, offset)
        self.forget(key)
        self.floors[key] = offset
        self.next[key] = offset + 1

    @rule(key=keys)
    def drop(self, key: TopicPartition) -> None:
        """Reading of a partition ends."""
        self.history.drop(key)
        self.forget(key)
        self.floors.pop(key, None)

    def forget(self, key: TopicPartition) -> None:
        """Remove a partition's messages from the model."""
        self.kept = [one for one in self.kept if partition_of(one.message) != key]

    @precondition(lambda self: self.floors)
    @rule(
        data=st.data(),
        sizes=st.lists(st.sampled_from([0, 0, 0, 500, 3000, 30_000]), min_size=1, max_size=40),
        seconds=st.sampled_from([0, 0, 0.5, 5, 10, 11]),
    )
    def keep(self, data: st.DataObject, sizes: list[int], seconds: float) -> None:
        """Messages are kept, with gaps between their offsets; the oldest are dropped for them."""
        self.now += seconds
        for size in sizes:
            key = data.draw(st.sampled_from(sorted(self.floors)))
            offset = self.next[key] + data.draw(st.sampled_from([0, 0, 0, 1, 7]))
            self.next[key] = offset + 1
            self.order += 1
            one = message(
                data.draw(st.sampled_from(TOKENS)),
                CATALOGUE.topics[key.topic].category,
                b"x" * size,
                partition=key.partition,
                offset=offset,
            )
            one.order = self.order
            self.history.keep(one, self.now)
            self.kept.append(Kept(self.now, one))
            self.trim()

    def trim(self) -> None:
        """Drop the model's messages that are too old; if too large, drop until a 64th is free."""
        too_much = self.size() > MAX_BYTES
        while self.kept and (
            (too_much and self.size() > MAX_BYTES - MAX_BYTES // 64)
            or self.now - self.kept[0].at > MAX_SECONDS
        ):
            gone = self.kept.pop(0).message
            self.floors[partition_of(gone)] = gone.record.offset

    def size(self) -> int:
        """Return the bytes of the model's messages."""
        return sum(retained_bytes(one.message) for one in self.kept)

    @rule(names=patterns, starts=positions, reached=positions)
    def resume_cursor(
        self,
        names: set[str],
        starts: dict[TopicPartition, int],
        reached: dict[TopicPartition, int],
    ) -> None:
        """`gather` returns the wanted messages in order, each once, and `count` their number."""
        resume_cursor = ResumeCursor(dict.fromkeys(sorted(names), starts))
        for key, offset in reached.items():
            resume_cursor.advance(key, offset)
        expected = [one.message for one in self.kept if resume_cursor.includes(one.message)]
        assert orders(
            finish(self.history.gather(resume_cursor, NO_LIMIT, NO_LIMIT)).messages
        ) == orders(expected)
        assert finish(self.history.count(resume_cursor, NO_LIMIT)) == len(expected)

    @rule(names=patterns, order=st.integers(0, 200))
    def since(self, names: set[str], order: int) -> None:
        """`since` returns the messages of these patterns after a place in the order."""
        assert orders(finish(self.history.since(names, order, NO_LIMIT))) == [
            one.message.order
            for one in self.kept
            if one.message.order > order and not names.isdisjoint(one.message.patterns)
        ]

    @rule(ago=st.floats(0, 12), maximum=st.integers(1, 10))
    def newest(self, ago: float, maximum: int) -> None:
        """`newest` returns the messages kept after a time, newest first, and when the last was."""
        since = self.now - ago
        found, last = self.history.newest(since, maximum)
        expected = [one for one in reversed(self.kept) if one.at > since][:maximum]
        assert orders(found) == orders(one.message for one in expected)
        assert last == (expected[-1].at if expected else since)

    @invariant()
    def history_equals_model(self) -> None:
        """Count, size, messages and floors are those of the model."""
        assert len(self.history) == len(self.kept)
        assert self.history.size == sum(retained_bytes(one.message) for one in self.kept)
        assert {key: self.history.floor(key) for key in KEYS} == {
            key: self.floors.get(key) for key in KEYS
        }
        assert orders(finish(self.history.since(["*.*"], 0, NO_LIMIT))) == orders(
            one.message for one in self.kept
        )


TestHistoryAgainstAList = HistoryAgainstAList.TestCase
TestHistoryAgainstAList.settings = settings(max_examples=examples(60), stateful_step_count=25)


def history_of(count: int, *, tokens: int = 1) -> History:
    """Return a history with `count` messages of one partition, of `tokens` tokens in turn."""
    history = History(CATALOGUE, 1 << 30, 1e9)
    history.begin(KEYS[0], -1)
    for number in range(count):
        one = message(f"T{number % tokens}", offset=number)
        one.order = number + 1
        history.keep(one, number)
    return history


def test_overlapping_patterns_return_message_once() -> None:
    """A channel, its token, its category and `*.*` match the same message."""
    history = history_of(9, tokens=3)
    start = {KEYS[0]: 3}
    resume_cursor = ResumeCursor(dict.fromkeys(["T1.trade", "T1.*", "*.trade", "*.*"], start))
    assert orders(finish(history.gather(resume_cursor, NO_LIMIT, NO_LIMIT)).messages) == [
        5,
        6,
        7,
        8,
        9,
    ]
    assert finish(history.count(resume_cursor, NO_LIMIT)) == 5


def test_channels_of_one_topic_have_their_own_positions() -> None:
    """A client's `reconnect` has the last message of each channel."""
    history = history_of(12, tokens=3)
    resume_cursor = ResumeCursor({"T0.trade": {KEYS[0]: 8}, "T1.trade": {KEYS[0]: 3}})
    assert orders(finish(history.gather(resume_cursor, NO_LIMIT, NO_LIMIT)).messages) == [
        5,
        8,
        10,
        11,
    ]
    assert finish(history.count(resume_cursor, NO_LIMIT)) == 4


def test_history_of_0_bytes_keeps_nothing_and_moves_its_floor() -> None:
    """With WS_HISTORY_BYTES=0 all replays read from Kafka."""
    history = History(CATALOGUE, 0, 300)
    history.begin(KEYS[0], 6)
    history.keep(message("BTC", offset=9), 0)
    assert (len(history), history.size, history.floor(KEYS[0])) == (0, 0, 9)


def test_full_history_drops_a_64th_of_its_size() -> None:
    """Otherwise each further message would have to make room for itself."""
    size = retained_bytes(message("BTC"))
    history = History(CATALOGUE, 640 * size, 300)
    history.begin(KEYS[0], -1)
    for offset in range(640):
        history.keep(message("BTC", offset=offset), 0)
    assert len(history) == 640
    history.keep(message("BTC", offset=640), 0)
    assert (len(history), history.floor(KEYS[0])) == (630, 10)


@pytest.mark.parametrize("forget", ["age", "drop", "begin"])
def test_dropped_message_leaves_no_reference(forget: str) -> None:
    """The number of tokens is unbounded: a channel without messages must take no memory."""
    history = History(CATALOGUE, 1 << 30, 10)
    history.begin(KEYS[0], -1)
    one = message("BTC")
    references = [sys.getrefcount(one.channel)]
    history.keep(one, 0)
    references.append(sys.getrefcount(one.channel))
    match forget:
        case "age":
            history.trim(11)
        case "drop":
            history.drop(KEYS[0])
        case "begin":
            history.begin(KEYS[0], 500)
    references.append(sys.getrefcount(one.channel))
    before, while_kept, after = references
    assert before == after < while_kept


# ---- pins


def size_of_one() -> int:
    """Return the bytes that each message of these tests takes."""
    return retained_bytes(message("BTC"))


def keep_more(history: History, first: int, count: int, now: float = 0.0) -> None:
    """Keep `count` further messages of one partition."""
    for offset in range(first, first + count):
        history.keep(message("BTC", offset=offset), now)


def full_history(messages: int) -> History:
    """Return a history that `messages` messages fill."""
    history = History(CATALOGUE, messages * size_of_one(), 300)
    history.begin(KEYS[0], -1)
    keep_more(history, 0, messages)
    return history


def test_pin_keeps_floors_until_released_by_all() -> None:
    """Meanwhile neither size nor age drops messages."""
    history = full_history(10)
    pin = history.pin()
    history.share(pin)
    keep_more(history, 10, 5, now=1000.0)
    assert (len(history), history.floor(KEYS[0])) == (15, -1)
    history.unpin(pin, 1000.0)
    keep_more(history, 15, 1, now=1000.0)
    assert (len(history), history.floor(KEYS[0])) == (16, -1)
    history.unpin(pin, 1000.0)
    assert (len(history), history.floor(KEYS[0])) == (6, 9)


def test_pins_are_broken_at_twice_the_history_size() -> None:
    """The history then returns to its size of 16 MiB."""
    count = (16 << 20) // size_of_one()
    history = full_history(count)
    pin, other = history.pin(), history.pin()
    keep_more(history, count, count)
    assert history.holds(pin)
    keep_more(history, 2 * count, 1)
    assert not history.holds(pin)
    assert not history.holds(other)
    assert history.broken_pins == 2
    assert history.size <= count * size_of_one()
    for one in (pin, other):
        history.unpin(one, 0.0)
    assert history.size <= count * size_of_one()


def test_small_history_may_grow_by_8_mib_while_pinned() -> None:
    """With WS_HISTORY_BYTES=0 too: otherwise no replay could join the live stream."""
    history = History(CATALOGUE, 0, 300)
    history.begin(KEYS[0], -1)
    pin = history.pin()
    count = (8 << 20) // size_of_one()
    keep_more(history, 0, count)
    assert len(history) == count
    keep_more(history, count, 1)
    assert not history.holds(pin)
    assert len(history) == 0


def test_messages_beyond_size_are_dropped_in_steps_after_unpin() -> None:
    """Each kept message drops 1 MiB, or a sixteenth of the size."""
    count = (64 << 20) // size_of_one()
    history = full_history(count)
    pin = history.pin()
    keep_more(history, count, count // 2)
    history.unpin(pin, 0.0)
    assert history.size > 80 << 20
    keep_more(history, 2 * count, 20)
    assert history.size <= 64 << 20


def test_new_pin_stops_dropping() -> None:
    """The new pin holds the floor as it is at that time."""
    count = (64 << 20) // size_of_one()
    history = full_history(count)
    pin = history.pin()
    keep_more(history, count, count // 2)
    history.unpin(pin, 0.0)
    history.pin()
    floor = history.floor(KEYS[0])
    keep_more(history, 2 * count, 20)
    assert history.floor(KEYS[0]) == floor
