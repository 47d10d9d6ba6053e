"""The last message of each channel, for those who begin with the state of things."""

from __future__ import annotations

from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.catalogue import default_catalogue
from odin_ws.history import SnapshotCache
from odin_ws.history.history import retained_bytes
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.steps import finish
from tests.factories import message

CATALOGUE = default_catalogue()
TOKENS = ["BTC", "a.b", "b", "trade"]
CATEGORIES = ["trade", "social"]
PATTERNS = [f"{token}.{category}" for token in (*TOKENS, "*") for category in (*CATEGORIES, "*")]

channels = st.tuples(st.sampled_from(TOKENS), st.sampled_from(CATEGORIES))

MOST = 1 << 62


def last_of(*changes: ChannelMessage, max_bytes: int = 1 << 20) -> SnapshotCache:
    """What is known after these messages."""
    snapshots = SnapshotCache(CATALOGUE, max_bytes)
    for order, one in enumerate(changes, 1):
        one.order = order
        snapshots.remember(one)
    return snapshots


def described(messages: list[ChannelMessage]) -> list[tuple[str, int]]:
    """Channel and offset of each."""
    return [(one.channel, one.record.offset) for one in messages]


@given(
    changes=st.lists(st.tuples(channels, st.integers(0, 2000) | st.none()), max_size=30),
    max_bytes=st.sampled_from([0, 3000, 6000, 1 << 20]),
    patterns=st.sets(st.sampled_from(PATTERNS)),
)
def test_the_newest_of_each_channel_is_known_and_the_longest_unchanged_go_first(
    *,
    changes: list[tuple[tuple[str, str], int | None]],
    max_bytes: int,
    patterns: set[str],
) -> None:
    """As a dict would do it; `None` deletes a channel."""
    snapshots = SnapshotCache(CATALOGUE, max_bytes)
    model: OrderedDict[str, ChannelMessage] = OrderedDict()
    for order, ((token, category), size) in enumerate(changes):
        one = message(token, category, b"x" * (size or 0), offset=order)
        one.order = order
        if size is None:
            snapshots.forget(one.channel)
            model.pop(one.channel, None)
            continue
        snapshots.remember(one)
        model[one.channel] = one
        model.move_to_end(one.channel)
        while sum(map(retained_bytes, model.values())) > max_bytes:
            model.popitem(last=False)
    assert len(snapshots) == len(model)
    assert snapshots.size == sum(map(retained_bytes, model.values()))
    newest = dict.fromkeys(one.token for one in [*reversed(model.values())][:3])
    assert snapshots.newest_tokens(3) == list(newest)
    assert described(finish(snapshots.matching(patterns, MOST))) == [
        (one.channel, one.record.offset)
        for one in model.values()
        if not patterns.isdisjoint(one.patterns)
    ]


def test_a_channel_comes_once_however_many_patterns_match_it() -> None:
    """In the order of the changes, whatever the order of the patterns."""
    snapshots = last_of(
        message("BTC", offset=1),
        message("ETH", offset=2),
        message("BTC", "social", offset=1),
        message("BTC", offset=3),
    )
    found = finish(snapshots.matching(["ETH.trade", "*.trade", "BTC.*", "BTC.trade"], MOST))
    assert described(found) == [("ETH.trade", 2), ("BTC.social", 1), ("BTC.trade", 3)]


def test_one_that_is_larger_than_all_memory_is_not_kept() -> None:
    """It would be alone, and over the limit."""
    snapshots = last_of(message("BTC"), message("ETH", value=b"x" * 5000), max_bytes=5000)
    assert (len(snapshots), snapshots.size) == (0, 0)


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_category_is_forgotten_as_a_whole(category: str) -> None:
    """The others stay, and the size is theirs."""
    snapshots = last_of(*(message(token, one) for token in TOKENS for one in CATEGORIES))
    snapshots.forget_category(category)
    (other,) = set(CATEGORIES) - {category}
    assert [one.category for one in finish(snapshots.matching(["*.*"], MOST))] == [other] * len(
        TOKENS
    )
    assert snapshots.size == sum(map(retained_bytes, finish(snapshots.matching(["*.*"], MOST))))


def test_a_channel_that_changes_again_is_not_the_longest_unchanged() -> None:
    """With room for two a third lets go of the one that has not changed since."""
    first, second, again, third = (message(token) for token in ("BTC", "a.b", "BTC", "b"))
    snapshots = last_of(first, second, again, third, max_bytes=2 * retained_bytes(first) + 500)
    assert [one.token for one in finish(snapshots.matching(["*.*"], MOST))] == ["BTC", "b"]
