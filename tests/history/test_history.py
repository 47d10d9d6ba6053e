"""The hot tail gives what a plain list would, within its size and its age."""

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

CATALOGUE = default_catalogue()

# Tokens that look like each other's patterns and channels, on purpose.
TOKENS = ("BTC", "a.b", "b", "trade")
CATEGORIES = ("trade", "social")
PATTERNS = [f"{token}.{category}" for token in (*TOKENS, "*") for category in (*CATEGORIES, "*")]
KEYS = [
    TopicPartition(CATALOGUE.categories[category].name, partition)
    for category in CATEGORIES
    for partition in (0, 1)
]
MOST_BYTES = 20_000
MOST_SECONDS = 10.0

keys = st.sampled_from(KEYS)
patterns = st.sets(st.sampled_from(PATTERNS), max_size=4)
positions = st.dictionaries(keys, st.integers(-1, 60), max_size=4)

MOST = 1 << 62


def key_of(one: ChannelMessage) -> TopicPartition:
    """The partition that a message is from."""
    return TopicPartition(one.record.topic, one.record.partition)


def orders(messages: Iterable[ChannelMessage]) -> list[int]:
    """Their places in the hub's order."""
    return [one.order for one in messages]


@attrs.frozen
class Kept:
    """A message, and when it came."""

    at: float
    message: ChannelMessage


class RetentionAgainstAList(RuleBasedStateMachine):
    """The hot tail beside a list of messages; the oldest is its first."""

    def __init__(self) -> None:
        super().__init__()
        self.history = History(CATALOGUE, MOST_BYTES, MOST_SECONDS)
        self.kept: list[Kept] = []
        self.floors: dict[TopicPartition, int] = {}
        self.next = dict.fromkeys(KEYS, 0)
        self.now = 0.0
        self.order = 0

    @rule(key=keys, offset=st.integers(-1, 50))
    def begin(self, key: TopicPartition, offset: int) -> None:
        """A partition is read from some place on, behind or before where it was."""
        self.history.begin(key, offset)
        self.forget(key)
        self.floors[key] = offset
        self.next[key] = offset + 1

    @rule(key=keys)
    def drop(self, key: TopicPartition) -> None:
        """A partition is read no more."""
        self.history.drop(key)
        self.forget(key)
        self.floors.pop(key, None)

    def forget(self, key: TopicPartition) -> None:
        """What the list does of a partition."""
        self.kept = [one for one in self.kept if key_of(one.message) != key]

    @precondition(lambda self: self.floors)
    @rule(
        data=st.data(),
        sizes=st.lists(st.sampled_from([0, 0, 0, 500, 3000, 30_000]), min_size=1, max_size=40),
        seconds=st.sampled_from([0, 0, 0.5, 5, 10, 11]),
    )
    def keep(self, data: st.DataObject, sizes: list[int], seconds: float) -> None:
        """Messages come, with holes between their offsets; the oldest make room for them."""
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
        """Let go of what is too old, and of too much to have a sixty-fourth free, one by one."""
        too_much = self.size() > MOST_BYTES
        while self.kept and (
            (too_much and self.size() > MOST_BYTES - MOST_BYTES // 64)
            or self.now - self.kept[0].at > MOST_SECONDS
        ):
            gone = self.kept.pop(0).message
            self.floors[key_of(gone)] = gone.record.offset

    def size(self) -> int:
        """What the list's messages take."""
        return sum(retained_bytes(one.message) for one in self.kept)

    @rule(names=patterns, starts=positions, reached=positions)
    def resume_cursor(
        self,
        names: set[str],
        starts: dict[TopicPartition, int],
        reached: dict[TopicPartition, int],
    ) -> None:
        """What is wanted comes in order, each message once, and as many as were promised."""
        resume_cursor = ResumeCursor(dict.fromkeys(sorted(names), starts))
        for key, offset in reached.items():
            resume_cursor.advance(key, offset)
        expected = [one.message for one in self.kept if resume_cursor.includes(one.message)]
        assert orders(finish(self.history.gather(resume_cursor, MOST, MOST)).messages) == orders(
            expected
        )
        assert finish(self.history.count(resume_cursor, MOST)) == len(expected)

    @rule(names=patterns, order=st.integers(0, 200))
    def since(self, names: set[str], order: int) -> None:
        """What came after a place in the order, of some patterns."""
        assert orders(finish(self.history.since(names, order, MOST))) == [
            one.message.order
            for one in self.kept
            if one.message.order > order and not names.isdisjoint(one.message.patterns)
        ]

    @rule(ago=st.floats(0, 12), maximum=st.integers(1, 10))
    def newest(self, ago: float, maximum: int) -> None:
        """What came since then, the newest first, and when the last of it came."""
        since = self.now - ago
        found, last = self.history.newest(since, maximum)
        expected = [one for one in reversed(self.kept) if one.at > since][:maximum]
        assert orders(found) == orders(one.message for one in expected)
        assert last == (expected[-1].at if expected else since)

    @invariant()
    def it_holds_what_the_list_holds(self) -> None:
        """As many messages of the same size, and it knows from where on they are complete."""
        assert len(self.history) == len(self.kept)
        assert self.history.size == sum(retained_bytes(one.message) for one in self.kept)
        assert {key: self.history.floor(key) for key in KEYS} == {
            key: self.floors.get(key) for key in KEYS
        }
        assert orders(finish(self.history.since(["*.*"], 0, MOST))) == orders(
            one.message for one in self.kept
        )


TestRetentionAgainstAList = RetentionAgainstAList.TestCase
TestRetentionAgainstAList.settings = settings(max_examples=60, stateful_step_count=25)


def history_loaded(count: int, *, tokens: int = 1) -> History:
    """A hot tail with messages of one partition, of so many tokens in turn."""
    history = History(CATALOGUE, 1 << 30, 1e9)
    history.begin(KEYS[0], -1)
    for number in range(count):
        one = message(f"T{number % tokens}", offset=number)
        one.order = number + 1
        history.keep(one, number)
    return history


def test_patterns_that_overlap_bring_a_message_once() -> None:
    """A channel, its token, its category and everything all want the same."""
    history = history_loaded(9, tokens=3)
    start = {KEYS[0]: 3}
    resume_cursor = ResumeCursor(dict.fromkeys(["T1.trade", "T1.*", "*.trade", "*.*"], start))
    assert orders(finish(history.gather(resume_cursor, MOST, MOST)).messages) == [5, 6, 7, 8, 9]
    assert finish(history.count(resume_cursor, MOST)) == 5


def test_channels_of_one_topic_may_begin_in_different_places() -> None:
    """As they do for a client that knows the last message of each channel."""
    history = history_loaded(12, tokens=3)
    resume_cursor = ResumeCursor({"T0.trade": {KEYS[0]: 8}, "T1.trade": {KEYS[0]: 3}})
    assert orders(finish(history.gather(resume_cursor, MOST, MOST)).messages) == [5, 8, 10, 11]
    assert finish(history.count(resume_cursor, MOST)) == 4


def test_without_a_budget_nothing_is_kept_and_it_says_so() -> None:
    """WS_HISTORY_BYTES=0: whatever is asked for is in the log."""
    history = History(CATALOGUE, 0, 300)
    history.begin(KEYS[0], 6)
    history.keep(message("BTC", offset=9), 0)
    assert (len(history), history.size, history.floor(KEYS[0])) == (0, 0, 9)


def test_when_it_is_full_a_sixty_fourth_is_made_free() -> None:
    """So that not each message has to make room for itself."""
    size = retained_bytes(message("BTC"))
    history = History(CATALOGUE, 640 * size, 300)
    history.begin(KEYS[0], -1)
    for offset in range(640):
        history.keep(message("BTC", offset=offset), 0)
    assert len(history) == 640
    history.keep(message("BTC", offset=640), 0)
    assert (len(history), history.floor(KEYS[0])) == (630, 10)


@pytest.mark.parametrize("forget", ["age", "drop", "begin"])
def test_what_is_forgotten_leaves_nothing_behind(forget: str) -> None:
    """There is no end of tokens: a channel that has no message takes no memory."""
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
    """What each message of these tests takes."""
    return retained_bytes(message("BTC"))


def kept_on(history: History, first: int, count: int, now: float = 0.0) -> None:
    """Keep so many more messages of one partition."""
    for offset in range(first, first + count):
        history.keep(message("BTC", offset=offset), now)


def pinned(messages: int) -> History:
    """A full history of so many messages."""
    history = History(CATALOGUE, messages * size_of_one(), 300)
    history.begin(KEYS[0], -1)
    kept_on(history, 0, messages)
    return history


def test_pin_keeps_the_floors() -> None:
    """Neither size nor age moves them until the pin is released by all who share it."""
    history = pinned(10)
    pin = history.pin()
    history.share(pin)
    kept_on(history, 10, 5, now=1000.0)
    assert (len(history), history.floor(KEYS[0])) == (15, -1)
    history.unpin(pin, 1000.0)
    kept_on(history, 15, 1, now=1000.0)
    assert (len(history), history.floor(KEYS[0])) == (16, -1)
    history.unpin(pin, 1000.0)
    assert (len(history), history.floor(KEYS[0])) == (6, 9)


def test_pins_are_broken_when_history_is_twice_its_size() -> None:
    """It has 16 MiB and was to have 20,000 messages of some 1 KB; then it has its size again."""
    count = (16 << 20) // size_of_one()
    history = pinned(count)
    pin, other = history.pin(), history.pin()
    kept_on(history, count, count)
    assert history.holds(pin)
    kept_on(history, 2 * count, 1)
    assert not history.holds(pin)
    assert not history.holds(other)
    assert history.broken_pins == 2
    assert history.size <= count * size_of_one()
    for one in (pin, other):
        history.unpin(one, 0.0)
    assert history.size <= count * size_of_one()


def test_small_history_may_grow_by_8_mib_while_pinned() -> None:
    """With WS_HISTORY_BYTES=0 too, or clients could not get from the log to live."""
    history = History(CATALOGUE, 0, 300)
    history.begin(KEYS[0], -1)
    pin = history.pin()
    count = (8 << 20) // size_of_one()
    kept_on(history, 0, count)
    assert len(history) == count
    kept_on(history, count, 1)
    assert not history.holds(pin)
    assert len(history) == 0


def test_surplus_of_a_released_pin_goes_in_steps() -> None:
    """1 MiB, or a sixteenth of the size, with each message; not all of it at once."""
    count = (64 << 20) // size_of_one()
    history = pinned(count)
    pin = history.pin()
    kept_on(history, count, count // 2)
    history.unpin(pin, 0.0)
    assert history.size > 80 << 20
    kept_on(history, 2 * count, 20)
    assert history.size <= 64 << 20


def test_new_pin_stops_the_surplus_from_going() -> None:
    """Whoever pins next gets the floor as it is then."""
    count = (64 << 20) // size_of_one()
    history = pinned(count)
    pin = history.pin()
    kept_on(history, count, count // 2)
    history.unpin(pin, 0.0)
    history.pin()
    floor = history.floor(KEYS[0])
    kept_on(history, 2 * count, 20)
    assert history.floor(KEYS[0]) == floor
