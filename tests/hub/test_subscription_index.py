"""The index finds the same subscribers as a naive search, and drops unused patterns."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from odin_ws.hub.subscriber import Subscriber
from odin_ws.hub.subscription_index import SubscriptionIndex
from tests.factories import message
from tests.hypothesis_examples import examples

# Tokens that look like each other's patterns and channels, on purpose.
TOKENS = ("BTC", "a.b", "a", "b", "trade", "BTC.trade")
CATEGORIES = ("trade", "social")
PATTERNS = [f"{token}.{category}" for token in (*TOKENS, "*") for category in (*CATEGORIES, "*")]


def new_subscriber() -> Subscriber:
    """One that nothing is delivered to."""
    return Subscriber(lambda _: None)


def resume_cursors(pattern: str, token: str, category: str) -> bool:
    """Whether a pattern asks for a channel, by the protocol's words."""
    wanted_token, wanted_category = pattern.rsplit(".", 1)
    return wanted_token in {token, "*"} and wanted_category in {category, "*"}


class IndexAgainstPairs(RuleBasedStateMachine):
    """The index beside a plain set of (subscriber's number, pattern)."""

    def __init__(self) -> None:
        super().__init__()
        self.index = SubscriptionIndex()
        self.subscribers = [new_subscriber() for _ in range(3)]
        self.pairs: set[tuple[int, str]] = set()

    @rule(number=st.integers(0, 2), pattern=st.sampled_from(PATTERNS))
    def add(self, number: int, pattern: str) -> None:
        """Subscribe; told whether that is new."""
        new = (number, pattern) not in self.pairs
        assert self.index.add(self.subscribers[number], pattern) == (pattern if new else None)
        self.pairs.add((number, pattern))

    @rule(number=st.integers(0, 2), pattern=st.sampled_from(PATTERNS))
    def discard(self, number: int, pattern: str) -> None:
        """Unsubscribe; told whether there was something."""
        there = (number, pattern) in self.pairs
        assert self.index.discard(self.subscribers[number], pattern) is there
        self.pairs.discard((number, pattern))

    @rule(token=st.sampled_from(TOKENS), category=st.sampled_from(CATEGORIES))
    def look_up(self, token: str, category: str) -> None:
        """Find one audience for each pattern that matches and has a subscriber."""
        found = [
            [self.subscribers.index(member) for member in subscriber_set.members]
            for subscriber_set in self.index.matching(message(token, category))
        ]
        expected = [
            {number for number, own in self.pairs if own == pattern}
            for pattern in {own for _, own in self.pairs}
            if resume_cursors(pattern, token, category)
        ]
        assert sorted(map(sorted, found)) == sorted(map(sorted, expected))

    @invariant()
    def subscribers_know_their_patterns(self) -> None:
        """Each subscriber's own list is the model's."""
        for number, subscriber in enumerate(self.subscribers):
            assert subscriber.patterns == {own for who, own in self.pairs if who == number}

    @invariant()
    def empty_audiences_are_forgotten(self) -> None:
        """The index holds the patterns that somebody has, and no more."""
        assert len(self.index) == len({pattern for _, pattern in self.pairs})


TestIndexAgainstPairs = IndexAgainstPairs.TestCase
TestIndexAgainstPairs.settings = settings(max_examples=examples(25), stateful_step_count=30)


@pytest.mark.parametrize("token", TOKENS)
def test_channel_has_at_most_four_audiences(token: str) -> None:
    """A record costs four look-ups for any number of patterns."""
    index = SubscriptionIndex()
    for pattern in PATTERNS:
        index.add(new_subscriber(), pattern)
    assert len(list(index.matching(message(token)))) == 4


def test_audience_keeps_the_order_of_its_members() -> None:
    """The earlier subscribers are written first."""
    index = SubscriptionIndex()
    subscribers = [new_subscriber() for _ in range(20)]
    for subscriber in subscribers:
        index.add(subscriber, "BTC.trade")
    (subscriber_set,) = index.matching(message("BTC"))
    assert list(subscriber_set.members) == subscribers
